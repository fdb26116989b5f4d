"""HTTP to the companies and the CRM, bounded in time, in bytes and in what is kept between two requests.

An answer is taken as it was sent. It is asked for without a content encoding and refused with one, since
three kilobytes of nested compression unpack to gigabytes; its bytes are counted as they come; and whoever
waits stops waiting when the time is over, whatever the event loop is doing by then.

Why no larger library does this: docs/decisions/http-client.md.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import json
import re
import threading
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit
from weakref import WeakKeyDictionary

import h11

from conversation import connections, library_logs
from conversation.connections import ConnectTimeout, Origin, Pool, Request

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence

library_logs.silence()

MAX_ANSWER_BYTES = 256 * 1024
# How much later than its time-out the event loop may be before it counts as stuck.
_GRACE_SECONDS = 0.25
# An integer with more digits is read as a float: converting it is quadratic, and Python refuses over 4,300.
_MAX_DIGITS = 400
_PORTS = {"http": 80, "https": 443}
# What may stand in a path as it is; all else is escaped.
_IN_A_PATH = "/%:@!$&'()*+,;=~"
# What OpenSSL calls the alerts of whoever does not take a client's certificate, or misses one. With TLS 1.3
# they come in place of the answer (python/cpython#110197), with TLS 1.2 in place of the connection.
_ABOUT_OUR_CERTIFICATE = frozenset({
    "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_REVOKED",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "SSLV3_ALERT_HANDSHAKE_FAILURE", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
    "TLSV1_ALERT_ACCESS_DENIED", "TLSV1_ALERT_UNKNOWN_CA", "TLSV13_ALERT_CERTIFICATE_REQUIRED",
})  # fmt: skip
_BEFORE_JSON = re.compile(rb"(?:" + codecs.BOM_UTF8 + rb"|[ \t\r\n])*")


class HttpError(Exception):
    """No answer that can be used. The message follows a service's name and tells nothing of what was sent.

    `kind` is the name of what was raised, such as `ConnectionRefusedError`; empty where nothing was.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class CannotBeSent(HttpError):
    """The URL or a header is invalid: nothing was sent."""


class TimedOut(HttpError):
    """Nothing came in time; a second try would only make it worse."""


class Unreachable(HttpError):
    """Refused, reset or garbled, or a kept connection that died meanwhile: a second try may succeed."""


class CertificateRefused(HttpError):
    """The other side did not take the certificate that it was shown, or wants one and saw none."""


class Unacceptable(HttpError):
    """An answer came that is too large, or compressed."""


class Answering(Protocol):
    """An answer that has begun to come."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]

    def pieces(self) -> AsyncIterator[bytes]:
        """Read the body as it comes."""

    async def release(self) -> None:
        """End it, however much of it was read."""


# What requests go through in place of the connections of their event loop.
transport: ContextVar[Callable[[Request], Awaitable[Answering]] | None] = ContextVar(
    "transport", default=None
)


class HttpAnswer(NamedTuple):
    """An answer that came whole and in time, whatever its status."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Read the body as JSON, ignoring byte-order marks before it. Raises ValueError when it is invalid.

        What Python's parser takes beyond JSON, such as NaN and half of a surrogate pair, is for whoever
        uses the value to judge: refusing it here would lose a whole list for one entry.
        """
        start = _BEFORE_JSON.match(self.body)
        text = self.body[start.end() if start else 0 :].decode()
        try:
            return json.loads(text, parse_int=_read_int)
        except RecursionError:
            raise ValueError("nested too deeply") from None


async def send(
    method: str,
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    json: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
    alone: bool = False,
    tls: ssl.SSLContext | None = None,
) -> HttpAnswer:
    """Send one request and read the whole answer; to be run by `run_within`, which bounds the time.

        await send("GET", "https://alpha.example/customers", params={"phone": "+33612345678"})

    `auth` is a user and a password for HTTP Basic. `tls` is which certificate to show and whom to trust, None
    for none and whom the runtime trusts; each has its own connections. Nothing is kept between two requests
    but the connection: no cookies. Redirects are not followed: they would carry the credentials elsewhere.

    Whatever is sent has to be safe to send twice: when a kept connection stays silent, the request goes out
    once more on a new one, and the service may have done already what it asks. `alone` is for what must not
    be on its way twice at once: the first is given up before the second is sent. Raises HttpError.
    """
    try:
        request = _request(
            method,
            url,
            params,
            dict(headers or {}),
            document=json,
            form=form,
            auth=auth,
            alone=alone,
            tls=tls,
        )
    except (h11.LocalProtocolError, ValueError):
        raise CannotBeSent("was not asked: its URL or credentials cannot be sent") from None
    try:
        answering = await (transport.get() or _pool().ask)(request)
        try:
            return HttpAnswer(answering.status, await _read(answering))
        finally:
            await answering.release()
    except (ConnectTimeout, OSError, h11.RemoteProtocolError) as error:
        raise _named(error) from None


def _named(error: Exception) -> HttpError:
    """Say what has failed on the way to an answer."""
    kind = type(error).__name__
    if isinstance(error, ConnectTimeout):
        return TimedOut(f"timed out ({kind})", kind)
    reason = getattr(error, "reason", None)  # of TLS
    if reason in _ABOUT_OUR_CERTIFICATE:
        return CertificateRefused(f"did not take the client certificate, or wants one ({reason})", kind)
    return Unreachable(f"could not be reached ({kind})", kind)


def _request(
    method: str,
    url: str,
    params: Mapping[str, str] | None,
    headers: dict[str, str],
    *,
    document: Mapping[str, str] | None,
    form: Mapping[str, str] | None,
    auth: tuple[str, str] | None,
    alone: bool,
    tls: ssl.SSLContext | None,
) -> Request:
    """Make a request. Raises ValueError or h11.LocalProtocolError for what cannot be sent."""
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("ascii" if url.isascii() else "idna").decode()
    if not host:
        raise ValueError("no host")
    origin = Origin(parts.scheme == "https", host, parts.port or _PORTS[parts.scheme], tls)
    body = b""
    if document is not None:
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        headers["Content-Type"] = "application/json"
    elif form is not None:
        body = urlencode(form).encode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if body:
        headers["Content-Length"] = str(len(body))
    if auth:
        headers["Authorization"] = _basic(*auth)
    literal = f"[{host}]" if ":" in host else host
    common = {
        "Host": literal if origin.port == _PORTS[parts.scheme] else f"{literal}:{origin.port}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "meanwhile",
    }
    query = urlencode(params or {}) or parts.query
    target = (quote(parts.path, safe=_IN_A_PATH) or "/") + (f"?{query}" if query else "")
    head = h11.Request(method=method, target=target, headers=list({**common, **headers}.items()))
    return Request(origin, head, body, alone)


async def _read(answering: Answering) -> bytes:
    def all_of(name: bytes) -> str:
        return ",".join(value.decode("latin-1") for key, value in answering.headers if key.lower() == name)

    if {encoding.strip().lower() for encoding in all_of(b"content-encoding").split(",")} - {"", "identity"}:
        raise Unacceptable("answered in a content encoding that it was not asked for")
    length = all_of(b"content-length")
    if length.isdecimal() and int(length) > MAX_ANSWER_BYTES:
        raise Unacceptable(f"answered with more than {MAX_ANSWER_BYTES:,} bytes")
    body = bytearray()
    async for piece in answering.pieces():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise Unacceptable(f"answered with more than {MAX_ANSWER_BYTES:,} bytes")
    return bytes(body)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _read_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def run_within[Result](seconds: float, work: Coroutine[object, object, Result]) -> Result:
    """Run a coroutine to its end, or raise TimedOut after that many seconds, whatever it waits for.

        run_within(5, send("GET", "https://alpha.example/customers"))

    The coroutine is cancelled in its event loop. A loop that is too busy to do that ends by itself once it is
    no longer, and the next coroutine gets a new one.
    """
    loop = _loop()
    future = asyncio.run_coroutine_threadsafe(_bounded(seconds, work), loop)
    try:
        return future.result(seconds + _GRACE_SECONDS)
    except TimeoutError:
        if future.cancel():
            with _loop_lock:
                if _running_loop() is loop:
                    _running_loop.cache_clear()
                    asyncio.run_coroutine_threadsafe(_end(), loop)
        raise TimedOut(f"gave no answer within {seconds:.1f} s") from None


async def _bounded[Result](seconds: float, work: Coroutine[object, object, Result]) -> Result:
    async with asyncio.timeout(seconds):
        return await work


async def _end() -> None:
    """End the running loop after all that it still does, and its connections and thread with it."""
    loop = asyncio.get_running_loop()
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    if loop in _pools:
        _pools.pop(loop).close()
        await asyncio.sleep(0)  # in which they are closed
    loop.stop()


def prepare(url: str, tls: ssl.SSLContext | None = None) -> None:
    """Have ready what a first request to that URL would wait for, but for the connection itself."""
    _loop()
    if url.startswith("https:") and tls is None:
        connections.tls()


# Connections outlive an invocation only if their event loop does. It runs in a thread of its own: Lambda
# freezes it between invocations together with everything else.
_loop_lock = threading.Lock()
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()


def _loop() -> asyncio.AbstractEventLoop:
    with _loop_lock:
        return _running_loop()


@cache
def _running_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()

    def run() -> None:
        loop.run_forever()
        loop.close()

    threading.Thread(target=run, name="http", daemon=True).start()
    return loop


def _pool() -> Pool:
    """Return the connections of the running loop."""
    return _pools.setdefault(asyncio.get_running_loop(), Pool())
