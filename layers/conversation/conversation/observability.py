"""Logs and metrics that every function shares. Neither ever carries a number, a name or an attribute.

The service's name comes from POWERTOOLS_SERVICE_NAME, the namespace of the metrics from
POWERTOOLS_METRICS_NAMESPACE. Whoever counts something makes its own EphemeralMetrics: the shared kind is
not safe when several requests run in one process, as they do in tests.
"""

from aws_lambda_powertools import Logger

logger = Logger()
