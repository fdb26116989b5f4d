"""A way from a container to a server that listens on this machine's loopback interface alone."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer

import psutil

LOOPBACK = "127.0.0.1"


def bridge_address() -> str:
    """This machine's address in the network of its own containers, where Docker has such a network."""
    addresses = psutil.net_if_addrs().get("docker0", [])
    found = [one.address for one in addresses if one.family is socket.AF_INET]
    return found[0] if found else LOOPBACK


@contextmanager
def relayed(port: int, address: str) -> Iterator[int]:
    """Pass on what arrives at `address` to `port` of the loopback interface; yields the port to call.

    with relayed(4566, bridge_address()) as port:
        ...  # containers call http://host.docker.internal:{port}
    """

    class Connection(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((LOOPBACK, port)) as server:
                answers = threading.Thread(target=_copy, args=(server, self.request))
                answers.start()
                _copy(self.request, server)
                answers.join()

    class Server(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server((address, 0), Connection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
