"""Gamma's token is asked for once, used until shortly before it expires, and renewed once if it dies."""

from collections.abc import Callable

import httpx
import pytest

from conversation.errors import SourceUnavailable
from conversation.sources import gamma
from tests.support.companies import PROTOCOLS, Company, token

GAMMA = PROTOCOLS["gamma"]
DEAD = httpx.codes.UNAUTHORIZED
type MakeCompany = Callable[..., Company]


class Clock:
    """A monotonic clock that only a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(gamma, "time", stopped)
    return stopped


def bearers(company: Company) -> list[str]:
    return [request.headers["authorization"] for request in company.lookups]


def test_one_token_serves_many_lookups(company: MakeCompany) -> None:
    asked = company(GAMMA.knows(), GAMMA.nobody(), GAMMA.knows())
    for _ in range(3):
        GAMMA.ask()
    assert len(asked.token_requests) == 1
    assert bearers(asked) == ["Bearer token-1"] * 3


def test_a_token_is_renewed_thirty_seconds_before_it_expires(company: MakeCompany, clock: Clock) -> None:
    asked = company(*(GAMMA.nobody() for _ in range(3)))
    GAMMA.ask()
    clock.seconds += 269.9
    GAMMA.ask()
    clock.seconds += 0.2
    GAMMA.ask()
    assert bearers(asked) == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("lifetime", [30, 1, 0, -5, -(10**400)])
def test_a_token_that_lives_too_shortly_is_used_once(lifetime: int, company: MakeCompany) -> None:
    asked = company(
        GAMMA.nobody(),
        GAMMA.nobody(),
        token_replies=[token("one", expires_in=lifetime), token("two", expires_in=lifetime)],
    )
    GAMMA.ask()
    GAMMA.ask()
    assert bearers(asked) == ["Bearer one", "Bearer two"]


def test_a_token_that_claims_to_live_for_ever_lives_for_a_day(company: MakeCompany, clock: Clock) -> None:
    asked = company(
        *(GAMMA.nobody() for _ in range(3)), token_replies=[token("one", expires_in=10**400), token("two")]
    )
    GAMMA.ask()
    clock.seconds += 86_399
    GAMMA.ask()
    clock.seconds += 2
    GAMMA.ask()
    assert bearers(asked) == ["Bearer one", "Bearer one", "Bearer two"]


def test_a_token_without_a_lifetime_is_taken_for_five_minutes(company: MakeCompany, clock: Clock) -> None:
    answer = httpx.Response(200, json={"access_token": "one"})
    asked = company(*(GAMMA.nobody() for _ in range(3)), token_replies=[answer, token("two")])
    GAMMA.ask()
    clock.seconds += 269
    GAMMA.ask()
    clock.seconds += 2
    GAMMA.ask()
    assert bearers(asked) == ["Bearer one", "Bearer one", "Bearer two"]


def test_a_dead_token_is_replaced_once(company: MakeCompany) -> None:
    asked = company(GAMMA.nobody(), httpx.Response(DEAD), GAMMA.knows())
    GAMMA.ask()
    assert GAMMA.ask() is not None
    assert bearers(asked) == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


def test_a_second_401_is_no_answer_and_asks_for_no_third_token(company: MakeCompany) -> None:
    asked = company(httpx.Response(DEAD), httpx.Response(DEAD))
    with pytest.raises(SourceUnavailable, match=r"^gamma answered 401$"):
        GAMMA.ask()
    assert bearers(asked) == ["Bearer token-1", "Bearer token-2"]


def test_after_two_401_the_next_lookup_still_recovers(company: MakeCompany) -> None:
    asked = company(*(httpx.Response(DEAD) for _ in range(3)), GAMMA.knows())
    with pytest.raises(SourceUnavailable):
        GAMMA.ask()
    assert GAMMA.ask() is not None
    assert bearers(asked)[-1] == "Bearer token-3"


def test_other_credentials_get_a_token_of_their_own(company: MakeCompany) -> None:
    asked = company(GAMMA.nobody(), GAMMA.nobody())
    GAMMA.ask()
    rotated = PROTOCOLS["gamma"].__class__(
        **{**vars(GAMMA), "secret": gamma.Secret(clientId="gamma-client", clientSecret="rotated")}
    )
    rotated.ask()
    assert bearers(asked) == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json={}),
        httpx.Response(200, json={"access_token": 7}),
        httpx.Response(200, json={"access_token": None, "expires_in": 300}),
        httpx.Response(200, json={"access_token": ""}),
        httpx.Response(200, json={"access_token": " "}),
        httpx.Response(200, json={"access_token": "two words"}),
        httpx.Response(200, json={"access_token": "control\u0007"}),
        httpx.Response(200, json=[]),
        httpx.Response(200, content=b"access_token=t"),
        httpx.Response(401, json={"error": "invalid_client"}),
        httpx.Response(404),
        httpx.Response(429),
        httpx.Response(302, headers={"location": "https://elsewhere.example/"}),
    ],
)
def test_without_a_token_nobody_is_looked_up(answer: httpx.Response, company: MakeCompany) -> None:
    asked = company(token_replies=[answer])
    with pytest.raises(SourceUnavailable, match=r"^gamma answered "):
        GAMMA.ask()
    assert asked.lookups == []
    assert len(asked.token_requests) == 1


@pytest.mark.parametrize("text", ["tokén", "to\udc80ken"])
def test_a_token_that_cannot_be_sent_is_no_token(text: str, company: MakeCompany) -> None:
    company(token_replies=[httpx.Response(200, content=f'{{"access_token": {text!r}}}'.replace("'", '"'))])
    with pytest.raises(SourceUnavailable, match=r"^gamma (was not asked|answered in an unknown format)"):
        GAMMA.ask()


def test_the_token_request_too_gets_its_one_quick_retry(company: MakeCompany) -> None:
    asked = company(GAMMA.knows(), token_replies=[httpx.Response(503), token("one")])
    assert GAMMA.ask() is not None
    assert len(asked.token_requests) == 2
