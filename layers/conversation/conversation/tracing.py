"""Traces, for the functions whose cold start does not stand between the caller and an answer.

Nothing is patched: the SDK's calls show in the trace through the services' own segments, and patching
every library doubles a cold start. Answers are never captured: they hold names and numbers.
"""

from aws_lambda_powertools import Tracer

tracer = Tracer(auto_patch=False)
