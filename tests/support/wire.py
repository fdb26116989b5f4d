"""What stands in for the network in tests: a handler of httpx, for requests that the project's client sends.

http_client.transport.set(answered_by(lambda request: httpx.Response(200, json=[])))
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import httpx

from conversation.connections import Request


class Answer:
    """An answer as the project's client reads it."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Sequence[tuple[bytes, bytes]] = response.headers.raw

    async def pieces(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, httpx.AsyncByteStream)
        async for piece in self._response.stream:
            yield piece

    async def release(self) -> None:
        await self._response.aclose()


def answered_by(
    handler: Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Awaitable[httpx.Response]],
) -> Callable[[Request], Awaitable[Answer]]:
    """Make of a handler what `http_client.transport` takes."""
    mock = httpx.MockTransport(handler)  # type: ignore[arg-type]

    async def ask(request: Request) -> Answer:
        scheme = "https" if request.origin.is_tls else "http"
        host = dict(request.head.headers)[b"host"].decode()
        sent = httpx.Request(
            request.head.method.decode(),
            f"{scheme}://{host}{request.head.target.decode()}",
            headers=list(request.head.headers),
            content=request.body,
        )
        return Answer(await mock.handle_async_request(sent))

    return ask
