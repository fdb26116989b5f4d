"""What is sent to be let in, from Secrets Manager; what is in memory goes on while it cannot be read.

A secret's current value may be wrong, or not be taken yet: then the one before it (AWSPREVIOUS) is tried. So
nobody is turned away while credentials are being replaced.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

from conversation import aws
from conversation.errors import SecretUnavailable
from conversation.observability import logger

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

CURRENT: Final = "AWSCURRENT"
PREVIOUS: Final = "AWSPREVIOUS"
_LIFETIME_SECONDS = 300
# How soon a secret is read again that could not be read, or whose values have been refused.
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


# Fields beside the owner's own; `client_certificate.py` knows what they mean.
_TLS_FIELDS = ("clientCertificate", "clientKey", "caCertificate")


class Credentials[Secret: NamedTuple](NamedTuple):
    """What a secret holds: its owner's own fields, and TLS settings if it has any."""

    secret: Secret
    tls: ssl.SSLContext | None = None


class _Version(NamedTuple):
    """One of a secret's values, and the label that Secrets Manager has on it."""

    credentials: Credentials[NamedTuple]
    stage: str


@dataclass
class _Known:
    """What is in use, then what there is besides."""

    versions: list[_Version]
    read_again_at: float
    ask_again_at: float = 0.0  # after a refusal

    def other_than(self, refused: Credentials[NamedTuple]) -> _Version | None:
        return next((one for one in self.versions if one.credentials != refused), None)

    def prefer(self, one: _Version) -> None:
        self.versions.sort(key=lambda version: version != one)

    def drop(self, one: _Version) -> None:
        self.versions = [version for version in self.versions if version != one] or [one]


# By owner and secret, for the life of the execution environment.
_known: dict[tuple[str, str], _Known] = {}


def forget() -> None:
    """Know as much as a new execution environment does."""
    _known.clear()


async def use[Secret: NamedTuple, Result](
    owner: str,
    secret_id: str,
    secret_type: type[Secret],
    work: Callable[[Credentials[Secret]], Awaitable[Result]],
    refused: type[Exception],
) -> Result:
    """Do what needs credentials; when they are refused, once more with others, if the secret has any.

        await use("alpha", "arn:aws:secretsmanager:…", alpha.Secret, ask, CredentialsRefused)

    `refused` is what `work` raises when the other side does not take the credentials. Then the secret is read
    again, but for every ten seconds; what is tried next is its current value or, if that is what was refused,
    the one before it. Whichever was taken is used until the secret is read anew. Raises what `work` raises,
    and what `read` does.
    """
    in_use = (await _look(owner, secret_id, secret_type)).versions[0]
    try:
        return await work(cast("Credentials[Secret]", in_use.credentials))
    except refused:
        known = await _after_refusal(owner, secret_id, secret_type, in_use.credentials)
        other = known.other_than(in_use.credentials)
        if other is None:
            raise
    try:
        result = await work(cast("Credentials[Secret]", other.credentials))
    except refused:
        known.drop(other)
        raise
    known.prefer(other)
    return result


def is_previous(owner: str, secret_id: str) -> bool:
    """Tell whether the value in use is the one before the current one, which is invalid or refused."""
    known = _known.get((owner, secret_id))
    return known is not None and known.versions[0].stage == PREVIOUS


async def read[Secret: NamedTuple](
    owner: str, secret_id: str, secret_type: type[Secret]
) -> Credentials[Secret]:
    """Read somebody's credentials: from memory for five minutes, then from Secrets Manager.

        secret, tls = await read("alpha", "arn:aws:secretsmanager:…", alpha.Secret)

    While Secrets Manager fails in a way that passes, the last value goes on. An invalid value, such as one
    with a comma too many, leaves the one before it in use. Raises SecretUnavailable when there is none, when
    reading is not allowed, or when the secret does not hold what it should.
    """
    known = await _look(owner, secret_id, secret_type)
    return cast("Credentials[Secret]", known.versions[0].credentials)


async def _look(owner: str, secret_id: str, secret_type: type[NamedTuple]) -> _Known:
    known = _known.get((owner, secret_id))
    if known is not None and time.monotonic() < known.read_again_at:
        return known
    return await _fetch(owner, secret_id, secret_type)


async def _after_refusal(
    owner: str, secret_id: str, secret_type: type[NamedTuple], refused: Credentials[NamedTuple]
) -> _Known:
    known = _known.get((owner, secret_id))
    now = time.monotonic()
    if known is not None and now < known.ask_again_at:
        return known
    known = await _fetch(owner, secret_id, secret_type, refused)
    known.ask_again_at = now + _AGAIN_AFTER_SECONDS
    return known


async def _fetch(
    owner: str,
    secret_id: str,
    secret_type: type[NamedTuple],
    refused: Credentials[NamedTuple] | None = None,
) -> _Known:
    """Read the current value, and the one before it where the current one is invalid or was refused."""
    known = _known.get((owner, secret_id))
    now = time.monotonic()
    if known is not None:
        # Before the call, which its caller's time may cut off: those that follow have the last value at once.
        known.read_again_at = max(known.read_again_at, now + _AGAIN_AFTER_SECONDS)
    try:
        text = await asyncio.to_thread(_get, secret_id)
    except (ClientError, BotoCoreError) as error:
        if known is not None and _passes(error):
            logger.warning("the secret cannot be read; the last value goes on", reason=aws.reason(error))
            return known
        _known.pop((owner, secret_id), None)
        raise SecretUnavailable(f"the secret of {owner} cannot be read") from error
    try:
        current = await asyncio.to_thread(_understand, owner, text, secret_type)
    except SecretUnavailable:
        previous = await asyncio.to_thread(_previous, owner, secret_id, secret_type)
        if previous is None:
            _known.pop((owner, secret_id), None)
            raise
        logger.error("the secret's current value is invalid; the one before it goes on", secret_of=owner)
        versions = [_Version(previous, PREVIOUS)]
    else:
        versions = [_Version(current, CURRENT)]
        if current == refused:
            previous = await asyncio.to_thread(_previous, owner, secret_id, secret_type)
            if previous is not None and previous != current:
                logger.error(
                    "the secret's current value was refused; the one before it is tried", secret_of=owner
                )
                versions.append(_Version(previous, PREVIOUS))
    _known[owner, secret_id] = known = _Known(versions, now + _LIFETIME_SECONDS)
    return known


def _get(secret_id: str, stage: str = CURRENT) -> str:
    """Return a secret's value, "" when it has none yet."""
    try:
        answer = aws.secrets_manager().get_secret_value(SecretId=secret_id, VersionStage=stage)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return ""
        raise
    text = answer.get("SecretString") or answer.get("SecretBinary", b"").decode(errors="replace")
    return text.removeprefix("\ufeff")


def _understand[Secret: NamedTuple](owner: str, text: str, secret_type: type[Secret]) -> Credentials[Secret]:
    """Make credentials of a secret's value. Raises SecretUnavailable when it does not hold what it should."""
    secret = parse(text, secret_type)
    if secret is None:
        fields = ", ".join(secret_type._fields)
        raise SecretUnavailable(f"fill the secret of {owner} with a JSON object of {fields}")
    settings = tls_settings(json.loads(text))
    if not settings:
        return Credentials(secret)
    from conversation import client_certificate  # noqa: PLC0415 - for those that want one

    try:
        return Credentials(secret, client_certificate.context_of(settings))
    except client_certificate.Unusable as error:
        raise SecretUnavailable(f"{owner} was not asked: fill its secret again, {error}") from None


def tls_settings(document: Mapping[str, object]) -> dict[str, object]:
    """The fields of a secret that say which certificate to show, and whom to trust; mostly none."""
    return {name: document[name] for name in _TLS_FIELDS if document.get(name)}


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
    owner: str, secret_id: str, secret_type: type[Secret]
) -> Credentials[Secret] | None:
    """Return what the secret held before its current value, if that is what it should be."""
    try:
        return _understand(owner, _get(secret_id, PREVIOUS), secret_type)
    except (ClientError, BotoCoreError, SecretUnavailable):
        return None


def _passes(error: ClientError | BotoCoreError) -> bool:
    """Tell whether a failure is one of the moment, and not an answer that this secret may not be read."""
    if not isinstance(error, ClientError):
        return isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError)
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status in _THROTTLED_OR_BROKEN or error.response["Error"]["Code"] in _PASSING
