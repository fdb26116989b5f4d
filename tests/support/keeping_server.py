"""A server whose connections outlive an answer, until a test has them end: with a word or without one.

with keeping_server(lambda one: http(b"{}") if one.number == 0 else Fate.RESET) as server:
    server.url   # "http://127.0.0.1:43417"

`tls` makes it https, with a certificate that only `trusted` makes anybody trust.
"""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.cloud import wait_until

_SILENCE_SECONDS = 20
_END_SECONDS = 2 * _SILENCE_SECONDS


class Fate(Enum):
    """What comes instead of an answer."""

    SWALLOWED = auto()  # nothing; the connection stays, as when something on the way has forgotten it
    CLOSED = auto()  # the end of the connection
    RESET = auto()  # the same, without a word: what a closed port says


class Asked(NamedTuple):
    """A request: which connection it came over, and the how manieth it is there, both from 0."""

    connection: int
    number: int
    content: bytes


type Answer = bytes | Fate
type Script = Callable[[Asked], Answer]


@dataclass
class KeepingServer:
    """Where it listens, what it was asked, and which connections their clients have closed."""

    port: int
    scheme: str
    asked: list[Asked] = field(default_factory=list)
    closed_by_client: list[int] = field(default_factory=list)
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)  # by the server
    over: set[int] = field(default_factory=set)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def say(self, connection: int, content: bytes) -> None:
        """Send what nobody has asked for, over a connection that is kept."""
        self.sockets[connection].sendall(content)

    def end(self, connection: int, fate: Fate) -> None:
        """End a connection that is kept."""
        self.ended.add(connection)
        _end(self.sockets[connection], fate)
        wait_until(lambda: connection in self.over)

    def places(self, containing: bytes = b"") -> list[tuple[int, int]]:
        """Over which connection each request came, and as the how manieth."""
        return [(one.connection, one.number) for one in self.asked if containing in one.content]


@contextmanager
def keeping_server(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[KeepingServer]:
    """Serve on a free port for the length of a `with` block, each connection in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = KeepingServer(listener.getsockname()[1], "https" if tls else "http")
        accepting = threading.Thread(target=_accept, args=(server, listener, script, tls), daemon=True)
        accepting.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(_END_SECONDS)
            for index, connection in list(server.sockets.items()):
                server.ended.add(index)
                _end(connection, Fate.CLOSED)
            for thread in server.threads:
                thread.join(_END_SECONDS)
            assert not any(one.is_alive() for one in server.threads), "a connection outlives its server"


def _accept(
    server: KeepingServer, listener: socket.socket, script: Script, tls: ssl.SSLContext | None
) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        thread = threading.Thread(
            target=_serve, args=(server, len(server.threads), connection, script, tls), daemon=True
        )
        server.threads.append(thread)
        thread.start()


def _serve(
    server: KeepingServer, index: int, plain: socket.socket, script: Script, tls: ssl.SSLContext | None
) -> None:
    plain.settimeout(_SILENCE_SECONDS)
    try:
        with plain, tls.wrap_socket(plain, server_side=True) if tls else plain as connection:
            server.sockets[index] = connection
            number = 0
            while content := _read(connection):
                asked = Asked(index, number, content)
                server.asked.append(asked)
                answer = script(asked)
                number += 1
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                elif answer is not Fate.SWALLOWED:
                    server.ended.add(index)
                    _end(connection, answer)
                    return
    except OSError:
        pass  # the client has reset it
    finally:
        if index not in server.ended:
            server.closed_by_client.append(index)
        server.over.add(index)


def _end(connection: socket.socket, fate: Fate) -> None:
    """Have the connection's own thread close it, which sends a reset when it may not linger."""
    with contextlib.suppress(OSError):  # it has ended before
        if fate is Fate.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RD)
        else:
            connection.shutdown(socket.SHUT_RDWR)


def _read(connection: socket.socket) -> bytes:
    """Read one request; nothing when its client has closed the connection."""
    content = b""
    while b"\r\n\r\n" not in content:
        received = connection.recv(65_536)
        if not received:
            return b""
        content += received
    head, _, body = content.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.partition(b":")[2]):
                body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Make a server's certificate for the loopback address; the file is what a client has to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    trusted, private = folder / "trusted.pem", folder / "private.pem"
    trusted.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return context, trusted
