"""A request is sent again once, quickly, where that can help, and never where it would only add load."""

import socket
import ssl
from collections.abc import Callable

import h11
import httpx
import pytest

from conversation.connections import ConnectTimeout
from conversation.errors import SourceUnavailable
from conversation.sources.client import RETRY_AFTER_SECONDS
from tests.support.companies import PROTOCOLS, Company

type MakeCompany = Callable[..., Company]

MAY_PASS = [
    *(
        pytest.param(lambda status=status: httpx.Response(status), id=str(status))
        for status in (500, 502, 503, 504)
    ),
    *(
        pytest.param(lambda kind=kind: kind("broken"), id=kind.__name__)
        for kind in (
            ConnectionRefusedError,
            ConnectionResetError,
            BrokenPipeError,
            socket.gaierror,
            ssl.SSLError,
            h11.RemoteProtocolError,
        )
    ),
]


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize("failure", MAY_PASS)
def test_a_failure_that_may_pass_is_tried_again(
    source: str, failure: Callable[[], httpx.Response | Exception], company: MakeCompany
) -> None:
    asked = company(failure(), PROTOCOLS[source].knows())
    assert PROTOCOLS[source].ask() is not None
    first, second = asked.lookups
    assert (second.method, second.url, second.content) == (first.method, first.url, first.content)
    assert second.headers == first.headers


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize("failure", MAY_PASS)
def test_a_second_failure_is_the_last(
    source: str, failure: Callable[[], httpx.Response | Exception], company: MakeCompany
) -> None:
    asked = company(failure(), failure())
    with pytest.raises(SourceUnavailable):
        PROTOCOLS[source].ask()
    assert len(asked.lookups) == 2


@pytest.mark.parametrize("source", PROTOCOLS)
def test_a_time_out_is_not_tried_again(source: str, company: MakeCompany) -> None:
    asked = company(ConnectTimeout("late"))
    with pytest.raises(SourceUnavailable, match=rf"^{source} timed out \(ConnectTimeout\)$"):
        PROTOCOLS[source].ask()
    assert len(asked.lookups) == 1


def test_a_time_out_of_the_second_try_is_no_answer_either(company: MakeCompany) -> None:
    asked = company(httpx.Response(503), ConnectTimeout("late"))
    with pytest.raises(SourceUnavailable, match=r"^alpha could not be reached \(ConnectTimeout\)$"):
        PROTOCOLS["alpha"].ask()
    assert len(asked.lookups) == 2


@pytest.mark.parametrize("status", [400, 403, 409, 429])
def test_what_the_second_try_answers_counts(status: int, company: MakeCompany) -> None:
    company(ConnectionRefusedError("refused"), httpx.Response(status))
    with pytest.raises(SourceUnavailable, match=rf"^alpha answered {status}$"):
        PROTOCOLS["alpha"].ask()


def test_the_retry_waits_a_moment_first(monkeypatch: pytest.MonkeyPatch, company: MakeCompany) -> None:
    """An instance that is being replaced needs a little; the caller does not notice a tenth of a second."""
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("conversation.sources.client.asyncio.sleep", note)
    asked = company(httpx.Response(503), PROTOCOLS["alpha"].knows())
    PROTOCOLS["alpha"].ask(retry_after_seconds=RETRY_AFTER_SECONDS)
    assert pauses == [0.1]
    assert len(asked.lookups) == 2
