"""Errors are logged, so they say what a company did, and not who called, nor with which credentials."""

import json
import ssl
import traceback
from collections.abc import Callable
from typing import Any

import h11
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversation.connections import ConnectTimeout
from conversation.errors import SourceUnavailable
from conversation.sources import alpha, beta, client, gamma
from tests.support.companies import NUMBER, PROTOCOLS, Company

SECRETS: dict[str, Any] = {
    "alpha": alpha.Secret(apiKey="hunter2-key"),
    "beta": beta.Secret(username="hunter2-user", password="hunter2-password"),  # noqa: S106 - opens nothing
    "gamma": gamma.Secret(clientId="hunter2-client", clientSecret="hunter2-secret"),
}
# What must never be in an error: the number, in parts too; the credentials; the person.
CONFIDENTIAL = ("612345678", "hunter2", "Jean", "Dupont", "G-1042")

WORDS = st.sampled_from(
    [NUMBER, NUMBER[1:], "hunter2-key", "Jean", "Dupont", "G-1042", "phone", "id", "personId"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS, inner, max_size=4)
        | st.fixed_dictionaries({"total": inner, "items": inner})
        | st.fixed_dictionaries(
            {"id": inner, "first_name": WORDS, "last_name": WORDS, "phone": WORDS, "tier": inner}
        )
        | st.fixed_dictionaries({"personId": inner, "phone": WORDS, "fullName": WORDS, "segment": inner})
    ),
    max_leaves=8,
)
BODIES = JSON.map(lambda value: json.dumps(value).encode()) | st.lists(WORDS).map(
    lambda words: "".join(words).encode()
)
HEADERS = st.dictionaries(
    st.sampled_from(["location", "x-name", "content-type", "set-cookie"]), WORDS, max_size=2
)
ANSWERS = st.builds(
    lambda status, body, headers: lambda: httpx.Response(status, content=body, headers=headers),
    st.sampled_from([200, 201, 302, 400, 401, 403, 404, 429, 500, 503]),
    BODIES,
    HEADERS,
)
ERRORS = st.builds(
    lambda kind, words: lambda: kind(f"failed for {words} at https://hunter2@example"),
    st.sampled_from([ConnectionResetError, ConnectTimeout, ssl.SSLError, h11.RemoteProtocolError]),
    WORDS,
)


def told_by(error: SourceUnavailable) -> str:
    """Everything that a log could show of an error, what it was raised from included."""
    return "".join(traceback.format_exception(error)) + str(error) + repr(error) + repr(vars(error))


REPLIES = st.lists(ANSWERS | ERRORS, min_size=4, max_size=4)


@pytest.mark.parametrize("source", PROTOCOLS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(replies=REPLIES, token_replies=st.none() | REPLIES)
def test_whatever_a_company_does_the_error_tells_nobody(
    source: str,
    replies: list[Callable[[], httpx.Response | Exception]],
    token_replies: list[Callable[[], httpx.Response | Exception]] | None,
    company: Callable[..., Company],
) -> None:
    gamma.forget()
    company(
        *(reply() for reply in replies),
        token_replies=None if token_replies is None else [reply() for reply in token_replies],
    )
    asked = client.SourceClient(source, f"https://{source}.example", retry_after_seconds=0)
    try:
        client.run_within(source, 5, PROTOCOLS[source].look_up(asked, SECRETS[source], NUMBER))
    except SourceUnavailable as error:
        told = told_by(error)
        for word in CONFIDENTIAL:
            assert word not in told


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize("unsendable", ["hunter2-é", "hunter2-👋"])
def test_a_credential_that_cannot_be_sent_is_not_quoted(
    source: str, unsendable: str, company: Callable[..., Company]
) -> None:
    """Beyond ASCII a header cannot go; HTTP Basic carries any text, so beta and gamma are asked."""
    secret = SECRETS[source]._make([unsendable] * len(SECRETS[source]))
    company(PROTOCOLS[source].nobody())
    asked = client.SourceClient(source, f"https://{source}.example")
    work = PROTOCOLS[source].look_up(asked, secret, NUMBER)
    if source != "alpha":
        assert client.run_within(source, 5, work) is None
        return
    with pytest.raises(SourceUnavailable, match=r"^alpha was not asked") as refusal:
        client.run_within(source, 5, work)
    assert "hunter2" not in told_by(refusal.value)


@pytest.mark.parametrize("base_url", ["https://alpha.example:port", "https://alpha.example\x00"])
def test_a_base_url_that_is_none_is_no_crash(base_url: str, company: Callable[..., Company]) -> None:
    company()
    with pytest.raises(
        SourceUnavailable, match=r"^alpha was not asked: its URL or credentials cannot be sent$"
    ):
        PROTOCOLS["alpha"].ask(base_url=base_url)
