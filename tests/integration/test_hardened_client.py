"""Companies and the CRM over real connections, as whoever holds the other end could make them.

Neither unpacks anything, reads more than its bound, waits beyond its time, follows, or remembers.
"""

import asyncio
import base64
import gzip
import itertools
import json
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from conversation import http_client
from conversation.errors import SourceUnavailable
from conversation.http_client import MAX_ANSWER_BYTES
from conversation.sources import gamma
from journeys.crm import CrmUnavailable
from tests.support.cloud import wait_until
from tests.support.companies import JEAN, PROTOCOLS
from tests.support.crm import leave_note
from tests.support.raw_server import RawServer, Script, http, raw_server

NOTE = json.dumps({"noteId": "N-1"}).encode()
BEFORE_THE_TIME_IS_OVER = "(?!gave no answer within)"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Service:
    """One of the four services that are called, asked as in production, with `seconds` for the whole."""

    name: str
    good: bytes
    ask: Callable[[str, float], object]
    error: type[Exception]


def company(source: str) -> Service:
    def ask(url: str, seconds: float) -> object:
        return PROTOCOLS[source].ask(base_url=url, seconds=seconds)

    return Service(source, json.dumps(PROTOCOLS[source].document(JEAN)).encode(), ask, SourceUnavailable)


def ask_crm(url: str, seconds: float) -> object:
    return leave_note(url, seconds=seconds)


SERVICES = [*map(company, ("alpha", "beta", "gamma")), Service("CRM", NOTE, ask_crm, CrmUnavailable)]
every_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


@pytest.fixture(autouse=True)
def _no_tokens() -> Iterator[None]:
    gamma.forget()
    yield
    gamma.forget()


def serve(answer: Script) -> AbstractContextManager[RawServer]:
    """Answer as told; gamma's token requests always well."""

    def script(request: bytes) -> Iterator[bytes]:
        if request.startswith(b"POST /oauth/token"):
            yield http(b'{"access_token": "t", "expires_in": 0}', "Connection: close")
        else:
            yield from answer(request)

    return raw_server(script)


def nested(levels: int, size: int = 30_000_000) -> bytes:
    packed = bytes(size)
    for _ in range(levels):
        packed = gzip.compress(packed, 9)
    return packed


# --- encodings ---------------------------------------------------------------------------------------------


@every_service
def test_an_answer_is_asked_for_as_it_is(service: Service) -> None:
    with serve(lambda _: [http(service.good, "Connection: close")]) as server:
        assert service.ask(server.url, 5)
    for request in server.requests:
        headers = request.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
        assert [line for line in headers if line.startswith("accept-encoding")] == [
            "accept-encoding: identity"
        ]
        assert not any(line.startswith("cookie") for line in headers)


@every_service
@pytest.mark.parametrize(
    "encoding",
    [
        "gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "compress", "gzip, gzip, gzip", "identity, gzip",
        "unheard-of", "gzip\r\nContent-Encoding: identity", "identity\r\nContent-Encoding: gzip", " gzip ,",
    ],
)  # fmt: skip
def test_an_encoding_that_was_not_asked_for_is_refused(service: Service, encoding: str) -> None:
    body = {"gzip": gzip.compress(service.good), "deflate": zlib.compress(service.good)}.get(
        encoding, service.good
    )
    with (
        serve(lambda _: [http(body, f"Content-Encoding: {encoding}")]) as server,
        pytest.raises(service.error, match=f"{service.name} answered in a content encoding"),
    ):
        service.ask(server.url, 5)
    assert len([one for one in server.requests if b"/oauth/token" not in one]) == 1, "no retry mends that"


@every_service
@pytest.mark.parametrize("encoding", ["identity", "Identity", "", ",", "identity, identity"])
def test_no_encoding_however_it_is_said_is_none(service: Service, encoding: str) -> None:
    with serve(lambda _: [http(service.good, f"Content-Encoding: {encoding}")]) as server:
        assert service.ask(server.url, 5)


@every_service
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_bomb_is_not_unpacked(service: Service, levels: int) -> None:
    bomb = nested(levels)
    answer = http(bomb, f"Content-Encoding: {', '.join(['gzip'] * levels)}")
    with serve(lambda _: [answer]) as server:
        tracemalloc.start()
        try:
            with pytest.raises(service.error, match=f"{service.name} answered in a content encoding"):
                service.ask(server.url, 5)
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


@every_service
@pytest.mark.parametrize("transfer", ["gzip, chunked", "gzip", "deflate, chunked"])
def test_a_packed_transfer_is_refused(service: Service, transfer: str) -> None:
    answer = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {transfer}\r\n\r\n".encode() + gzip.compress(
        service.good
    )
    with serve(lambda _: [answer]) as server, pytest.raises(service.error):
        service.ask(server.url, 3)


# --- sizes and times ---------------------------------------------------------------------------------------


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def flood(*pieces: bytes, each: bytes, pause: float = 0) -> Script:
    def script(_request: bytes) -> Iterator[bytes]:
        yield from pieces
        while True:
            time.sleep(pause)  # the drip itself
            yield each

    return script


FLOODS: dict[str, Script] = {
    "headers": flood(b"HTTP/1.1 200 OK\r\n", each=b"X-More: " + b"x" * 4_000 + b"\r\n"),
    "one header": flood(b"HTTP/1.1 200 OK\r\nX-More: ", each=b"x" * 65_536),
    "a status line": flood(b"HTTP/1.1 200 ", each=b"O" * 65_536),
    "a body without length": flood(b"HTTP/1.1 200 OK\r\n\r\n", each=b" " * 65_536),
    "chunks": flood(CHUNKED, each=chunk(b" " * 65_536)),
    "chunk extensions": flood(CHUNKED, b"1;", each=b"x" * 65_536),
    "trailers": flood(CHUNKED, b"0\r\n", each=b"X-More: " + b"x" * 4_000 + b"\r\n"),
    "cookies": flood(b"HTTP/1.1 200 OK\r\n", each=b"Set-Cookie: a=b; expires=" + b"1 " * 2_000 + b"\r\n"),
}
SLOW: dict[str, Script] = {
    "nothing": flood(each=b"", pause=0.05),
    "1xx for ever": flood(each=b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000),
    "103 with headers for ever": flood(each=b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100),
    "headers by drips": flood(b"HTTP/1.1 200 OK\r\nX-More: ", each=b"x", pause=0.02),
    "chunks by drips": flood(CHUNKED, each=chunk(b" "), pause=0.02),
    "a body that does not come": flood(
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", each=b"", pause=0.05
    ),
}


@every_service
@pytest.mark.parametrize("what", FLOODS)
def test_what_has_no_end_is_given_up_soon(service: Service, what: str) -> None:
    with (
        serve(FLOODS[what]) as server,
        pytest.raises(service.error, match=f"{service.name} {BEFORE_THE_TIME_IS_OVER}"),
    ):
        service.ask(server.url, 20)
    # Twice, as garbled answers are asked for again, and what the two kernels hold between them.
    assert server.bytes_sent < 2 * (MAX_ANSWER_BYTES + 8_000_000)


@every_service
@pytest.mark.parametrize("what", SLOW)
def test_what_keeps_coming_slowly_ends_with_the_time(service: Service, what: str) -> None:
    with (
        serve(SLOW[what]) as server,  # which never ends by itself
        pytest.raises(service.error, match=rf"{service.name} gave no answer within 0\.7 s$"),
    ):
        service.ask(server.url, 0.7)


@every_service
@pytest.mark.parametrize("length", [MAX_ANSWER_BYTES + 1, 10**12, 10**18])
def test_a_length_beyond_the_bound_is_not_waited_for(service: Service, length: int) -> None:
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n[".encode()
    with (
        serve(lambda _: [answer, *itertools.repeat(b" ", 10)]) as server,
        pytest.raises(service.error, match=f"{service.name} answered with more than 262,144 bytes"),
    ):
        service.ask(server.url, 5)


@every_service
@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\r\n", b"HTTP/1.1", b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[]", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        b"\x16\x03\x01" * 9,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"\x00" * 5_000,
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", CHUNKED + b"zz\r\n",
        CHUNKED + b"fffffffff",
    ],
)  # fmt: skip
def test_what_is_no_http_is_no_answer(service: Service, answer: bytes) -> None:
    with (
        serve(lambda _: [answer]) as server,
        pytest.raises(service.error, match=f"{service.name} {BEFORE_THE_TIME_IS_OVER}"),
    ):
        service.ask(server.url, 3)


# --- what is kept ------------------------------------------------------------------------------------------


@every_service
def test_nothing_of_one_caller_goes_out_with_the_next(service: Service) -> None:
    cookies = [
        "Set-Cookie: session=of-jean; Path=/",
        "Set-Cookie: b=c; Domain=127.0.0.1",
        "Connection: close",
    ]
    with serve(lambda _: [http(service.good, *cookies)]) as server:
        for _ in range(3):
            assert service.ask(server.url, 5)
    assert not any(b"cookie" in request.lower() for request in server.requests)


@every_service
@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
def test_a_redirect_leads_nowhere(service: Service, status: str) -> None:
    with serve(lambda _: [http(service.good)]) as elsewhere:
        answer = http(b"{}", f"Location: {elsewhere.url}/", status=status)
        with (
            serve(lambda _: [answer]) as server,
            pytest.raises(service.error, match=f"answered {status[:3]}$"),
        ):
            service.ask(server.url, 5)
    assert elsewhere.requests == []


@every_service
def test_neither_proxies_nor_netrc_of_the_environment_count(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("netrc") / "netrc"
    netrc.write_text("default login hunter2 password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with serve(lambda _: [http(service.good)]) as proxy, serve(lambda _: [http(service.good)]) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert service.ask(server.url, 5)
    assert proxy.requests == []
    sent = [line for request in server.requests for line in request.splitlines() if b"uthorization: " in line]
    assert not any(base64.b64encode(b"hunter2:hunter2") in line for line in sent)
    assert len(sent) == {"alpha": 0, "gamma": 2}.get(service.name, 1)


# --- the time, whatever happens ----------------------------------------------------------------------------


@every_service
def test_a_stuck_event_loop_costs_no_more_than_the_time(service: Service) -> None:
    """As a decoder would stick that is busy with a bomb: nothing in the loop can look at a clock."""
    released = threading.Event()

    async def stick() -> None:
        released.wait(30)

    loop = http_client._loop()
    stuck = asyncio.run_coroutine_threadsafe(stick(), loop)
    try:
        with serve(lambda _: [http(service.good)]) as server:
            with pytest.raises(service.error, match=f"{service.name} gave no answer within 0.5 s"):
                service.ask(server.url, 0.5)
            assert not stuck.done()
            assert service.ask(server.url, 5), "the next one has a loop of its own"
    finally:
        released.set()
    assert http_client._loop() is not loop
    wait_until(loop.is_closed)  # its thread and its connections end with it


# --- the CRM's ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "note_id"),
    [
        ({"noteId": "N-1"}, "N-1"), ({"noteId": 17}, "17"), ({"noteId": "é" * 256}, "é" * 256),
        ({"noteId": "x" * 257}, None), ({"noteId": "x" * 200_000}, None), ({"noteId": ""}, None),
        ({"noteId": "a\nb"}, None), ({"noteId": "a\u202eb"}, None), ({"noteId": "\ud800"}, None),
        ({"noteId": None}, None), ({"noteId": True}, None), ({"noteId": ["N-1"]}, None),
        ({"noteId": 1.5}, None), ({"noteId": 10**300}, None), ({}, None), ([], None),
        ("N-1", None), (None, None), ({"noteId": {}}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_which_ids_a_crm_may_give(answer: object, note_id: str | None, mark: bytes) -> None:
    with serve(lambda _: [http(mark + json.dumps(answer).encode(), status="201 Created")]) as server:
        if note_id is not None:
            assert ask_crm(server.url, 5) == note_id
            return
        with pytest.raises(CrmUnavailable, match="noteId"):
            ask_crm(server.url, 5)


@pytest.mark.parametrize(
    "status", ["100 Continue", "400 No", "401 No", "404 No", "429 No", "500 No", "503 No"]
)
def test_a_crm_that_says_no_has_not_taken_the_note(status: str) -> None:
    with serve(lambda _: [http(NOTE, status=status)]) as server, pytest.raises(CrmUnavailable):
        ask_crm(server.url, 2)
