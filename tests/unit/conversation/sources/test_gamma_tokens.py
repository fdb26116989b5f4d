"""Gamma's token is asked for once, used until shortly before it expires, and renewed once if it dies."""

import base64
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote_plus

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


# --- fields that only advise -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        ("3599", 3569), ("3599.0", 3569), (" 3599 ", 3569), (3599.9, 3569), (3599, 3569), ("300", 270),
        (..., 270), (None, 270), ("", 270), ("soon", 270), ("3599s", 270), (True, 270), ([], 270), ({}, 270),
        (float("nan"), 270), ("NaN", 270), (float("inf"), 86_400), ("Infinity", 86_400), (1e300, 86_400),
        ("9" * 400, 86_400), (10**4_000, 86_400), (0, 0), ("0", 0), (-1, 0), ("-3600", 0),
        (float("-inf"), 0),
    ],
)  # fmt: skip
def test_however_a_lifetime_comes_the_token_is_used(
    expires_in: object, seconds: int, company: MakeCompany, clock: Clock
) -> None:
    granted = {"access_token": "one"} | ({} if expires_in is ... else {"expires_in": expires_in})
    answer = httpx.Response(200, content=json.dumps(granted))
    asked = company(*(GAMMA.nobody() for _ in range(3)), token_replies=[answer, token("two"), token("three")])
    GAMMA.ask()
    if seconds:
        clock.seconds += seconds - 1
        GAMMA.ask()
        clock.seconds += 2
    GAMMA.ask()
    assert bearers(asked) == ["Bearer one"] * (2 if seconds else 1) + ["Bearer two"]


@pytest.mark.parametrize("kind", ["bearer", "BEARER", "mac", None, 7, [], ""])
def test_what_kind_of_token_it_says_it_is_does_not_matter(kind: object, company: MakeCompany) -> None:
    company(GAMMA.knows(), token_replies=[token("one", token_type=kind, scope=None, refresh_token=7)])
    assert GAMMA.ask() is not None


def test_white_space_and_byte_order_marks_around_a_token_are_nothing(company: MakeCompany) -> None:
    answer = httpx.Response(200, content=b"\xef\xbb\xbf" + json.dumps({"access_token": " one\n"}).encode())
    asked = company(GAMMA.knows(), token_replies=[answer])
    assert GAMMA.ask() is not None
    assert bearers(asked) == ["Bearer one"]


# --- the client's credentials ------------------------------------------------------------------------------

CLIENTS = [
    ("client", "secret"),
    ("1PpG/Q 1", "z/tZ9VwFZqApmIQ+ZH1I5pLk/uB4ud:X2/8bL+wfFTt1rFw="),
    ("100%", "%41+%20"),
    ("a:b", "c:d"),
    ("müller", "grün und größer 👋"),
    ("urn:client@tenant.example", "~!*'()-._&=?#"),
]


def basic_of(request: httpx.Request) -> tuple[str, str]:
    scheme, _, encoded = request.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    user, _, password = base64.b64decode(encoded).decode().partition(":")
    return user, password


def by_the_book(request: httpx.Request) -> tuple[str, str]:
    """The client as an issuer reads it that follows RFC 6749, 2.3.1."""
    user, password = basic_of(request)
    return unquote_plus(user), unquote_plus(password)


def issuer(
    client: tuple[str, str], read: Callable[[httpx.Request], tuple[str, str]], refusal: httpx.Response
) -> Callable[[httpx.Request], Awaitable[httpx.Response]]:
    async def answer(request: httpx.Request) -> httpx.Response:
        again = httpx.Response(refusal.status_code, content=refusal.content)
        return token("one", expires_in=0) if read(request) == client else again

    return answer


def ask_as(client: tuple[str, str]) -> Any:
    secret = gamma.Secret(clientId=client[0], clientSecret=client[1])
    return dataclasses.replace(GAMMA, secret=secret).ask()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_of_any_characters_is_known_to_an_issuer_by_the_book(
    client: tuple[str, str], company: MakeCompany
) -> None:
    asked = company(GAMMA.knows(), token_replies=[issuer(client, by_the_book, httpx.Response(401))])
    assert ask_as(client) is not None
    assert len(asked.token_requests) == 1


@pytest.mark.parametrize("client", [one for one in CLIENTS if ":" not in one[0]])
@pytest.mark.parametrize(
    "refusal", [httpx.Response(401), httpx.Response(400, json={"error": "invalid_client"})]
)
def test_an_issuer_that_takes_them_raw_gets_them_raw_from_then_on(
    client: tuple[str, str], refusal: httpx.Response, company: MakeCompany
) -> None:
    replies = [issuer(client, basic_of, refusal) for _ in range(4)]
    asked = company(GAMMA.knows(), GAMMA.knows(), token_replies=list(replies))
    assert ask_as(client) is not None
    tries = len(asked.token_requests)
    assert tries == (1 if client == ("client", "secret") else 2)
    assert ask_as(client) is not None
    assert len(asked.token_requests) == tries + 1


def test_an_issuer_that_becomes_one_by_the_book_is_known_again(company: MakeCompany) -> None:
    client = ("a b", "c+d")
    replies = [issuer(client, read, httpx.Response(401)) for read in (*[basic_of] * 2, *[by_the_book] * 3)]
    asked = company(*(GAMMA.knows() for _ in range(3)), token_replies=replies)
    for _ in range(3):
        assert ask_as(client) is not None
    assert len(asked.token_requests) == 5


def test_wrong_credentials_are_tried_both_ways_and_not_again(company: MakeCompany) -> None:
    asked = company(token_replies=[httpx.Response(401), httpx.Response(401)])
    with pytest.raises(SourceUnavailable, match=r"^gamma answered 401$"):
        ask_as(("a+b", "c"))
    assert [basic_of(request)[0] for request in asked.token_requests] == ["a%2Bb", "a+b"]


# --- 404 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "is_gammas"),
    [
        (b'{"error": "no such person"}', True),
        (b"{}", True),
        (b"[]", True),
        (b'\xef\xbb\xbf{"error": "unknown"}', True),
        (b"", False),
        (b"<!DOCTYPE html><title>404 Not Found</title>", False),
        (b"404 page not found\n", False),
        (b'"unknown"', False),
        (b"null", False),
        (b"404", False),
        (b'{"error": "no such', False),
    ],
)
def test_a_404_is_nobody_when_it_is_gammas_own(body: bytes, *, is_gammas: bool, company: MakeCompany) -> None:
    company(httpx.Response(404, content=body))
    if is_gammas:
        assert GAMMA.ask() is None
        return
    with pytest.raises(SourceUnavailable, match=r"^gamma answered 404$"):
        GAMMA.ask()
