"""A proxy in front of the emulator that behaves as AWS does on a bad day.

    with at_its_worst(seed=1) as aws, ministack.running(directory, functions_call=aws.url) as emulator:
        aws.stands_for(emulator.endpoint)
        aws.rate = 0.1   # of all requests from now on

What it does to a request is drawn from its seed and the request's number. What reaches the emulator had its
effect there, whatever the caller is told.
"""

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Longer than a client of ours waits for an answer (conversation/aws.py), shorter than any function runs.
LATE_SECONDS = 2.0
SWALLOWED_SECONDS = 8.0


class Mood(StrEnum):
    """What may happen to a request."""

    CLOSED = "the connection closes instead of an answer; nothing was done"
    CLOSED_AFTERWARDS = "the connection closes instead of an answer; it was done"
    SWALLOWED = "nothing comes, ever; nothing was done"
    BROKEN = "500; nothing was done"
    BROKEN_AFTERWARDS = "500; it was done"
    THROTTLED = "400 ThrottlingException; nothing was done"
    LATE = "the right answer, after the client's time-out; it was done"


UNDONE = {Mood.CLOSED, Mood.SWALLOWED, Mood.BROKEN, Mood.THROTTLED}


@dataclass
class Worst:
    """What the proxy stands for, how often it misbehaves, and how often it has."""

    url: str
    random: random.Random
    rate: float = 0.0
    happened: Counter[Mood] = field(default_factory=Counter)
    requests: int = 0
    _emulator: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stands_for(self, endpoint: str) -> None:
        """Pass on to this endpoint what is passed on."""
        self._emulator = str(urlsplit(endpoint).netloc)

    def draw(self) -> Mood | None:
        """What happens to the next request: usually nothing."""
        with self._lock:
            self.requests += 1
            mood = self.random.choice(list(Mood)) if self.random.random() < self.rate else None
            if mood is not None:
                self.happened[mood] += 1
            return mood

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """What the emulator answers."""
        connection = HTTPConnection(self._emulator, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


def _error(mood: Mood) -> tuple[int, dict[str, str], bytes]:
    code, status = ("ThrottlingException", 400) if mood is Mood.THROTTLED else ("InternalServerError", 500)
    body = json.dumps({"__type": code, "message": "a bad day"}).encode()
    return status, {"Content-Type": "application/x-amz-json-1.0", "x-amzn-errortype": code}, body


@contextmanager
def at_its_worst(seed: int) -> Iterator[Worst]:
    """Run the proxy on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with contextlib.suppress(OSError):  # a client that has given up
                super().handle_one_request()
                return
            self.close_connection = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            mood = worst.draw()
            if mood is Mood.SWALLOWED:
                time.sleep(SWALLOWED_SECONDS)
            done = None if mood in UNDONE else worst.ask(self.command, self.path, dict(self.headers), body)
            if mood is Mood.LATE:
                time.sleep(LATE_SECONDS)
            if mood in {Mood.CLOSED, Mood.CLOSED_AFTERWARDS, Mood.SWALLOWED}:
                self.close_connection = True
                return
            instead = mood in {Mood.BROKEN, Mood.BROKEN_AFTERWARDS, Mood.THROTTLED}
            self.send(*(_error(mood) if mood and instead else done or _error(Mood.BROKEN)))

        def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = answer  # noqa: N815 - http.server's names

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 256

    with Server(("127.0.0.1", 0), Handler) as server:
        worst = Worst(f"http://127.0.0.1:{server.server_address[1]}", random.Random(seed))  # noqa: S311 - no secret
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield worst
        finally:
            server.shutdown()
