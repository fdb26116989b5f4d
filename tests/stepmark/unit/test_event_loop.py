"""Async steps share one event loop, and one that calls the engine does not stop the others."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from stepmark import (
    Engine,
    EventPending,
    For,
    Go,
    HandlerFailed,
    MemoryStore,
    On,
    Section,
    Status,
    Step,
    Wait,
    Workflow,
)

from tests.stepmark.support import until

SECONDS = 60.0  # for what a deadlock would never let come

ENGINES: list[Engine] = []
LOOPS: set[int] = set()
ENTERED, LEAVE = threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    LOOPS.clear()
    ENTERED.clear()
    LEAVE.clear()
    yield
    LEAVE.set()
    ENGINES.clear()


def engine_of(*classes: type[Workflow], callback_seconds: float = SECONDS) -> Engine:
    ENGINES[:] = [Engine(classes, store=MemoryStore(), callback_seconds=callback_seconds)]
    return ENGINES[0]


def in_background(engine: Engine, workflow: Workflow, workflow_id: str) -> threading.Thread:
    thread = threading.Thread(target=engine.start, args=(workflow, workflow_id), daemon=True)
    thread.start()
    return thread


@dataclass
class Patient(Workflow):
    """An async step that goes on once it is told to, and then an event."""

    rounds: int = 0

    def definition(self) -> Section:
        return Section(Step("wait", self.wait), Wait("for it", On("double", self.double)))

    async def wait(self) -> None:
        ENTERED.set()
        LOOPS.add(id(asyncio.get_running_loop()))
        while not LEAVE.is_set():
            self.rounds += 1
            await asyncio.sleep(0.001)

    async def double(self, number: int) -> int:
        await asyncio.sleep(0)
        if number < 0:
            raise ValueError("too small")
        return 2 * number


@dataclass
class Sender(Workflow):
    """Async steps of all kinds that send an event to it."""

    how: str
    output: int = 0

    def definition(self) -> Section:
        into = self.how in {"into", "task"}
        step = Step("send", self.send, into="output") if into else Step("send", self.send_and_keep)
        if self.how == "handler":
            return Section(Wait("for go", On("go", self.send_and_keep)))
        return Section(step)

    async def send(self) -> int:
        if self.how == "task":
            return (await asyncio.gather(self.call()))[0]
        return await self.call()

    async def call(self) -> int:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        LOOPS.add(id(loop))
        LEAVE_SOON.set()
        output: int = ENGINES[0].callback("patient", "double", 4)
        assert asyncio.current_task() is task
        assert asyncio.get_running_loop() is loop
        async with asyncio.timeout(SECONDS):
            await asyncio.sleep(0.001)
        return output

    async def send_and_keep(self) -> None:
        self.output = await self.send()


LEAVE_SOON = threading.Event()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["change", "into", "task", "handler"])
def test_an_engine_call_of_an_async_step_does_not_hold_the_loop_that_it_waits_for(how: str) -> None:
    LEAVE_SOON.clear()
    engine = engine_of(Patient, Sender)
    patient = in_background(engine, Patient(), "patient")
    assert ENTERED.wait(SECONDS)
    if how == "handler":
        engine.start(Sender(how), "sender")
        threading.Thread(target=engine.callback, args=("sender", "go"), daemon=True).start()
    else:
        in_background(engine, Sender(how), "sender")
    assert LEAVE_SOON.wait(SECONDS)

    def is_posted() -> bool:
        record = engine.runtime.store.load("patient")
        return record is not None and "double" in record.progress.partition('"events"')[2]

    until(is_posted)  # the sender waits now, for a workflow whose step needs the loop
    LEAVE.set()
    until(lambda: engine.get("sender").status is Status.FINISHED)
    assert engine.get("sender").state.output == 8
    patient.join(SECONDS)
    assert len(LOOPS) == 1  # clients that belong to a loop can be kept between steps


@dataclass
class Refused(Workflow):
    seen: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(Step("send", self.send))

    async def send(self) -> None:
        for number in (-1, 1):
            try:
                ENGINES[0].callback("patient", "double", number)
            except HandlerFailed as error:
                self.seen.append(type(error).__name__)
            await asyncio.sleep(0)


@pytest.mark.timeout(120)
def test_a_step_goes_on_after_an_engine_call_that_has_raised() -> None:
    engine = engine_of(Patient, Refused)
    LEAVE.set()
    engine.start(Patient(), "patient")
    assert engine.start(Refused(), "refused").state.seen == ["HandlerFailed"]


SEMAPHORES: list[asyncio.Semaphore] = []


@dataclass
class Child(Workflow):
    depth: int
    width: int
    found: list[int] = field(default_factory=list)

    def definition(self) -> Section:
        steps = [
            Go("t", Step(f"s{n}", partial(self.ask, n), into=self.take), id=n) for n in range(self.width)
        ]
        return Section(*steps, Step("sync", self.run_own_loop))

    async def ask(self, _number: int) -> int:
        LOOPS.add(id(asyncio.get_running_loop()))
        async with SEMAPHORES[0]:
            await asyncio.sleep(0.001)
        if self.depth == 0:
            return 1
        below = ENGINES[0].start(Child(self.depth - 1, self.width))
        async with SEMAPHORES[0]:
            await asyncio.sleep(0)
        return sum(below.state.found)

    async def take(self, number: int) -> None:
        await asyncio.sleep(0)
        self.found.append(number)

    def run_own_loop(self) -> None:
        asyncio.run(asyncio.sleep(0))


@pytest.mark.timeout(120)
def test_many_steps_at_once_may_each_start_workflows_with_async_steps() -> None:
    SEMAPHORES[:] = [asyncio.Semaphore(3)]
    engine = engine_of(Child)
    thread = in_background(engine, Child(2, 4), "top")
    thread.join(SECONDS)
    snapshot = engine.get("top")
    assert snapshot.status is Status.FINISHED
    assert sum(snapshot.state.found) == 4**3
    assert len(LOOPS) == 1
    until(lambda: sum(t.name == "stepmark-asyncio" for t in threading.enumerate()) == 1)


@dataclass
class Exits(Workflow):
    done: bool = False

    def definition(self) -> Section:
        return Section(For("until done", not self.done, Step("exit", self.exit)))

    async def exit(self) -> None:
        task = asyncio.create_task(self.leave())
        done, _ = await asyncio.wait([task])
        self.done = isinstance(done.pop().exception(), SystemExit)

    async def leave(self) -> None:
        await asyncio.sleep(0)
        sys.exit(3)


@pytest.mark.timeout(120)
def test_a_task_of_a_step_that_exits_does_not_end_the_loop() -> None:
    engine = engine_of(Exits)
    in_background(engine, Exits(), "w").join(SECONDS)
    assert engine.get("w").status is Status.FINISHED


WAITING_AT_EXIT = """
import asyncio, threading
from dataclasses import dataclass
from stepmark import Engine, MemoryStore, On, Section, Step, Wait, Workflow

entered = threading.Event()

@dataclass
class Busy(Workflow):
    def definition(self):
        return Section(Step("wait", self.wait), Wait("w", On("it", None)))

    async def wait(self):
        entered.set()
        await asyncio.sleep(3600)

@dataclass
class Caller(Workflow):
    def definition(self):
        return Section(Step("call", self.call))

    async def call(self):
        calling.set()
        engine.callback("busy", "it")

calling = threading.Event()
engine = Engine([Busy, Caller], store=MemoryStore(), callback_seconds=3600)
threading.Thread(target=engine.start, args=(Busy(), "busy"), daemon=True).start()
assert entered.wait(30)
threading.Thread(target=engine.start, args=(Caller(), "caller"), daemon=True).start()
assert calling.wait(30)
"""


def test_a_process_ends_though_a_step_waits_for_the_engine() -> None:
    stepmark: Any = sys.modules["stepmark"]
    environment = {"PYTHONPATH": str(Path(stepmark.__file__).parents[1])}
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", WAITING_AT_EXIT], check=False, capture_output=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")


@dataclass
class Impatient(Workflow):
    pending: bool = False

    def definition(self) -> Section:
        return Section(Step("send", self.send))

    async def send(self) -> None:
        try:
            ENGINES[0].callback("patient", "double", 4)
        except EventPending:
            self.pending = True


@pytest.mark.timeout(120)
def test_steps_of_others_go_on_while_a_call_waits_in_vain() -> None:
    engine = engine_of(Patient, Impatient, callback_seconds=0.5)
    in_background(engine, Patient(), "patient")
    assert ENTERED.wait(SECONDS)
    assert engine.start(Impatient(), "impatient").state.pending
    LEAVE.set()
    until(lambda: engine.get("patient").state.rounds > 50)
