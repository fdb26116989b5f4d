"""Whatever is started is ended, with everything that it started itself."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from local import processes
from local.errors import StartError

DEADLINE_SECONDS = 20
SLEEPER = "import time; time.sleep(600)"
# Ignores being asked, and has a child of its own whose pid it prints.
STUBBORN_PARENT = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "{SLEEPER}"]).pid, flush=True)
time.sleep(600)
"""


def python(program: str) -> list[str | Path]:
    return [sys.executable, "-c", program]


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def assert_ends(pid: int) -> None:
    until = time.monotonic() + DEADLINE_SECONDS
    while is_alive(pid):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_whole_group_ends_with_the_block(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with processes.running(python(STUBBORN_PARENT), log=log, env=os.environ) as parent:
        processes.wait_until_ready(
            parent, lambda: log.read_text().endswith("\n"), log=log, deadline_seconds=DEADLINE_SECONDS
        )
        child = int(log.read_text())
        assert is_alive(child)
    assert parent.returncode == -signal.SIGKILL
    assert_ends(child)


def test_the_group_ends_when_the_block_fails(tmp_path: Path) -> None:
    sleeper = processes.running(python(SLEEPER), log=tmp_path / "log", env=os.environ)
    process = sleeper.__enter__()
    assert not sleeper.__exit__(RuntimeError, RuntimeError("the block failed"), None)
    assert process.returncode == -signal.SIGKILL


def test_a_process_that_ends_before_it_is_ready_is_reported_with_its_output(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = python("print('no port left'); raise SystemExit(3)")
    with (
        processes.running(program, log=log, env=os.environ) as process,
        pytest.raises(StartError, match="no port left"),
    ):
        processes.wait_until_ready(process, lambda: False, log=log, deadline_seconds=DEADLINE_SECONDS)


def test_a_process_that_is_not_ready_in_time_is_reported(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        processes.running(python(SLEEPER), log=log, env=os.environ) as process,
        pytest.raises(StartError, match="not ready"),
    ):
        processes.wait_until_ready(process, lambda: False, log=log, deadline_seconds=0.1)


def test_the_first_interrupt_is_raised_once_and_the_clean_up_is_not_cut_short(tmp_path: Path) -> None:
    program = f"""
import os, signal, sys
from pathlib import Path
from local import processes

processes.interruptible()
try:
    with processes.running(
        [sys.executable, "-c", "{SLEEPER}"], log=Path({str(tmp_path / "child")!r}), env=os.environ
    ) as child:
        print(child.pid, flush=True)
        signal.pause()
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGINT)
    print("cleaned up", flush=True)
"""
    log = tmp_path / "log"
    environment = processes.python_environment()
    with processes.running(python(program), log=log, env=environment) as process:
        processes.wait_until_ready(
            process, lambda: log.read_text().endswith("\n"), log=log, deadline_seconds=DEADLINE_SECONDS
        )
        child = int(log.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 0
    assert log.read_text().endswith("cleaned up\n")
    assert_ends(child)


def test_a_run_directory_goes_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "BUILD", tmp_path)
    with processes.run_directory("demo") as directory:
        (directory / "log").write_text("")
    assert list(tmp_path.iterdir()) == []
