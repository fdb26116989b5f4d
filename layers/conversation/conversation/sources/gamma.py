"""gamma: OAuth 2 client credentials, then `GET /people/<E.164>` answers one person, or 404 when unknown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from conversation.sources.client import Answer
from conversation.sources.identity import Identity, is_same_number

if TYPE_CHECKING:
    from conversation.sources.client import HttpAnswer, SourceClient

_UNKNOWN = 404
_TOKEN_DIED = 401
# A token is given up this long before it expires, so that it does not die on the way.
_EXPIRY_MARGIN_SECONDS = 30
_DEFAULT_LIFETIME_SECONDS = 300
_MAXIMUM_LIFETIME_SECONDS = 24 * 60 * 60


class Secret(Answer):
    """The credentials in Secrets Manager."""

    clientId: str  # noqa: N815 - the secret's own name
    clientSecret: str  # noqa: N815


class TokenAnswer(Answer):
    """What `POST /oauth/token` answers; `expires_in` is in seconds."""

    access_token: str
    expires_in: int = _DEFAULT_LIFETIME_SECONDS


class Person(Answer):
    """The answer."""

    personId: str  # noqa: N815 - gamma's own name
    phone: str
    fullName: str  # noqa: N815
    segment: str


class _Token(NamedTuple):
    text: str
    valid_until: float


# Tokens by credentials, for the life of the execution environment.
_tokens: dict[Secret, _Token] = {}


async def look_up(client: SourceClient, secret: Secret, number: str) -> Identity | None:
    """Ask gamma who has this number (E.164); None when gamma knows nobody. Raises SourceUnavailable."""
    answer = await _get_person(client, await _token(client, secret), number)
    if answer.status == _TOKEN_DIED:
        _tokens.pop(secret, None)
        answer = await _get_person(client, await _token(client, secret), number)
    if answer.status == _UNKNOWN:
        return None
    person = client.parse(answer, Person)
    if not is_same_number(person.phone, number):
        return None
    first_name, _, last_name = person.fullName.strip().partition(" ")
    return Identity(client.source, person.personId, first_name, last_name.strip(), person.segment)


async def _get_person(client: SourceClient, token: str, number: str) -> HttpAnswer:
    return await client.request(
        "GET", f"/people/{quote(number, safe='+')}", headers={"Authorization": f"Bearer {token}"}
    )


async def _token(client: SourceClient, secret: Secret) -> str:
    known = _tokens.get(secret)
    if known is not None and time.monotonic() < known.valid_until:
        return known.text
    answer = await client.request(
        "POST",
        "/oauth/token",
        form={"grant_type": "client_credentials"},
        auth=(secret.clientId, secret.clientSecret),
    )
    granted = client.parse(answer, TokenAnswer)
    lifetime = min(max(0, granted.expires_in - _EXPIRY_MARGIN_SECONDS), _MAXIMUM_LIFETIME_SECONDS)
    _tokens[secret] = _Token(granted.access_token, time.monotonic() + lifetime)
    return granted.access_token
