"""Clients for AWS, made once per execution environment, with time-outs that fit inside a telephone call.

botocore is used directly: `boto3.client` costs another 30 ms of every cold start and adds nothing here. All
clients come from one session: each further session would read botocore's data files again, for 50 ms of a
core. On Lambda a client is made where its function is imported (`conversation.cold_start`), elsewhere at the
first call, so that importing a function touches neither credentials nor the network.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader
from botocore.session import get_session

from conversation import certificates, idle, library_logs, timestamps

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.session import Session
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
# Two tries, and what the SDK waits between them at the most.
CALL_SECONDS = 2 * (_CONNECT_SECONDS + _READ_SECONDS) + 1
# StartExecution of an Express machine is not idempotent, so the SDK does not repeat it; and 503 with
# Retry-After, which the IVR repeats, is better than a start that takes longer than its claim lasts. It is
# repeated in one case, which its caller sees to: a kept connection was closed before any answer came. That is
# noticed at once or not at all, so that half a second for it and a whole try after it make the 2.5 s.
# Connecting has half a second: a first packet that is lost is sent again after a whole one (RFC 6298), in
# either case too late.
_START_CONNECT_SECONDS = 0.5
_START_CONFIG = CONFIG.merge(
    Config(connect_timeout=_START_CONNECT_SECONDS, retries={"total_max_attempts": 1, "mode": "standard"})
)
CLOSED_WITHIN_SECONDS = 0.5
STEP_FUNCTIONS_SECONDS = CLOSED_WITHIN_SECONDS + _START_CONNECT_SECONDS + _READ_SECONDS


def reason(error: ClientError | BotoCoreError) -> str:
    """Name what went wrong, such as `ThrottlingException` or `ReadTimeoutError`, for a log."""
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__


def connect(client: DynamoDBClient, table: str, key: str) -> None:
    """Read an item that is not there, so that the next call finds its connection and all it needs prepared.

        connect(dynamodb(), "Conversations", "conversationId")

    30 to 80 ms of a core at the first TLS connection, most of it for certificates; one read unit. Whatever
    fails will fail again, for whoever needs an answer.
    """
    with suppress(ClientError, BotoCoreError):
        client.get_item(TableName=table, Key={key: {"S": "-"}}, ProjectionExpression=key)


def make_client(service: str, config: Config = CONFIG) -> Any:
    """Make a client of the environment's session that trusts no connection for long.

    make_client("dynamodb", CONFIG.merge(Config(read_timeout=0.7)))
    """
    session = _session()
    with _making, certificates.read_once(session.get_config_variable("ca_bundle")):
        client: BaseClient = session.create_client(service, config=config)
    used_at = timestamps.now()

    def drop_what_was_idle(**_request: object) -> None:
        nonlocal used_at
        if not idle.is_trusted(used_at):
            client.close()
        used_at = timestamps.now()

    client.meta.events.register("request-created", drop_what_was_idle)
    return client


# A session makes one client at a time.
_making = threading.Lock()


@cache
def _session() -> Session:
    session = get_session()
    session.register_component("data_loader", _OwnServices())
    return session


class _OwnServices(Loader):
    """Knows which services are called here, where botocore looks into the folders of all four hundred."""

    def list_available_services(self, type_name: str) -> list[str]:
        del type_name
        return ["dynamodb", "scheduler", "secretsmanager", "sqs", "stepfunctions"]


@cache
def dynamodb() -> DynamoDBClient:
    """Return the DynamoDB client of this execution environment."""
    return cast("DynamoDBClient", make_client("dynamodb"))


@cache
def step_functions() -> SFNClient:
    """Return the Step Functions client of this execution environment."""
    return cast("SFNClient", make_client("stepfunctions", _START_CONFIG))


@cache
def secrets_manager() -> SecretsManagerClient:
    """Return the Secrets Manager client of this execution environment."""
    return cast("SecretsManagerClient", make_client("secretsmanager"))


@cache
def sqs() -> SQSClient:
    """Return the SQS client of this execution environment."""
    return cast("SQSClient", make_client("sqs"))


@cache
def schedules() -> EventBridgeSchedulerClient:
    """Return the EventBridge Scheduler client of this execution environment."""
    return cast("EventBridgeSchedulerClient", make_client("scheduler"))
