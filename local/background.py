"""`make up` and `make down`: the stack on this machine, running in the background for playing with.

`up` starts a process that holds everything and waits; `down` asks it to end. Which process, and where the API
answers, is kept in .build/up.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import BaseModel

from local import ivr, processes, system
from local.companies import Behaviour, Customer, Fault
from local.console import console, step
from local.demo.story import LATENCIES
from local.emulator.warm_up import warm_up
from local.errors import LocalError, NotInTime, StartError
from local.waiting import wait_until

DIRECTORY = processes.BUILD / "up"
_STATE = "state.json"
_LOG = "log"
_END_DEADLINE_SECONDS = 30
# The README's caller: its answers are those of this stack.
CALLER = "+33639980001"
CUSTOMER = Customer(customer_id="G-1042", first_name="Jean", last_name="Dupont", segment="vip")
_STRANGER = "+33639980002"
_NEW_CUSTOMER = Customer(customer_id="B-7", first_name="Jeanne", last_name="Martin", segment="gold")


class _Process(BaseModel):
    """A process, told apart from a later one that was given the same pid."""

    pid: int
    created: float

    @classmethod
    def of(cls, process: psutil.Process) -> "_Process":
        return cls(pid=process.pid, created=process.create_time())

    def find(self) -> psutil.Process | None:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


class _State(BaseModel):
    """The process that holds everything and, once all is ready, what it holds and where it answers."""

    holder: _Process
    held: list[_Process] = []
    api_url: str = ""
    api_key: str = ""
    companies_url: str = ""


def up(directory: Path = DIRECTORY) -> int:
    """Start everything in the background, show how it goes, and say how to call it."""
    state = _read(directory)
    if state is not None and state.holder.find():
        console.print("  it is up already" if state.api_url else "  it is being started already")
        _say_how_to_call(state)
        return 0
    if state is not None:
        _end(state, directory)  # its holder was killed, and may have left what it held
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _LOG).open("wb") as log:
        holder = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "local.background", "hold", directory],
            cwd=processes.REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        state = _follow(holder, directory)
    except KeyboardInterrupt:
        holder.terminate()
        holder.wait()
        console.print("\n  interrupted; everything that was started has ended")
        return processes.INTERRUPTED
    if state is None:
        console.print("[red]  it did not start[/]; above is why")
        return 1
    _say_how_to_call(state)
    return 0


def down(directory: Path = DIRECTORY) -> int:
    """End what `up` started."""
    state = _read(directory)
    if state is None:
        console.print("  nothing is up")
        return 0
    with step("ending the stack on this machine"):
        _end(state, directory)
    return 0


def hold(directory: Path = DIRECTORY) -> int:
    """Start everything, note where it answers, and keep it until a signal comes."""
    processes.interruptible()
    state = _State(holder=_Process.of(psutil.Process()))
    _write(state, directory)
    try:
        with system.running(directory, progress=step) as everything, ivr.calling(everything.stack) as caller:
            with step("warming up: the first call of a function takes a second or more"):
                warm_up(everything.stack, everything.companies, caller)
            for source, latency in LATENCIES.items():
                everything.companies.behave(source, Behaviour(latency=latency))
            everything.companies.know("gamma", {CALLER: CUSTOMER})
            state.held = [_Process.of(child) for child in psutil.Process().children()]
            state.api_url, state.api_key = everything.stack.api_url, everything.stack.api_key
            state.companies_url = everything.companies.url
            _write(state, directory)
            while all(held.find() for held in state.held):
                time.sleep(1)
            raise StartError(f"the emulator or the companies have ended; see the logs in {directory}")
    except KeyboardInterrupt:
        return 0
    except LocalError as error:
        console.print(f"\n[red]{type(error).__name__}[/]", error)
        return 1


def _end(state: _State, directory: Path) -> None:
    if holder := state.holder.find():
        holder.terminate()
    with suppress(NotInTime):
        wait_until(lambda: not state.holder.find(), seconds=_END_DEADLINE_SECONDS, pause=0.05)
    for process in (state.holder, *state.held):
        if process.find():
            os.killpg(process.pid, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


def _follow(holder: subprocess.Popen[bytes], directory: Path) -> _State | None:
    """Show the holder's output until all is ready, or None when it ends before."""
    with (directory / _LOG).open() as log:
        while True:
            ended = holder.poll() is not None
            console.out(log.read(), end="", highlight=False)
            if ended:
                return None
            state = _read(directory)
            if state is not None and state.api_url:
                return state
            time.sleep(0.1)


def _read(directory: Path) -> _State | None:
    with suppress(FileNotFoundError):
        return _State.model_validate_json((directory / _STATE).read_bytes())
    return None


def _write(state: _State, directory: Path) -> None:
    # Readers see the old file or the new one, never half of one; and it holds the API key.
    new = directory / f"{_STATE}.new"
    new.touch(mode=0o600)
    new.write_text(state.model_dump_json())
    new.replace(directory / _STATE)


def _say_how_to_call(state: _State) -> None:
    if not state.api_url:
        return
    start = json.dumps({"conversationId": "c1", "callerNumber": CALLER})
    attributes = json.dumps({"reason": "billing"})
    call = 'curl -H "x-api-key: $KEY" -H "content-type: application/json"'
    console.print(
        "\n  Gamma knows the caller. Start, write participant data, read; `make down` ends it all:\n"
    )
    console.out(f"API={state.api_url} KEY={state.api_key} COMPANIES={state.companies_url}")
    console.out(f"{call} $API/conversations -d '{start}'")
    console.out(f"{call} $API/conversations/c1/attributes -X PATCH -d '{attributes}'")
    console.out(f'{call} "$API/conversations/c1?wait=20"\n')
    customers = json.dumps({"beta": {_STRANGER: _NEW_CUSTOMER.model_dump()}})
    broken = Behaviour(latency=LATENCIES["gamma"], fault=Fault.SERVER_ERROR)
    behaviours = json.dumps({"gamma": {"usual": broken.model_dump()}})
    console.print(
        f"  The demo companies are at {state.companies_url}. Let beta know another caller, and break gamma\n"
        '  ("fault": null mends it; local/companies/model.py has all faults):\n'
    )
    console.out(f"curl $COMPANIES/_control/customers -X PATCH -d '{customers}'")
    console.out(f"curl $COMPANIES/_control/behaviours -X PATCH -d '{behaviours}'")


if __name__ == "__main__":
    command, *directories = sys.argv[1:]
    sys.exit({"up": up, "down": down, "hold": hold}[command](*map(Path, directories)))
