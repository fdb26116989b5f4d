"""Whom a local server answers: a table of hosts, origins and sites in every spelling."""

import asyncio
import itertools
import json
import re
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest

from local.servers import door
from local.servers.door import Headers, refusal
from tests.support.template import REPOSITORY

PORTS = ("", ":", ":80", ":4566", ":65535")
OURS = (
    "127.0.0.1",
    "localhost",
    "localhost.",
    "[::1]",
    "a1b2c3d4.execute-api.localhost",
    "a1b2c3d4.execute-api.localhost.",
    "bucket.localhost",
    "my.dotted-bucket_1.s3.us-east-1.localhost",
    "a1.lambda-url.us-east-1.localhost",
    "host.docker.internal",
)
# Names that their owners may point at 127.0.0.1 whenever they like, and other ways to write an address.
FOREIGN = (
    "",
    "evil.example",
    "EVIL.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io",
    "7f000001.c0a80001.rbndr.us",
    "localtest.me",
    "localhost.localstack.cloud",
    "execute-api.localhost.evil.example",
    "evil-localhost",
    "notlocalhost",
    "evil.example.localhost.evil.example",
    "localhost..",
    ".localhost",
    "..localhost",
    "a..localhost",
    "-a.localhost",
    "a-.localhost",
    "*.localhost",
    "localhost.localdomain",
    "localhost6",
    "0.0.0.0",  # noqa: S104 - browsers reach this machine by it
    "0",
    "127.1",
    "127.0.1",
    "127.0.0.2",
    "127.0.0.1.",
    "127.0.0.01",
    "0127.0.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "192.168.1.10",
    "169.254.169.254",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::1%lo]",
    "[::1].evil.example",
    "::1",
    "[::1",
    "user@localhost",
    "evil.example@127.0.0.1",
    "127.0.0.1@evil.example",
    "127.0.0.1, evil.example",
    "127.0.0.1 evil.example",
    "127.0.0.1/evil.example",
    "127.0.0.1#evil.example",
    "127.0.0.1?evil.example",
    "127.0.0.1\\evil.example",
    "http://127.0.0.1",
    "127.0.0.1\x00.evil.example",
    "127.0.0.1\n",
    "localhost\x0b",
    "ⓛocalhost",
    "localhoﬆ",
    "xn--localhost-.example",
    "kocalhost",
    "docker.internal",
    "evil.docker.internal",
    "host.docker.internal.",
    "host.docker.internal.evil.example",
)
BAD_PORTS = (":-1", ":+80", ":4566evil", ":4566:80", ":123456", ": 80", ":٨٠", ":80.evil.example")
SITES_OF_OTHERS = (
    "cross-site",
    "same-site",
    "Same-Origin",
    "NONE",
    "",
    "null",
    "none, cross-site",
    "same-origin;a=1",
)


def spellings(text: str) -> set[str]:
    if not text.isascii():  # some letters that are none of ours become ours as capitals
        return {text}
    return {text, text.upper(), text.title(), text.swapcase()}


def request(*headers: tuple[str, str]) -> Headers:
    return [(name.encode("latin-1"), value.encode()) for name, value in headers]


def our_hosts() -> Iterator[str]:
    for host, port in itertools.product(OURS, PORTS):
        yield from (spelling + port for spelling in spellings(host))


def foreign_hosts() -> Iterator[str]:
    for host, port in itertools.product(FOREIGN, PORTS):
        yield from (spelling + port for spelling in spellings(host))
    for host, port in itertools.product(OURS, BAD_PORTS):
        yield host + port


@pytest.mark.parametrize("host", sorted(set(our_hosts())))
def test_programs_of_this_machine_are_served(host: str) -> None:
    for name in ("host", "Host", "HOST"):
        assert refusal(request((name, host))) is None
        assert refusal(request(("accept", "*/*"), (name, f" \t{host} "), ("x-origin", "https://a"))) is None


@pytest.mark.parametrize("host", sorted(set(foreign_hosts())))
def test_another_host_is_refused(host: str) -> None:
    for name in ("host", "Host", "HOST"):
        assert refusal(request((name, host))) is not None
    if not re.search(r"[/?#]", host):  # where a URL's host ends
        assert refusal(request(("host", "127.0.0.1")), f"http://{host}/".encode()) is not None


def test_the_tables_are_large() -> None:
    assert len(set(our_hosts())) > 100
    assert len(set(foreign_hosts())) > 500


def test_exactly_one_host_counts() -> None:
    assert refusal([]) is not None
    for first, second in itertools.product(("127.0.0.1", "localhost", "evil.example"), repeat=2):
        assert refusal(request(("host", first), ("Host", second))) is not None


def test_hosts_that_are_no_text_are_refused() -> None:
    for byte in range(256):
        if byte not in b" \t":
            assert refusal([(b"host", b"localhost" + bytes([byte]))]) is None if byte in b".:" else True
            assert refusal([(b"host", bytes([byte]) + b"127.0.0.1")]) is not None


@pytest.mark.parametrize("name", ["origin", "Origin", "ORIGIN"])
@pytest.mark.parametrize(
    "origin",
    ["https://page.example", "http://127.0.0.1:4566", "http://localhost", "null", "", " ", "file://"],
)
def test_whatever_has_an_origin_is_a_page(name: str, origin: str) -> None:
    for host in ("127.0.0.1:4566", "localhost", "[::1]:80", "a.execute-api.localhost"):
        assert refusal(request(("host", host), (name, origin))) is not None
        assert refusal(request((name, origin), ("host", host), ("sec-fetch-site", "same-origin"))) is not None


@pytest.mark.parametrize("name", ["sec-fetch-site", "Sec-Fetch-Site", "SEC-FETCH-SITE"])
def test_only_the_user_and_the_servers_own_pages_are_served(name: str) -> None:
    host = ("host", "127.0.0.1:4566")
    for site in ("none", "same-origin"):
        assert refusal(request(host, (name, site))) is None
        assert refusal(request((name, site), host, (name, site))) is None
    for site in SITES_OF_OTHERS:
        assert refusal(request(host, (name, site))) is not None
        assert refusal(request(host, (name, "none"), (name, site))) is not None
        assert refusal(request(host, (name, site), (name, "none"))) is not None


def test_what_programs_send_is_no_reason() -> None:
    """Node's fetch sends a mode without a site; a Referer, a cookie or a forwarded name decide nothing."""
    host = ("host", "127.0.0.1:4566")
    for header in (
        ("sec-fetch-mode", "cors"),
        ("referer", "https://page.example/"),
        ("x-forwarded-host", "evil.example"),
        ("access-control-request-method", "POST"),
        ("user-agent", "Mozilla/5.0"),
    ):
        assert refusal(request(host, header)) is None


@pytest.mark.parametrize(
    ("target", "served"),
    [
        ("/", True),
        ("/v1/conversations?a=http://evil.example", True),
        ("//evil.example/", True),  # a path with an empty first segment
        ("*", True),
        ("http://127.0.0.1:4566/path", True),
        ("HTTP://LOCALHOST?query", True),
        ("https://[::1]", True),
        ("http://evil.example/", False),
        ("http://evil.example:4566/127.0.0.1", False),
        ("http://127.0.0.1@evil.example/", False),
        ("http://", False),
        ("ftp://127.0.0.1/", False),
        ("evil.example:443", False),
        ("127.0.0.1:443", False),
        ("", False),
    ],
)
def test_a_target_that_is_no_path(target: str, served: bool) -> None:
    assert (refusal(request(("host", "127.0.0.1:4566")), target.encode()) is None) == served
    assert refusal(request(("host", "evil.example")), target.encode()) is not None


def test_a_reason_repeats_nothing_of_the_request() -> None:
    mark = "\x1b[31m<script>"
    for headers in (
        request(("host", mark)),
        request(("host", "localhost"), ("origin", mark)),
        request(("host", "localhost"), ("sec-fetch-site", mark)),
    ):
        reason = refusal(headers)
        assert reason is not None
        assert "script" not in reason
        assert json.loads(door.refused_body(reason)) == {"error": {"code": "FORBIDDEN", "message": reason}}


type Message = MutableMapping[str, Any]


def call(kind: str, headers: Headers, **scope: object) -> tuple[list[Message], list[Message]]:
    """Call a guarded application once; what got to it, and what was sent."""
    arrived: list[Message] = []
    sent: list[Message] = []

    async def application(scope: Message, _receive: object, send: Any) -> None:
        arrived.append(scope)
        await send({"type": "its own"})

    async def receive() -> Message:
        raise AssertionError("the door reads no body")

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(
        door.guarded(application)({"type": kind, "headers": headers, "path": "/", **scope}, receive, send)
    )
    return arrived, sent


@pytest.mark.parametrize("kind", ["http", "websocket", "something new"])
def test_the_application_gets_what_is_served_as_it_is(kind: str) -> None:
    arrived, sent = call(kind, request(("host", "localhost")))
    assert [scope["type"] for scope in arrived] == [kind]
    assert sent == [{"type": "its own"}]


def test_the_server_may_start_and_end() -> None:
    arrived, sent = call("lifespan", [])
    assert [scope["type"] for scope in arrived] == ["lifespan"]
    assert sent == [{"type": "its own"}]


@pytest.mark.parametrize(
    "headers",
    [
        request(("host", "evil.example")),
        request(("host", "localhost"), ("origin", "null")),
        request(("host", "localhost"), ("sec-fetch-site", "cross-site")),
    ],
)
def test_the_application_never_sees_what_is_refused(headers: Headers) -> None:
    arrived, sent = call("http", headers)
    assert arrived == []
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 403
    assert not any(name.startswith(b"access-control") for name, _ in sent[0]["headers"])
    assert json.loads(sent[1]["body"])["error"]["code"] == "FORBIDDEN"
    arrived, sent = call("websocket", headers)
    assert arrived == []
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_a_foreign_target_is_refused_by_the_raw_path() -> None:
    arrived, _ = call("http", request(("host", "localhost")), raw_path=b"http://evil.example/")
    assert arrived == []


def test_every_server_of_ours_is_behind_the_door() -> None:
    """Whatever listens is started by serving.py or guarded.py, on the loopback interface."""
    starts = re.compile(r"run_app|TCPSite|SockSite|start_server|HTTPServer|ThreadingTCPServer|uvicorn")
    found = {path.name for path in (REPOSITORY / "local").rglob("*.py") if starts.search(path.read_text())}
    assert found == {"serving.py"}
