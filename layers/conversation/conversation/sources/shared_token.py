"""One token for all execution environments of a function, as some issuers keep one live token per client.

An environment that has none reads the table; when the table has none either, exactly one environment asks the
issuer, under a claim that runs out by itself, and the others wait for what it gets.

It is a DynamoDB table and not a secret: a claim is a conditional write, which Secrets Manager does not have,
and Secrets Manager wants no more than one write in ten minutes. A token is a credential that lives for
minutes; the table is encrypted, has neither streams nor backups, and one function's role alone may read it.
"""

from __future__ import annotations

import asyncio
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from conversation import aws, settings, timestamps
from conversation.errors import SourceUnavailable
from conversation.observability import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mypy_boto3_dynamodb import DynamoDBClient

    from conversation.sources.client import SourceClient

# Who renews has that long; after that it counts as dead, and another one renews.
_CLAIM_SECONDS = 3.0
_POLL_SECONDS = 0.1
# The table is a help and no condition: what takes longer is done without it.
_STORE_SECONDS = 2.0
_CONFIG = Config(connect_timeout=0.5, read_timeout=0.7, retries={"total_max_attempts": 2, "mode": "standard"})
_KEPT_BEYOND_ITS_LIFE_SECONDS = 3600


class Token(NamedTuple):
    """A token and the moment (POSIX seconds) until which it may be used.

    `version` names this grant, as an issuer may grant the same text twice; empty for one that is not shared.
    `is_new` tells whether it was asked for just now.
    """

    text: str
    valid_until: float
    version: str = ""
    is_new: bool = False


class _StoreFailed(Exception):
    """The table did not do it. The message is the reason's name."""


class _Item(NamedTuple):
    """What the table holds: the last token, if any, and until when somebody renews it."""

    token: Token | None
    renewed_until: float

    @property
    def version(self) -> str:
        return self.token.version if self.token else ""


def connect() -> None:
    """Make the connection that the first lookup would wait for, if tokens are shared here."""
    table = settings.optional_text("TOKEN_TABLE")
    if table:
        aws.connect(_dynamodb(), table, "source")


async def get(
    client: SourceClient, key: str, dead: Token | None, issue: Callable[[], Awaitable[Token]]
) -> Token:
    """Return the token that all environments share, but not the dead one; `issue` gets another.

        token = await get(client, "gamma:3b5d…", None, issue)

    `key` names the client at the issuer. One read when the table has a token, a read and two writes when it
    has none. It takes until the token is there, so bound the time. When the table fails the token is the
    caller's own. Raises what `issue` raises.
    """
    me = uuid.uuid4().hex
    try:
        item = await _read(client, key)
        while True:
            now = timestamps.now().timestamp()
            if item.token and now < item.token.valid_until and not _is_same(item.token, dead):
                return item.token
            if now < item.renewed_until:
                await asyncio.sleep(_POLL_SECONDS)
                item = await _read(client, key)
                continue
            other = await _claim(client, key, item.version, me)
            if other is None:
                break
            item = other
    except _StoreFailed as error:
        _report(client, error)
        return await issue()
    return await _renew(client, key, me, issue)


def _is_same(token: Token, dead: Token | None) -> bool:
    return dead is not None and (token.version == dead.version or token.text == dead.text)


async def _renew(client: SourceClient, key: str, me: str, issue: Callable[[], Awaitable[Token]]) -> Token:
    try:
        token = (await issue())._replace(version=me)
    except SourceUnavailable:
        try:
            claim = {"renewer", "renewUntil"}
            await _update(client, key, me, "REMOVE #renewer, #renewUntil", names=claim, values={})
        except _StoreFailed as error:
            _report(client, error)
        raise
    values = {
        "token": {"S": token.text},
        "validUntil": {"N": f"{token.valid_until:.3f}"},
        "version": {"S": me},
        "expiresAt": {"N": str(int(token.valid_until) + _KEPT_BEYOND_ITS_LIFE_SECONDS)},
    }
    change = f"SET {', '.join(f'#{name} = :{name}' for name in values)} REMOVE #renewer, #renewUntil"
    try:
        names = {*values, "renewer", "renewUntil"}
        other = await _update(client, key, me, change, names=names, values=values)
    except _StoreFailed as error:
        _report(client, error)
        return token._replace(version="")
    # It took so long that another one has renewed it since: that token is the one that lives.
    if other is not None and other.token and timestamps.now().timestamp() < other.token.valid_until:
        return other.token
    return token


def _report(client: SourceClient, error: _StoreFailed) -> None:
    client.counted["LookupTokenStoreUnavailable"] += 1
    logger.warning("the shared token cannot be used", source=client.source, reason=str(error))


# --- the table -------------------------------------------------------------------------------------------


@cache
def _dynamodb() -> DynamoDBClient:
    return cast("DynamoDBClient", aws.make_client("dynamodb", _CONFIG))


async def _read(client: SourceClient, key: str) -> _Item:
    return _item((await _call("get_item", client, key, ConsistentRead=True)).get("Item", {}))


async def _claim(client: SourceClient, key: str, seen: str, me: str) -> _Item | None:
    """Begin to renew: None when this environment may, else what the table holds.

    The condition is on the token that was seen, so that nobody renews what has just been renewed.
    """
    now = timestamps.now().timestamp()
    same = "#version = :seen" if seen else "attribute_not_exists(#version)"
    return await _write(
        client,
        key,
        UpdateExpression=(
            "SET #renewer = :me, #renewUntil = :until, #expiresAt = if_not_exists(#expiresAt, :ttl)"
        ),
        ConditionExpression=f"(attribute_not_exists(#renewUntil) OR #renewUntil < :now) AND {same}",
        ExpressionAttributeNames=_names("renewer", "renewUntil", "expiresAt", "version"),
        ExpressionAttributeValues={
            ":me": {"S": me},
            ":until": {"N": f"{now + _CLAIM_SECONDS:.3f}"},
            ":now": {"N": f"{now:.3f}"},
            ":ttl": {"N": str(int(now) + _KEPT_BEYOND_ITS_LIFE_SECONDS)},
            **({":seen": {"S": seen}} if seen else {}),
        },
    )


async def _update(
    client: SourceClient, key: str, me: str, change: str, *, names: set[str], values: dict[str, Any]
) -> _Item | None:
    """End a claim: None when it still was this environment's, else what the table holds."""
    return await _write(
        client,
        key,
        UpdateExpression=change,
        ConditionExpression="#renewer = :me",
        ExpressionAttributeNames=_names(*names),
        ExpressionAttributeValues={":me": {"S": me}, **{f":{name}": value for name, value in values.items()}},
    )


async def _write(client: SourceClient, key: str, **arguments: Any) -> _Item | None:
    try:
        await _call("update_item", client, key, ReturnValuesOnConditionCheckFailure="ALL_OLD", **arguments)
    except _ConditionFailed as failed:
        # Without an item when TTL has deleted it since.
        return _item(failed.item) if failed.item else await _read(client, key)
    return None


class _ConditionFailed(Exception):
    def __init__(self, item: dict[str, Any]) -> None:
        super().__init__()
        self.item = item


async def _call(operation: str, client: SourceClient, key: str, **arguments: Any) -> dict[str, Any]:
    def call() -> dict[str, Any]:
        answer: dict[str, Any] = getattr(_dynamodb(), operation)(
            TableName=client.token_table, Key={"source": {"S": key}}, **arguments
        )
        return answer

    try:
        async with asyncio.timeout(_STORE_SECONDS):
            return await asyncio.to_thread(call)
    except TimeoutError:
        raise _StoreFailed("TimeoutError") from None
    except ClientError as error:
        if aws.reason(error) == "ConditionalCheckFailedException":
            raise _ConditionFailed(cast("dict[str, Any]", error.response.get("Item", {}))) from None
        raise _StoreFailed(aws.reason(error)) from None
    except BotoCoreError as error:
        raise _StoreFailed(aws.reason(error)) from None


def _names(*names: str) -> dict[str, str]:
    return {f"#{name}": name for name in names}


def _item(item: dict[str, Any]) -> _Item:
    token = None
    if "token" in item:
        token = Token(item["token"]["S"], float(item["validUntil"]["N"]), item["version"]["S"])
    return _Item(token, float(item.get("renewUntil", {"N": "0"})["N"]))
