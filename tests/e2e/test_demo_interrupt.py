"""Ctrl-C ends the demo, whatever it is doing, and leaves no process, no taken port and no file."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from local import processes
from local.emulator import ministack

# What the demo has last said it is doing when the interrupt comes.
MOMENTS = [
    "Starting everything",
    "starting the three demo companies",
    "starting the AWS emulator",
    "building functions and layers",
    "deploying template.yaml",
    *(
        pytest.param(late, marks=pytest.mark.long)
        for late in ("warming up: the first call", "conversation: SUCCESS")
    ),
]
SAID_DEADLINE_SECONDS = 240
END_DEADLINE_SECONDS = 90  # most of it removes the code that the emulator unpacked for each environment


class Demo:
    """A running demo, every process that it was ever seen to have, and every port that those listened on."""

    def __init__(self, output: Path) -> None:
        self.output = output
        with output.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local.demo"],
                cwd=processes.REPOSITORY,
                env={**os.environ, **processes.python_environment()},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.root = psutil.Process(self.process.pid)
        self.descendants: set[psutil.Process] = set()
        self.ports: set[int] = set()

    def look(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self.descendants.update(self.root.children(recursive=True))
        for descendant in self.descendants:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                connections = descendant.net_connections("inet")
                self.ports.update(c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN)

    def wait_until_it_says(self, words: str) -> None:
        until = time.monotonic() + SAID_DEADLINE_SECONDS
        while words not in self.output.read_text():
            self.look()
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < until, self.output.read_text()
            time.sleep(0.02)

    def wait_until_it_ends(self) -> int:
        until = time.monotonic() + END_DEADLINE_SECONDS
        while self.process.poll() is None and time.monotonic() < until:
            self.look()
            time.sleep(0.02)
        return self.process.wait(timeout=0)

    def survivors(self) -> list[psutil.Process]:
        return [p for p in self.descendants if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path / "output")
    yield running
    running.look()
    for process in (running.root, *running.survivors()):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    running.process.wait()


@pytest.mark.timeout(300)  # the first build on a machine downloads what the layer needs
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_leaves_nothing_behind(demo: Demo, moment: str) -> None:
    demo.wait_until_it_says(moment)
    demo.look()
    # As a terminal does it: to the whole group; and as an impatient person does: again while it cleans up.
    for _ in range(3):
        with suppress(ProcessLookupError):
            os.killpg(demo.process.pid, signal.SIGINT)
        time.sleep(0.03)
    # The second is what the parent sees when the last signal met an interpreter that was already leaving.
    assert demo.wait_until_it_ends() in {processes.INTERRUPTED, -signal.SIGINT}, demo.output.read_text()
    assert "Traceback" not in demo.output.read_text()
    assert demo.survivors() == []
    for port in demo.ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"port {port} is still taken"
    assert not list(processes.BUILD.glob(f"*-{demo.process.pid}"))
    assert not list(ministack.MEMORY.glob(f"meanwhile-{demo.process.pid}-*"))
