"""Child processes that are always ended: by pid, with their whole process group, also after Ctrl-C."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from local.errors import StartError
from local.waiting import wait_until

REPOSITORY = Path(__file__).parent.parent
BUILD = REPOSITORY / ".build"
INTERRUPTED = 130  # the exit status that shells give a command that Ctrl-C ended

_started: dict[int, subprocess.Popen[bytes]] = {}


@dataclass
class _Interrupts:
    seen: bool = False
    held: int = 0


_interrupts = _Interrupts()


def interruptible() -> None:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a KeyboardInterrupt and ignore the ones after it.

        interruptible()   # first thing in main()

    A second Ctrl-C would cut short the clean-up that the first one began.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        already, _interrupts.seen = _interrupts.seen, True
        if not already and not _interrupts.held:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Put off an interrupt: one between a fork and its bookkeeping would lose sight of the child."""
    before = _interrupts.seen
    _interrupts.held += 1
    try:
        yield
    finally:
        _interrupts.held -= 1
    if _interrupts.seen and not before:
        raise KeyboardInterrupt


@contextmanager
def running(
    command: Sequence[str | Path], *, log: Path, env: Mapping[str, str], cwd: Path = REPOSITORY
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in its own process group for the length of a `with` block, its output going to a file.

    with running([sys.executable, "-m", "local.companies.server"], log=log, env=python_environment()):
        ...

    At the end the whole group is killed, whatever the command itself started included.
    """
    process = None
    try:
        with _interrupts_held(), log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - the commands are our own
                list(command),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            _started[process.pid] = process
        yield process
    finally:
        if process is not None:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Killed at once: none of them has anything to save, and what they leave lies in directories of ours.
    with _interrupts_held():
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        del _started[process.pid]


@atexit.register
def _stop_all() -> None:
    # Whatever an interrupt at an unlucky moment of the clean-up left behind.
    for process in list(_started.values()):
        _stop(process)


def wait_until_ready(
    process: subprocess.Popen[bytes], is_ready: Callable[[], bool], *, log: Path, deadline_seconds: float
) -> None:
    """Wait until `is_ready()` says so; `StartError` when the process ends first or the deadline passes."""

    def is_up() -> bool:
        if is_ready():
            return True
        if process.poll() is not None:
            raise StartError(f"it ended at once; its output:\n{tail(log)}")
        return False

    def late() -> StartError:
        return StartError(f"not ready after {deadline_seconds:.0f} s; its last output:\n{tail(log)}")

    wait_until(is_up, seconds=deadline_seconds, pause=0.05, late=late)


# Where `make demo` and the others look for modules too.
_IMPORTS = (".", "layers/conversation", "layers/journeys", "layers/stepmark")


def python_environment() -> dict[str, str]:
    """The environment for a module of this repository, whatever the caller's shell sets."""
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(str(REPOSITORY / path) for path in _IMPORTS),
    }


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def run_directory(name: str) -> Iterator[Path]:
    """A directory for one run's logs and temporary files, removed at the end."""
    path = BUILD / f"{name}-{os.getpid()}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
