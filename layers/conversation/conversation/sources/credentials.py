"""The companies' credentials, from Secrets Manager; those in memory go on while it cannot be read."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from conversation import aws
from conversation.errors import SourceUnavailable
from conversation.observability import logger

if TYPE_CHECKING:
    from conversation.sources.client import Credentials

_LIFETIME_SECONDS = 300
# How soon a secret is read again that could not be read, or that the company has refused.
_AGAIN_AFTER_SECONDS = 10
_THROTTLED_OR_BROKEN = frozenset({429, *range(500, 600)})
_PASSING = frozenset({
    "InternalFailure", "InternalServiceError", "LimitExceededException", "PriorRequestNotComplete",
    "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "RequestTimeout",
    "RequestTimeoutException", "ServiceUnavailable", "SlowDown", "ThrottledException", "Throttling",
    "ThrottlingException", "TooManyRequestsException",
})  # fmt: skip


@dataclass
class _Known:
    credentials: Credentials
    read_at: float
    read_again_at: float


# By source and secret, for the life of the execution environment.
_known: dict[tuple[str, str], _Known] = {}


def forget() -> None:
    """Know as much as a new execution environment does."""
    _known.clear()


async def read[Secret: Credentials](
    source: str, secret_id: str, secret_type: type[Secret], *, refused: bool = False
) -> Secret:
    """Read a company's credentials: from memory for five minutes, then from Secrets Manager.

        secret = await read("alpha", "arn:aws:secretsmanager:…", alpha.Secret)

    `refused` asks for a look at Secrets Manager before the five minutes are over, but for every ten seconds.
    While Secrets Manager fails in a way that passes, the last value goes on. An invalid value, such as one
    with a comma too many, leaves the one before it in use. Raises SourceUnavailable when there is none, when
    reading is not allowed, or when the secret does not hold what it should.
    """
    known = _known.get((source, secret_id))
    now = time.monotonic()
    if known is not None:
        fresh_until = known.read_at + _AGAIN_AFTER_SECONDS if refused else known.read_again_at
        if now < fresh_until:
            return cast("Secret", known.credentials)
        # Before the call, which the lookup's time may cut off: those that follow have the last value at once.
        known.read_again_at = max(known.read_again_at, now + _AGAIN_AFTER_SECONDS)
    try:
        text = await asyncio.to_thread(_get, secret_id)
    except (ClientError, BotoCoreError) as error:
        if known is not None and _passes(error):
            logger.warning("the secret cannot be read; the last value goes on", reason=aws.reason(error))
            return cast("Secret", known.credentials)
        _known.pop((source, secret_id), None)
        raise SourceUnavailable(f"the secret of {source} cannot be read") from error
    credentials = _parse(text, secret_type) or await asyncio.to_thread(_previous, secret_id, secret_type)
    if credentials is None:
        _known.pop((source, secret_id), None)
        fields = ", ".join(secret_type.model_fields)
        raise SourceUnavailable(f"fill the secret of {source} with a JSON object of {fields}") from None
    _known[source, secret_id] = _Known(credentials, now, now + _LIFETIME_SECONDS)
    return credentials


def _get(secret_id: str, stage: str = "AWSCURRENT") -> str:
    """Return a secret's value, "" when it has none yet."""
    try:
        answer = aws.secrets_manager().get_secret_value(SecretId=secret_id, VersionStage=stage)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return ""
        raise
    text = answer.get("SecretString") or answer.get("SecretBinary", b"").decode(errors="replace")
    return text.removeprefix("\ufeff")


def _parse[Secret: Credentials](text: str, secret_type: type[Secret]) -> Secret | None:
    try:
        return secret_type.model_validate_json(text)
    except ValidationError:
        return None


def _previous[Secret: Credentials](secret_id: str, secret_type: type[Secret]) -> Secret | None:
    """Return what the secret held before its current value, if that is what it should be."""
    try:
        previous = _parse(_get(secret_id, "AWSPREVIOUS"), secret_type)
    except (ClientError, BotoCoreError):
        return None
    if previous is not None:
        logger.error("the secret's current value is invalid; the one before it goes on")
    return previous


def _passes(error: ClientError | BotoCoreError) -> bool:
    """Tell whether a failure is one of the moment, and not an answer that this secret may not be read."""
    if not isinstance(error, ClientError):
        return isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError)
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status in _THROTTLED_OR_BROKEN or error.response["Error"]["Code"] in _PASSING
