"""The companies' credentials, from Secrets Manager; those in memory go on while it cannot be read."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

from conversation import aws
from conversation.errors import SourceUnavailable
from conversation.observability import logger

if TYPE_CHECKING:
    import ssl

_LIFETIME_SECONDS = 300
# How soon a secret is read again that could not be read, or that the company has refused.
_AGAIN_AFTER_SECONDS = 10
# What comes along with a copied credential: white space of any kind, byte-order marks, invisible spaces.
_AROUND_A_CREDENTIAL = re.compile(r"^[\s\ufeff\u200b\u2060]+|[\s\ufeff\u200b\u2060]+$")
_THROTTLED_OR_BROKEN = frozenset({429, *range(500, 600)})
_PASSING = frozenset({
    "InternalFailure", "InternalServiceError", "LimitExceededException", "PriorRequestNotComplete",
    "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "RequestTimeout",
    "RequestTimeoutException", "ServiceUnavailable", "SlowDown", "ThrottledException", "Throttling",
    "ThrottlingException", "TooManyRequestsException",
})  # fmt: skip


# Fields beside those of the company's own; `client_certificate.py` knows what they mean.
TLS_FIELDS = ("clientCertificate", "clientKey", "caCertificate")


class Credentials[Secret: NamedTuple](NamedTuple):
    """What a company's secret holds: its own fields, and TLS settings if it has any."""

    secret: Secret
    tls: ssl.SSLContext | None = None


@dataclass
class _Known:
    credentials: Credentials[NamedTuple]
    read_at: float
    read_again_at: float


# By source and secret, for the life of the execution environment.
_known: dict[tuple[str, str], _Known] = {}


def forget() -> None:
    """Know as much as a new execution environment does."""
    _known.clear()


async def read[Secret: NamedTuple](
    source: str, secret_id: str, secret_type: type[Secret], *, refused: bool = False
) -> Credentials[Secret]:
    """Read a company's credentials: from memory for five minutes, then from Secrets Manager.

        secret, tls = await read("alpha", "arn:aws:secretsmanager:…", alpha.Secret)

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
            return cast("Credentials[Secret]", known.credentials)
        # Before the call, which the lookup's time may cut off: those that follow have the last value at once.
        known.read_again_at = max(known.read_again_at, now + _AGAIN_AFTER_SECONDS)
    try:
        text = await asyncio.to_thread(_get, secret_id)
    except (ClientError, BotoCoreError) as error:
        if known is not None and _passes(error):
            logger.warning("the secret cannot be read; the last value goes on", reason=aws.reason(error))
            return cast("Credentials[Secret]", known.credentials)
        _known.pop((source, secret_id), None)
        raise SourceUnavailable(f"the secret of {source} cannot be read") from error
    try:
        credentials = await asyncio.to_thread(_understand, source, text, secret_type)
    except SourceUnavailable:
        previous = await asyncio.to_thread(_previous, source, secret_id, secret_type)
        if previous is None:
            _known.pop((source, secret_id), None)
            raise
        credentials = previous
    _known[source, secret_id] = _Known(
        cast("Credentials[NamedTuple]", credentials), now, now + _LIFETIME_SECONDS
    )
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


def _understand[Secret: NamedTuple](source: str, text: str, secret_type: type[Secret]) -> Credentials[Secret]:
    """Make credentials of a secret's value. Raises SourceUnavailable when it does not hold what it should."""
    secret = parse(text, secret_type)
    if secret is None:
        fields = ", ".join(secret_type._fields)
        raise SourceUnavailable(f"fill the secret of {source} with a JSON object of {fields}") from None
    document = json.loads(text)
    settings = {name: document[name] for name in TLS_FIELDS if document.get(name)}
    if not settings:
        return Credentials(secret)
    from conversation.sources import client_certificate  # noqa: PLC0415 - for companies that want one

    try:
        return Credentials(secret, client_certificate.context_of(settings))
    except client_certificate.Unusable as error:
        raise SourceUnavailable(f"{source} was not asked: fill its secret again, {error}") from None


def parse[Secret: NamedTuple](text: str, secret_type: type[Secret]) -> Secret | None:
    """Read a secret's value: a JSON object with a text for each field, and None when it is not that.

        parse('{"apiKey": " abc\\n"}', alpha.Secret)   # Secret(apiKey="abc")

    Further fields may hold anything. White space around a text does not belong to it; an empty one is none.
    """
    try:
        document = json.loads(text)
        values = [_AROUND_A_CREDENTIAL.sub("", document[field]) for field in secret_type._fields]
        "".join(values).encode()  # an escaped half of a surrogate pair is not a character
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return secret_type._make(values) if all(values) else None


def _previous[Secret: NamedTuple](
    source: str, secret_id: str, secret_type: type[Secret]
) -> Credentials[Secret] | None:
    """Return what the secret held before its current value, if that is what it should be."""
    try:
        previous = _understand(source, _get(secret_id, "AWSPREVIOUS"), secret_type)
    except (ClientError, BotoCoreError, SourceUnavailable):
        return None
    logger.error("the secret's current value is invalid; the one before it goes on")
    return previous


def _passes(error: ClientError | BotoCoreError) -> bool:
    """Tell whether a failure is one of the moment, and not an answer that this secret may not be read."""
    if not isinstance(error, ClientError):
        return isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError)
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status in _THROTTLED_OR_BROKEN or error.response["Error"]["Code"] in _PASSING
