"""What libraries log by themselves goes nowhere: it holds URLs with callers' numbers, secrets and tokens.

httpx and its successor log whole URLs at INFO, httpcore headers at DEBUG, botocore the bodies of requests and
answers, Secrets Manager's among them. A level alone does not keep that out: whoever sets the level of a
logger further down (`httpcore.http11`, `botocore.parsers`) has it back. So their records do not leave the
library; a warning or worse goes to standard error, where Python sends what has no handler.
"""

import logging

LIBRARIES = (
    "asyncio", "aws_xray_sdk", "boto3", "botocore", "h11", "h2", "hpack", "httpcore", "httpcore2", "httpx",
    "httpx2", "urllib3",
)  # fmt: skip


def silence() -> None:
    """Keep the libraries' records below WARNING out of every log, whatever level is set where."""
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
