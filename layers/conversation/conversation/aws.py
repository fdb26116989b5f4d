"""Clients for AWS, made once per execution environment, with time-outs that fit inside a telephone call.

botocore is used directly: `boto3.client` costs another 30 ms of every cold start and adds nothing here.
A client is made at the first call, not at import, so that importing a function touches no credentials.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from conversation import library_logs

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

library_logs.silence()

_CONNECT_SECONDS = 1.0
_READ_SECONDS = 1.5

# One try takes at most 2.5 s and there are two: 5 s in all, where botocore's own default is two minutes.
CONFIG = Config(
    connect_timeout=_CONNECT_SECONDS,
    read_timeout=_READ_SECONDS,
    retries={"total_max_attempts": 2, "mode": "standard"},
    max_pool_connections=50,
)
# StartExecution of an Express machine is not idempotent, so the SDK does not repeat it; and 503 with
# Retry-After, which the IVR repeats, is better than a start that takes longer than its claim lasts.
_START_CONFIG = CONFIG.merge(Config(retries={"total_max_attempts": 1, "mode": "standard"}))
STEP_FUNCTIONS_SECONDS = _CONNECT_SECONDS + _READ_SECONDS


def reason(error: ClientError | BotoCoreError) -> str:
    """Name what went wrong, such as `ThrottlingException` or `ReadTimeoutError`, for a log."""
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__


@cache
def dynamodb() -> DynamoDBClient:
    """Return the DynamoDB client of this execution environment."""
    return cast("DynamoDBClient", botocore.session.get_session().create_client("dynamodb", config=CONFIG))


@cache
def step_functions() -> SFNClient:
    """Return the Step Functions client of this execution environment."""
    client = botocore.session.get_session().create_client("stepfunctions", config=_START_CONFIG)
    return cast("SFNClient", client)


@cache
def secrets_manager() -> SecretsManagerClient:
    """Return the Secrets Manager client of this execution environment."""
    client = botocore.session.get_session().create_client("secretsmanager", config=CONFIG)
    return cast("SecretsManagerClient", client)


@cache
def sqs() -> SQSClient:
    """Return the SQS client of this execution environment."""
    return cast("SQSClient", botocore.session.get_session().create_client("sqs", config=CONFIG))


@cache
def schedules() -> EventBridgeSchedulerClient:
    """Return the EventBridge Scheduler client of this execution environment."""
    client = botocore.session.get_session().create_client("scheduler", config=CONFIG)
    return cast("EventBridgeSchedulerClient", client)
