"""Credentials as companies get them, and those that cannot be sent, which the error names."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from conversation.errors import SourceUnavailable
from conversation.sources import alpha, beta, gamma
from conversation.sources.client import SourceClient, run_within
from tests.support.companies import NUMBER, PROTOCOLS, Company

type MakeCompany = Callable[..., Company]
SECRETS: dict[str, type[Any]] = {"alpha": alpha.Secret, "beta": beta.Secret, "gamma": gamma.Secret}


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize("bad", ["hunter2\x00", "hun\nter2", "hun\x7fter2", "hun\ud800ter2", "hun\x85ter2"])
def test_a_credential_that_cannot_be_sent_is_the_credentials_fault(
    source: str, bad: str, company: MakeCompany
) -> None:
    asked = company()
    fields = SECRETS[source]._fields
    for field in fields:
        values: dict[str, Any] = {**dict.fromkeys(fields, "good"), field: f"x{bad}x"}
        secret = SECRETS[source](**values)
        client = SourceClient(source, f"https://{source}.example")
        with pytest.raises(SourceUnavailable) as refusal:
            run_within(source, 5, PROTOCOLS[source].look_up(client, secret, NUMBER))
        assert (
            str(refusal.value)
            == f"{source} was not asked: fill its secret again, {field} has a control character"
        )
    assert asked.lookups == asked.token_requests == []


def test_what_http_basic_cannot_carry_is_said_too(company: MakeCompany) -> None:
    company()
    secret = beta.Secret(username="a:b", password="hunter2")  # noqa: S106 - opens nothing
    with pytest.raises(SourceUnavailable, match=r"^beta was not asked: .*username$"):
        run_within("beta", 5, beta.look_up(SourceClient("beta", "https://beta.example"), secret, NUMBER))


@pytest.mark.parametrize("user", ["müller", "100%", "a b", "a+b", "👋"])
def test_betas_credentials_go_as_they_are(user: str, company: MakeCompany) -> None:
    asked = company(PROTOCOLS["beta"].knows())
    secret = beta.Secret(username=user, password=f"{user}:{user}")
    client = SourceClient("beta", "https://beta.example")
    assert run_within("beta", 5, beta.look_up(client, secret, NUMBER)) is not None
    [request] = asked.lookups
    assert request.headers["authorization"] == httpx.BasicAuth(user, f"{user}:{user}")._auth_header
