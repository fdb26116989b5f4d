"""Connections to the companies and the CRM: what is sent and heard over one, and how long it is kept.

`h11` knows HTTP/1.1 (what may be sent, what has come, how large a head may be) and asyncio the network.

A kept connection may have died without anybody saying so. What stays silent on one for longer than answers
take is asked again on a new one, and when one has died, all others of its age are given up with it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple, cast

import h11

from conversation import idle, timestamps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

# A connection that is not there after this long will not come.
_CONNECT_SECONDS = 1.5
# Status line and headers, or whatever else has no end; what h11 calls an incomplete event.
_MAX_HEAD_BYTES = 100 * 1024
_MAX_KEPT = 20
# Silence on a kept connection is suspicious when it lasts this much longer than any answer has taken so far,
# and in any case after half of what a lookup has: then a new connection has the other half.
_LONGER_SECONDS = 1.0
_MAX_PATIENCE_SECONDS = 3.0


class ConnectTimeout(Exception):
    """The connection was not there in time."""


class Origin(NamedTuple):
    """Whom a connection leads to, and by which TLS settings of its own, if any, such as a certificate."""

    is_tls: bool
    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Request(NamedTuple):
    """One request. `alone` forbids that it is on its way twice at once."""

    origin: Origin
    head: h11.Request
    body: bytes
    alone: bool


@cache
def tls() -> ssl.SSLContext:
    """Return what connections trust: the runtime's certificates. To load them takes 30 to 70 ms of a core."""
    return trusting()


def trusting(authorities: str | None = None) -> ssl.SSLContext:
    """Make TLS settings that trust these certificates (PEM) alone, or the runtime's. Raises ssl.SSLError."""
    context = ssl.create_default_context(cadata=authorities)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connection(asyncio.Protocol):
    """One connection, and the answer that is coming over it."""

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self.origin = origin
        self.status = 0
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.used_at = timestamps.now()
        self._pool = pool
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._transport: asyncio.Transport
        self._is_busy = False
        self._received = bytearray()
        self._has_ended = False
        self._error: Exception | None = None
        self._news = asyncio.Event()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_busy:  # nobody has asked for it
            self.abort()
            return
        self._received += data
        self._news.set()

    def eof_received(self) -> None:
        self._has_ended = True
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended, self._error = True, exc
        self._news.set()

    # --- one exchange

    async def ask(self, request: Request) -> None:
        """Send a request and wait until its answer has begun, with `status` and `headers`.

        Raises OSError when the connection fails, and h11.RemoteProtocolError when what comes is no answer.
        """
        self._is_busy = True
        parts = [request.head, *([h11.Data(request.body)] if request.body else []), h11.EndOfMessage()]
        self._transport.write(b"".join(self._http.send(part) or b"" for part in parts))
        while not isinstance(event := await self._event(), h11.Response):
            pass  # such as 103 Early Hints
        self.status, self.headers = event.status_code, list(event.headers)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Read the answer's body as it comes. Raises as `ask` does."""
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)

    async def _event(self) -> h11.Event:
        while not isinstance(event := self._http.next_event(), h11.Event):
            if event is h11.PAUSED:
                raise h11.RemoteProtocolError("more came than was asked for")
            self._http.receive_data(await self._receive())
        return event

    async def _receive(self) -> bytes:
        """Wait for bytes; none are the end."""
        await self._news.wait()
        if self._received:
            data = bytes(self._received)
            self._received.clear()
            if not self._has_ended:
                self._news.clear()
            return data
        if self._error:
            raise self._error
        return b""

    async def release(self) -> None:
        """End the exchange: keep the connection after a whole answer, and else close it."""
        is_whole = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if is_whole and not self._received and self._http.trailing_data == (b"", False):
            self._http.start_next_cycle()
            self._is_busy, self.used_at = False, timestamps.now()
            self._pool.keep(self)
        else:
            self.abort()

    def is_usable(self) -> bool:
        """Tell whether a kept connection may be used again: it is young, and nothing has come over it."""
        return not (self._has_ended or self._transport.is_closing()) and idle.is_trusted(self.used_at)

    def abort(self) -> None:
        """Close the connection without a word."""
        self._transport.abort()


class Pool:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self._kept: dict[Origin, list[Connection]] = {}
        self._slowest: dict[Origin, float] = {}

    async def ask(self, request: Request) -> Connection:
        """Send a request, and return the connection over which its answer begins to come; then `release` it.

        When a kept connection stays silent for long, the request goes out once more, on a new connection, and
        whichever answers first counts; one that has to be `alone` is given up before. When a kept connection
        is closed, the next request has a new one. Raises as `Connection.ask` does, and ConnectTimeout.
        """
        kept = self._take(request.origin)
        if kept is None:
            return await self._ask_anew(request)
        first = asyncio.create_task(self._ask_over(kept, request))
        tries = [first]
        answering: Connection | None = None
        try:
            await asyncio.wait(tries, timeout=self._patience(request.origin))
            if not first.done() or first.exception():
                self._close(request.origin)  # the others are as old
            if not first.done():
                if request.alone:
                    first.cancel()
                    await asyncio.wait([first])
                tries.append(asyncio.create_task(self._ask_anew(request)))
            answering = await _first_answer(tries[-1:] if request.alone else tries)
            return answering
        finally:
            for one in tries:
                one.cancel()
                one.add_done_callback(partial(_abort_unless, answering))

    async def _ask_anew(self, request: Request) -> Connection:
        origin = request.origin
        create: Callable[[], Connection] = partial(Connection, self, origin)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await asyncio.get_running_loop().create_connection(
                    create,
                    origin.host,
                    origin.port,
                    ssl=(origin.tls or tls()) if origin.is_tls else None,
                    happy_eyeballs_delay=0.25,  # as RFC 8305 has it
                )
        except TimeoutError:
            raise ConnectTimeout from None
        # With TLS 1.3 a refusal of our certificate may have come by now. Whoever writes first loses it to
        # the reset that follows: half of the time on one machine.
        await asyncio.sleep(0)
        return await self._ask_over(connection, request)

    async def _ask_over(self, connection: Connection, request: Request) -> Connection:
        began = time.monotonic()
        try:
            await connection.ask(request)
        except BaseException:
            connection.abort()
            raise
        taken = time.monotonic() - began
        self._slowest[request.origin] = max(taken, self._slowest.get(request.origin, 0))
        return connection

    def _patience(self, origin: Origin) -> float:
        return min(self._slowest.get(origin, 0) + _LONGER_SECONDS, _MAX_PATIENCE_SECONDS)

    def keep(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        kept = self._kept.setdefault(connection.origin, [])
        kept.append(connection)
        if len(kept) > _MAX_KEPT:
            kept.pop(0).abort()

    def _take(self, origin: Origin) -> Connection | None:
        """Return the connection that was used last, if any may still be used."""
        for other in [one for one in self._kept if one[:3] == origin[:3] and one.tls is not origin.tls]:
            self._close(other)  # of a certificate that was replaced since
            self._slowest.pop(other, None)
        kept = self._kept.get(origin, [])
        while kept:
            connection = kept.pop()
            if connection.is_usable():
                return connection
            connection.abort()
        return None

    def _close(self, origin: Origin) -> None:
        for connection in self._kept.pop(origin, ()):
            connection.abort()

    def close(self) -> None:
        """Close all connections that are kept."""
        for origin in list(self._kept):
            self._close(origin)


async def _first_answer(tries: Sequence[asyncio.Task[Connection]]) -> Connection:
    """Wait for whichever answers first; raise what the last one raised when none does."""
    while True:
        done, pending = await asyncio.wait(tries, return_when=asyncio.FIRST_COMPLETED)
        answered = [one for one in done if one.exception() is None]
        if answered or not pending:
            return (answered or list(done))[0].result()
        tries = list(pending)


def _abort_unless(answering: Connection | None, one: asyncio.Task[Connection]) -> None:
    """Close the connection of a try whose answer nobody waits for."""
    if not one.cancelled() and one.exception() is None and one.result() is not answering:
        one.result().abort()
