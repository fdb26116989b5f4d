"""gamma: OAuth 2 client credentials, then `GET /people/<E.164>` answers one person, or 404 when unknown."""

from __future__ import annotations

import hashlib
import json
import re
import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, quote_plus

from conversation import timestamps
from conversation.cold_start import prepare
from conversation.sources import shared_token
from conversation.sources.advisory import whole_number
from conversation.sources.records import Customer, find_caller
from conversation.sources.shared_token import Token

if TYPE_CHECKING:
    from conversation.http_client import HttpAnswer
    from conversation.sources.client import SourceClient
    from conversation.sources.identity import Identity
    from conversation.sources.records import Record

prepare(shared_token.connect)

# A token is given up this long before it expires, so that it does not die on the way.
_EXPIRY_MARGIN_SECONDS = 30
_DEFAULT_LIFETIME_SECONDS = 300
_MAX_LIFETIME_SECONDS = 24 * 60 * 60
_SENDABLE_TOKEN = re.compile(r"[!-~]{1,16384}")


class Secret(NamedTuple):
    """The credentials in Secrets Manager."""

    clientId: str  # noqa: N815 - the secret's own name
    clientSecret: str  # noqa: N815


class _Kept(NamedTuple):
    token: Token
    valid_until: float  # by the clock that nobody sets


# Tokens by credentials, for the life of the execution environment.
_tokens: dict[Secret, _Kept] = {}
# The clients whose credentials gamma takes as they are, and not as RFC 6749 has them encoded.
_raw_clients: set[Secret] = set()


def forget() -> None:
    """Know as much as a new execution environment does."""
    _tokens.clear()
    _raw_clients.clear()


async def look_up(client: SourceClient, secret: Secret, number: str) -> Identity | None:
    """Ask gamma who has this number (E.164); None when gamma knows nobody. Raises SourceUnavailable."""
    token = await _token(client, secret)
    answer = await _get_person(client, token, number)
    # A token that died is replaced by the one that all share by now, and that one by a new one.
    for _ in range(2):
        if answer.status != HTTPStatus.UNAUTHORIZED:
            break
        token = await _token(client, secret, dead=token)
        answer = await _get_person(client, token, number)
        if token.is_new:
            break
    if answer.status == HTTPStatus.NOT_FOUND and _is_gammas_own(answer):
        return None
    return find_caller(client, number, [("", client.read_json(answer))], "phone", _read)


def _is_gammas_own(answer: HttpAnswer) -> bool:
    """Tell gamma's 404, which is JSON, from the page of a proxy or of nobody."""
    try:
        return isinstance(answer.json(), dict | list)
    except ValueError:
        return False


def _read(record: Record) -> Customer:
    first_name, _, last_name = record.text("fullName").partition(" ")
    return Customer(record.id("personId"), first_name, last_name, record.segment("segment"))


async def _get_person(client: SourceClient, token: Token, number: str) -> HttpAnswer:
    return await client.request(
        "GET", f"/people/{quote(number, safe='+')}", headers={"Authorization": f"Bearer {token.text}"}
    )


async def _token(client: SourceClient, secret: Secret, dead: Token | None = None) -> Token:
    known = _tokens.get(secret)
    if known is not None and time.monotonic() < known.valid_until and known.token != dead:
        return known.token
    _tokens.pop(secret, None)
    issue = partial(_issue, client, secret)
    if client.token_table:
        token = await shared_token.get(client, _key(client, secret), dead, issue)
    else:
        token = await issue()
    lifetime = token.valid_until - timestamps.now().timestamp()
    _tokens[secret] = _Kept(token, time.monotonic() + lifetime)
    return token


def _key(client: SourceClient, secret: Secret) -> str:
    """Name the client at the issuer, so that no replaced secret and no other gamma gets this one's token."""
    named = json.dumps([client.base_url, secret.clientId, secret.clientSecret])
    return f"{client.source}:{hashlib.sha256(named.encode()).hexdigest()}"


async def _issue(client: SourceClient, secret: Secret) -> Token:
    is_raw = secret in _raw_clients
    answer = await _ask_for_token(client, secret, raw=is_raw)
    if _is_refused(answer) and _encoded(secret) != (secret.clientId, secret.clientSecret):
        other = await _ask_for_token(client, secret, raw=not is_raw)
        if other.status == HTTPStatus.OK:
            answer = other
            (_raw_clients.discard if is_raw else _raw_clients.add)(secret)
    granted = client.read_json(answer)
    text = granted.get("access_token") if isinstance(granted, dict) else None
    text = text.strip() if isinstance(text, str) else ""
    if not _SENDABLE_TOKEN.fullmatch(text):
        raise client.malformed("access_token")
    seconds = whole_number(granted.get("expires_in"))
    if seconds is None:
        seconds = _DEFAULT_LIFETIME_SECONDS
    lifetime = min(max(0, seconds - _EXPIRY_MARGIN_SECONDS), _MAX_LIFETIME_SECONDS)
    return Token(text, timestamps.now().timestamp() + lifetime, is_new=True)


async def _ask_for_token(client: SourceClient, secret: Secret, *, raw: bool) -> HttpAnswer:
    client.credential("clientId", secret.clientId)
    client.credential("clientSecret", secret.clientSecret)
    return await client.request(
        "POST",
        "/oauth/token",
        form={"grant_type": "client_credentials"},
        auth=(secret.clientId, secret.clientSecret) if raw else _encoded(secret),
        # The grant that was asked for last is the one that lives, where an issuer keeps a single one alive.
        alone=True,
    )


def _encoded(secret: Secret) -> tuple[str, str]:
    """Encode the credentials as RFC 6749, 2.3.1, has it, so that a colon in one separates nothing."""
    return quote_plus(secret.clientId, safe="*"), quote_plus(secret.clientSecret, safe="*")


def _is_refused(answer: HttpAnswer) -> bool:
    """Tell whether the client was not recognised: a 401, for some issuers a 400 that says so."""
    if answer.status == HTTPStatus.UNAUTHORIZED:
        return True
    if answer.status != HTTPStatus.BAD_REQUEST:
        return False
    try:
        error = answer.json()
    except ValueError:
        return False
    return isinstance(error, dict) and error.get("error") == "invalid_client"
