"""Senders, workers and operators who meet: real threads, no time to wait for."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from stepmark import (
    Engine,
    EventPending,
    Go,
    Handler,
    LocalScheduler,
    MemoryStore,
    On,
    Request,
    Section,
    Snapshot,
    Status,
    Step,
    StoreUnavailable,
    Wait,
    Workflow,
    WorkflowBusy,
    current,
    run_worker,
)
from stepmark.testing import LocalEngine

from tests.stepmark.support import RUN_OUT, Noted, until


@dataclass
class Gates:
    """Holds a step until a test lets it go on."""

    entered: threading.Event = field(default_factory=threading.Event)
    leave: threading.Event = field(default_factory=threading.Event)

    def pass_through(self) -> None:
        self.entered.set()
        assert self.leave.wait(60)


GATES = Gates()


@pytest.fixture(autouse=True)
def gates() -> Iterator[Gates]:
    global GATES  # noqa: PLW0603 - the workflows below are classes, and reach it by name
    GATES = Gates()
    yield GATES
    GATES.leave.set()


@dataclass
class LongBeside(Workflow):
    """A long step alongside a wait for an event."""

    found: str = ""
    answers: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("long", self.long, into="found")),
            Wait("for an answer", On("answer", self.on_answer)),
        )

    def long(self) -> str:
        GATES.pass_through()
        return "found"

    def on_answer(self, text: str) -> str:
        self.answers.append(text)
        return text.upper()


@dataclass
class LongAlone(Workflow):
    """A long step that changes the state, and a wait after it."""

    count: int = 0

    def definition(self) -> Section:
        return Section(Step("long", self.long), Wait("for an answer", On("answer", self.on_answer)))

    def long(self) -> None:
        GATES.pass_through()
        self.count += 1

    def on_answer(self, amount: int) -> int:
        self.count += amount
        return self.count


def in_background(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_an_event_is_answered_while_another_worker_runs_a_long_step(gates: Gates) -> None:
    store = MemoryStore()
    runner = Engine([LongBeside], store=store)
    thread = in_background(lambda: runner.start(LongBeside(), workflow_id="w"))
    assert gates.entered.wait(60)
    sender = Engine([LongBeside], store=store)
    assert sender.callback("w", "answer", "yes", event_id="e") == "YES"  # the long step has not ended
    assert sender.callback("w", "answer", "yes", event_id="e") == "YES"
    gates.leave.set()
    thread.join(60)
    snapshot = sender.get("w")
    assert snapshot.status is Status.FINISHED
    assert snapshot.state == LongBeside("found", ["yes"])


def test_an_event_that_meets_a_long_change_is_kept_and_answered_later(gates: Gates) -> None:
    store = MemoryStore()
    runner = Engine([LongAlone], store=store)
    thread = in_background(lambda: runner.start(LongAlone(), workflow_id="w"))
    assert gates.entered.wait(60)
    sender = Engine([LongAlone], store=store, callback_seconds=0.05)
    with pytest.raises(EventPending):
        sender.callback("w", "answer", 10, event_id="e")
    with pytest.raises(WorkflowBusy):
        sender.retry("w")
    with pytest.raises(WorkflowBusy):
        sender.move("w", "main", "long")
    assert sender.resume("w").status is Status.RUNNING  # left alone
    gates.leave.set()
    thread.join(60)
    assert sender.callback("w", "answer", 10, event_id="e") == 11
    assert sender.get("w").state.count == 11


def test_a_cancellation_does_not_wait_for_a_long_step_whose_change_is_dropped(gates: Gates) -> None:
    store = MemoryStore()
    runner = Engine([LongAlone], store=store)
    seen: list[Snapshot] = []
    thread = in_background(lambda: seen.append(runner.start(LongAlone(), workflow_id="w")))
    assert gates.entered.wait(60)
    assert Engine([LongAlone], store=store).cancel("w").status is Status.CANCELLED
    gates.leave.set()
    thread.join(60)
    assert seen[0].status is Status.CANCELLED
    assert runner.get("w").state.count == 0


class AsyncTask(Handler[str, dict[str, str]]):
    async def setup(self, request: Request[dict[str, str]]) -> dict[str, str]:
        Noted.log.append(f"set up {current().statement}")
        return {"for": request.thread}

    async def handle(self, request: Request[dict[str, str]], payload: str) -> str:
        return f"{payload} {request.setup_data}"

    async def teardown(self, request: Request[dict[str, str]], handled: bool) -> None:
        Noted.log.append(f"torn down {request.setup_data} {handled}")


@dataclass
class AllAsync(Workflow):
    count: int = 0

    def definition(self) -> Section:
        return Section(Step("add", self.add), Wait("w", On("task", AsyncTask())), Step("again", self.add))

    async def add(self) -> None:
        self.count += 1


def test_actions_and_handlers_may_be_async() -> None:
    Noted.take()
    engine = LocalEngine(AllAsync)
    engine.start(AllAsync(), workflow_id="w")
    assert engine.callback("w", "task", "hello") == "hello {'for': 'main'}"
    assert Noted.take() == ["set up task", "torn down {'for': 'main'} True"]
    assert engine.get("w").state.count == 2


@dataclass
class Quick(Workflow):
    done: bool = False

    def definition(self) -> Section:
        return Section(Wait("w", On("go", None)), Step("do", self.do))

    def do(self) -> None:
        self.done = True


@dataclass
class Foreign(Workflow):
    """A workflow of a newer deploy, which this worker does not know."""

    def definition(self) -> Section:
        return Section(Step("do", self.do))

    def do(self) -> None: ...


class ShakyStore(MemoryStore):
    """Can't be asked for due work at first."""

    failures = 2

    def due(self, now: float, limit: int) -> list[str]:  # type: ignore[override] # one that can't choose
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable
        return super().due(now, limit)


@pytest.mark.parametrize("scheduler", [None, LocalScheduler()])
def test_a_worker_goes_on_beside_what_it_cannot_run(
    scheduler: LocalScheduler | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "stepmark")
    store = ShakyStore()
    crashed = Engine([Foreign, Quick], store=store, lease_seconds=RUN_OUT)
    for number in range(40):
        with pytest.raises(ZeroDivisionError):  # created, and then its process is gone
            _crash_after_create(crashed, f"foreign {number:02}")
    engine = Engine([Quick], store=store, scheduler=scheduler)
    engine.start(Quick(), workflow_id="quick")
    stop = threading.Event()
    thread = in_background(lambda: run_worker(engine, stop=stop, poll_seconds=0.01, concurrency=2))
    try:
        engine.callback("quick", "go")
        until(lambda: engine.get("quick").status is Status.FINISHED)
        until(lambda: caplog.text.count("could not be resumed") >= 40)
    finally:
        stop.set()
        thread.join(60)
    assert "the store could not be asked for due work: StoreUnavailable" in caplog.text


def _crash_after_create(engine: Engine, workflow_id: str) -> None:
    create = engine.runtime.store.create

    class Gone(MemoryStore):
        def create(self, record: Any) -> bool:
            create(record)
            raise ZeroDivisionError

    Engine([Foreign], store=Gone(), lease_seconds=RUN_OUT).start(Foreign(), workflow_id=workflow_id)


def test_logs_hold_no_messages_of_users_errors(caplog: pytest.LogCaptureFixture) -> None:
    @dataclass
    class Secret(Workflow):
        def definition(self) -> Section:
            return Section(Step("do", self.do))

        def do(self) -> None:
            raise ConnectionError("secret")

    caplog.set_level(logging.DEBUG)
    engine = LocalEngine(Secret)
    engine.start(Secret(), workflow_id="w")
    engine.advance(hours=2)
    assert engine.get("w").status is Status.PARKED
    assert "secret" not in caplog.text
