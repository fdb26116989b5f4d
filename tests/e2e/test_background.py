"""`make up` and `make down`: a stack in the background, and nothing left of it afterwards."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from local import processes
from local.background import CALLER

DEADLINE_SECONDS = 20

# The first build on a machine downloads what the layer needs.
pytestmark = pytest.mark.timeout(300)


def background(command: str, directory: Path) -> str:
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "local.background", command, directory],
        cwd=processes.REPOSITORY,
        env={**os.environ, **processes.python_environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "up"
    background("down", tmp_path / "up")


def all_processes(directory: Path) -> list[psutil.Process]:
    """The process that holds everything, the emulator and the companies."""
    state = json.loads((directory / "state.json").read_text())
    return [psutil.Process(process["pid"]) for process in (state["holder"], *state["held"])]


def assert_ended(ended: list[psutil.Process]) -> None:
    until = time.monotonic() + DEADLINE_SECONDS
    while alive := [p for p in ended if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < until, alive
        time.sleep(0.05)


def paste(lines: str) -> str:
    """Run the commands among the lines that `up` prints, as somebody who pastes them does."""
    commands = re.findall(r"^(?:API=|curl ).*$", lines, re.MULTILINE)
    script = "\n".join(['curl() { command curl --silent --show-error --fail "$@"; }', *commands])
    done = subprocess.run(  # noqa: S603 - our own commands
        ["/usr/bin/env", "bash", "-e", "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_up_twice_and_down_twice(directory: Path) -> None:
    printed = background("up", directory)
    state = json.loads((directory / "state.json").read_text())
    with httpx.Client(base_url=state["api_url"], headers={"x-api-key": state["api_key"]}, timeout=30) as http:
        assert http.get("/conversations/nobody").status_code == 404
        assert '"customerId": "G-1042"' in paste(printed)
        # Gamma is broken now, and beta knows somebody.
        (stranger,) = re.findall(r'"beta": \{"(\+\d+)"', printed)
        for number, status, source in ((CALLER, "FAILED", "gamma"), (stranger, "SUCCESS", "beta")):
            start = {"conversationId": status, "callerNumber": number}
            assert http.post("/conversations", json=start).status_code == 202
            document = http.get(f"/conversations/{status}", params={"wait": 20}).json()
            assert document["status"] == status
            assert document["sources"][source] == {"FAILED": "UNAVAILABLE", "SUCCESS": "MATCH"}[status]
    started = all_processes(directory)
    assert len(started) == 3

    assert "up already" in background("up", directory)
    assert all_processes(directory) == started

    background("down", directory)
    assert_ended(started)
    assert not directory.exists()
    assert "nothing is up" in background("down", directory)


def test_down_ends_what_a_killed_holder_left(directory: Path) -> None:
    directory.mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    holder = {"pid": ended.pid, "created": psutil.Process(ended.pid).create_time()}
    ended.wait()
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    ) as left:
        held = {"pid": left.pid, "created": psutil.Process(left.pid).create_time()}
        (directory / "state.json").write_text(json.dumps({"holder": holder, "held": [held]}))
        background("down", directory)
        assert left.wait(DEADLINE_SECONDS) != 0


def test_a_state_of_before_a_restart_ends_nobody_elses_process(directory: Path) -> None:
    directory.mkdir()
    # This process: the pid is right, and the moment it was created is not.
    holder = {"pid": os.getpid(), "created": psutil.Process().create_time() - 1000}
    (directory / "state.json").write_text(json.dumps({"holder": holder, "held": [holder]}))
    background("down", directory)
    assert not directory.exists()
