"""A server that answers with the bytes that a test gives it, for what no well-behaved server sends.

with raw_server(lambda _request: [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"]) as server:
    server.url   # "http://127.0.0.1:43417"
"""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_SILENCE_SECONDS = 5
_END_SECONDS = 2 * _SILENCE_SECONDS

type Script = Callable[[bytes], Iterable[bytes]]
"""Takes a request, headers and body; its pieces are sent as they come, then the connection is closed."""


@dataclass
class RawServer:
    """Where it listens, and what it was sent."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    bytes_sent: int = 0
    threads: list[threading.Thread] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def run(self, work: Callable[..., None], *arguments: object) -> None:
        """Do it in a thread that has to end with the server."""
        thread = threading.Thread(target=work, args=(self, *arguments), daemon=True)
        self.threads.append(thread)
        thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def raw_server(script: Script) -> Iterator[RawServer]:
    """Serve on a free port for the length of a `with` block, each connection in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = RawServer(listener.getsockname()[1])
        server.run(_accept, listener, script)
        try:
            yield server
        finally:
            server.closed.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in server.threads:
                thread.join(_END_SECONDS)
            left = [thread.name for thread in server.threads if thread.is_alive()]
            assert left == [], "a connection's thread goes on after its server"


def _accept(server: RawServer, listener: socket.socket, script: Script) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        server.run(_answer, connection, script)


def _answer(server: RawServer, connection: socket.socket, script: Script) -> None:
    with connection:
        connection.settimeout(_SILENCE_SECONDS)  # a client that neither sends nor takes anything is gone
        try:
            request = _read(connection)
            server.requests.append(request)
            for piece in script(request):
                if server.closed.is_set():
                    return
                connection.sendall(piece)
                server.bytes_sent += len(piece)
        except OSError:
            pass  # the client has seen enough


def _read(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        request += _receive(connection)
    head, _, body = request.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.partition(b":")[2]):
                body += _receive(connection)
    return head + b"\r\n\r\n" + body


def _receive(connection: socket.socket) -> bytes:
    received = connection.recv(65_536)
    if not received:
        raise ConnectionError("the client has closed the connection")
    return received


def http(body: bytes, *headers: str, status: str = "200 OK", content_type: str = "application/json") -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
