"""A company can neither hold a lookup beyond its budget, nor fill its memory, nor send it somewhere else."""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context

import httpx
import pytest

from conversation.errors import SourceUnavailable
from conversation.http_client import MAX_ANSWER_BYTES
from conversation.sources.identity import Identity
from tests.support.companies import JEAN, PROTOCOLS, Company, token

type MakeCompany = Callable[..., Company]
PATIENCE = 30


def ask_within(source: str, seconds: float) -> Identity | None:
    """Ask in another thread, so that a budget that does not hold fails the test instead of hanging it."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        asking = executor.submit(copy_context().run, PROTOCOLS[source].ask, seconds=seconds)
        return asking.result(PATIENCE)


async def never(_request: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError


class Drip(httpx.AsyncByteStream):
    """A body that comes byte by byte and never ends."""

    def __init__(self) -> None:
        self.is_closed = False
        self.bytes_sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            self.bytes_sent += 1
            yield b" "

    async def aclose(self) -> None:
        self.is_closed = True


class Flood(Drip):
    """A body that never ends and comes fast."""

    chunk = b" " * 65_536

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.bytes_sent += len(self.chunk)
            yield self.chunk


@pytest.mark.parametrize("source", PROTOCOLS)
def test_a_company_that_never_answers_ends_with_the_budget(source: str, company: MakeCompany) -> None:
    asked = company(never)
    with pytest.raises(SourceUnavailable, match=rf"^{source} gave no answer within 0\.2 s$"):
        ask_within(source, 0.2)
    assert len(asked.lookups) == 1


@pytest.mark.parametrize("source", PROTOCOLS)
def test_a_slow_drip_ends_with_the_budget(source: str, company: MakeCompany) -> None:
    drip = Drip()
    company(httpx.Response(200, stream=drip))
    with pytest.raises(SourceUnavailable, match=rf"^{source} gave no answer within 0\.5 s$"):
        ask_within(source, 0.5)
    assert drip.bytes_sent > 0
    assert drip.is_closed


def test_a_token_that_never_comes_ends_with_the_budget(company: MakeCompany) -> None:
    company(token_replies=[never])
    with pytest.raises(SourceUnavailable, match=r"^gamma gave no answer within 0\.2 s$"):
        ask_within("gamma", 0.2)


def test_the_budget_covers_token_request_and_retry_together(company: MakeCompany) -> None:
    """Each part alone would fit into the budget; all of them do not."""

    async def slow_token(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.3)
        return token("slow")

    async def slow_failure(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.3)
        return httpx.Response(503)

    asked = company(slow_failure, never, token_replies=[slow_token])
    with pytest.raises(SourceUnavailable, match=r"^gamma gave no answer within 1\.5 s$"):
        ask_within("gamma", 1.5)
    assert len(asked.lookups) == 2


def test_a_budget_that_is_used_up_leaves_the_next_lookup_its_own(company: MakeCompany) -> None:
    company(never, PROTOCOLS["alpha"].knows())
    with pytest.raises(SourceUnavailable):
        ask_within("alpha", 0.05)
    assert ask_within("alpha", 5) is not None


def test_lookups_at_once_do_not_wait_for_each_other(company: MakeCompany) -> None:
    """Lambda runs one at a time, but tests and other hosts do not; each has its own budget."""
    all_there = asyncio.Event()
    waiting = 0

    async def wait_for_the_others(_request: httpx.Request) -> httpx.Response:
        nonlocal waiting
        waiting += 1
        if waiting == 20:
            all_there.set()
        await all_there.wait()
        return PROTOCOLS["beta"].knows()

    company(*(wait_for_the_others for _ in range(20)))
    with concurrent.futures.ThreadPoolExecutor(20) as executor:
        ask = PROTOCOLS["beta"].ask
        answers = [executor.submit(copy_context().run, ask, seconds=PATIENCE) for _ in range(20)]
        assert all(answer.result(PATIENCE) is not None for answer in answers)


@pytest.mark.parametrize("source", PROTOCOLS)
def test_an_endless_answer_is_given_up(source: str, company: MakeCompany) -> None:
    flood = Flood()
    company(httpx.Response(200, stream=flood))
    with pytest.raises(SourceUnavailable, match=rf"^{source} answered with more than 262,144 bytes$"):
        ask_within(source, PATIENCE)
    assert flood.bytes_sent <= MAX_ANSWER_BYTES + len(Flood.chunk)
    assert flood.is_closed


def test_an_answer_may_be_as_large_as_the_limit(company: MakeCompany) -> None:
    body = httpx.Response(200, json=PROTOCOLS["gamma"].document(JEAN)).content
    company(httpx.Response(200, content=body.ljust(MAX_ANSWER_BYTES)))
    assert PROTOCOLS["gamma"].ask() is not None
    company(httpx.Response(200, content=body.ljust(MAX_ANSWER_BYTES + 1)))
    with pytest.raises(SourceUnavailable):
        PROTOCOLS["gamma"].ask()


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["https://elsewhere.example/", "/other", "http://{source}.example/api"])
def test_a_redirect_is_no_answer_and_leads_nowhere(
    source: str, status: int, location: str, company: MakeCompany
) -> None:
    headers = {"location": location.format(source=source)}
    asked = company(httpx.Response(status, headers=headers))
    with pytest.raises(SourceUnavailable, match=rf"^{source} answered {status}$"):
        PROTOCOLS[source].ask()
    assert len(asked.lookups) == 1


@pytest.mark.parametrize("source", PROTOCOLS)
def test_cookies_of_one_answer_do_not_come_back_with_the_next_request(
    source: str, company: MakeCompany
) -> None:
    """One execution environment serves many callers: a session of one must not be used for another."""
    with_cookie = PROTOCOLS[source].knows()
    with_cookie.headers["set-cookie"] = "session=of-jean; Path=/"
    asked = company(with_cookie, PROTOCOLS[source].nobody())
    PROTOCOLS[source].ask()
    PROTOCOLS[source].ask("+33699999999")
    assert "cookie" not in asked.lookups[1].headers


@pytest.mark.parametrize("source", PROTOCOLS)
def test_credentials_go_to_the_company_and_nowhere_else(source: str, company: MakeCompany) -> None:
    asked = company(httpx.Response(503), PROTOCOLS[source].knows())
    PROTOCOLS[source].ask()
    for request in [*asked.lookups, *asked.token_requests]:
        assert request.url.scheme == "https"
        assert request.url.host == f"{source}.example"
