"""HTTP to the companies and the CRM, bounded in time, in bytes and in what is kept between two requests.

An answer is taken as it was sent. It is asked for without a content encoding and refused with one, since
three kilobytes of nested compression unpack to gigabytes; its bytes are counted as they come; and whoever
waits stops waiting when the time is over, whatever the event loop is doing by then.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import json
import re
import ssl
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import httpx

from conversation import library_logs

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

library_logs.silence()

MAX_ANSWER_BYTES = 256 * 1024
# What requests go through in place of the connections of their event loop; for an httpx.MockTransport.
transport: ContextVar[httpx.AsyncBaseTransport | None] = ContextVar("transport", default=None)
_CONNECT_SECONDS = 1.5
# How much later than its time-out the event loop may be before it counts as stuck.
_GRACE_SECONDS = 0.25
# An integer with more digits is read as a float: converting it is quadratic, and Python refuses over 4,300.
_MAX_DIGITS = 400
_BEFORE_JSON = re.compile(rb"(?:" + codecs.BOM_UTF8 + rb"|[ \t\r\n])*")


class HttpError(Exception):
    """No answer that can be used. The message follows a service's name and tells nothing of what was sent.

    `kind` is the name of what the library raised, such as `ReadTimeout`; empty where it raised nothing.
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


class Unacceptable(HttpError):
    """An answer came that is too large, or compressed."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
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
) -> HttpAnswer:
    """Send one request and read the whole answer; to be run by `run_within`, which bounds the time.

        await send("GET", "https://alpha.example/customers", params={"phone": "+33612345678"})

    `auth` is a user and a password for HTTP Basic. Nothing is kept between two requests but the connection:
    no cookies. Redirects are not followed: they would carry the credentials elsewhere. Raises HttpError.
    """
    try:
        request = httpx.Request(
            method,
            url,
            params=params,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "meanwhile",
                **({"Authorization": _basic(*auth)} if auth else {}),
                **(headers or {}),
            },
            json=json,
            data=form,
            # `run_within` bounds the whole; a connection that is not there after this long will not come.
            extensions={"timeout": {"connect": _CONNECT_SECONDS, "read": None, "write": None, "pool": None}},
        )
    except (httpx.InvalidURL, ValueError):
        raise CannotBeSent("was not asked: its URL or credentials cannot be sent") from None
    try:
        response = await (transport.get() or _connections()).handle_async_request(request)
        try:
            return HttpAnswer(response.status_code, await _read(response))
        finally:
            await response.aclose()
    except httpx.TimeoutException as error:
        kind = type(error).__name__
        raise TimedOut(f"timed out ({kind})", kind) from None
    except httpx.UnsupportedProtocol:
        raise CannotBeSent("was not asked: its URL or credentials cannot be sent") from None
    except (httpx.HTTPError, ssl.SSLError) as error:
        kind = type(error).__name__
        raise Unreachable(f"could not be reached ({kind})", kind) from None


async def _read(response: httpx.Response) -> bytes:
    encodings = ",".join(response.headers.get_list("content-encoding")).split(",")
    if {encoding.strip().lower() for encoding in encodings} - {"", "identity"}:
        raise Unacceptable("answered in a content encoding that it was not asked for")
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_ANSWER_BYTES:
        raise Unacceptable(f"answered with more than {MAX_ANSWER_BYTES:,} bytes")
    body = bytearray()
    # The stream itself: the response's own iterators unpack, or keep a second copy.
    async for chunk in response.stream:  # type: ignore[union-attr]
        body += chunk
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
    if loop in _transports:
        await _transports.pop(loop).aclose()
    loop.stop()


# Connections outlive an invocation only if their event loop does. It runs in a thread of its own: Lambda
# freezes it between invocations together with everything else.
_loop_lock = threading.Lock()
_transports: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncBaseTransport] = WeakKeyDictionary()


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


def _connections() -> httpx.AsyncBaseTransport:
    """Return the connection pool of the running loop.

    The transport and not the client of httpx: that one keeps cookies, unpacks, and logs URLs.
    """
    loop = asyncio.get_running_loop()
    if loop not in _transports:
        _transports[loop] = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=60),
            trust_env=False,
        )
    return _transports[loop]
