"""Steps with `into` that are in the air while the workflow changes under them."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from stepmark import (
    Budget,
    Engine,
    EventPending,
    For,
    Go,
    MemoryStore,
    On,
    Section,
    Status,
    Step,
    Wait,
    Workflow,
    WorkflowClosed,
)
from stepmark.testing import VirtualClock

from tests.stepmark.support import CountingStore, until

HOLD = threading.Event()


@pytest.fixture(autouse=True)
def _hold() -> Iterator[None]:
    HOLD.clear()
    yield
    HOLD.set()


@dataclass
class Vanishing(Workflow):
    """A thread that the definition no longer has once `drop` has run, while its step is in the air."""

    dropped: bool = False
    found: str = ""
    count: int = 0

    def definition(self) -> Section:
        thread = [] if self.dropped else [Go("beside", Step("slow", self.slow, into="found"))]
        return Section(
            *thread,
            Step("drop", self.drop),
            For("count", self.count < 3, Step("add", self.add)),
            Wait("for it", On("it", None)),
        )

    def slow(self) -> str:
        assert HOLD.wait(60)
        return "found"

    def drop(self) -> None:
        self.dropped = True

    def add(self) -> None:
        self.count += 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ends", [False, True])
def test_a_step_in_the_air_whose_thread_is_parked_is_forgotten(ends: bool) -> None:
    if ends:
        HOLD.set()
    engine = Engine([Vanishing], store=MemoryStore(), clock=VirtualClock())
    snapshot = engine.start(Vanishing(), workflow_id="w")
    assert snapshot.status is Status.PARKED
    assert "Go 'beside'" in str(snapshot.error)
    assert snapshot.state == Vanishing(dropped=True, count=3)
    assert snapshot.waiting_for == ["it"]
    record = engine.runtime.store.load("w")
    assert record is not None
    assert record.lease_owner is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_step_in_the_air_whose_thread_is_gone_beyond_the_budget(steps: int) -> None:
    HOLD.set()
    engine = Engine([Vanishing], store=MemoryStore(), clock=VirtualClock(), budget=Budget(steps=steps))
    engine.start(Vanishing(), workflow_id="w")
    while engine.get("w").state.count < 3:
        engine.resume("w")
    assert engine.resume("w").status is Status.PARKED


@dataclass
class Turned(Workflow):
    """The statement in the air becomes another kind of statement of the same name."""

    turned: bool = False
    found: str = ""

    def definition(self) -> Section:
        here = Wait("here", On("go", None)) if self.turned else Step("here", self.slow, into="found")
        return Section(Go("beside", here), Step("turn", self.turn), Wait("for it", On("it", None)))

    def slow(self) -> str:
        assert HOLD.wait(60)
        return "found"

    def turn(self) -> None:
        self.turned = True


@pytest.mark.timeout(60)
def test_a_step_in_the_air_that_has_become_a_wait_is_forgotten() -> None:
    engine = Engine([Turned], store=MemoryStore(), clock=VirtualClock())
    snapshot = engine.start(Turned(), workflow_id="w")
    assert snapshot.status is Status.WAITING
    HOLD.set()
    engine.callback("w", "go")
    engine.callback("w", "it")
    assert engine.get("w").state == Turned(turned=True)


@dataclass
class SlowBeside(Workflow):
    answers: list[str] = field(default_factory=list)
    found: str = ""
    count: int = 0

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("slow", self.slow, into="found"), Step("count", self.add)),
            Wait("for an answer", On("answer", self.on_answer)),
        )

    def slow(self) -> str:
        STARTED.set()
        assert HOLD.wait(60)
        RUNS.append("slow")
        return "found"

    def add(self) -> None:
        self.count += 1

    def on_answer(self, text: str) -> str:
        self.answers.append(text)
        return text


STARTED = threading.Event()
RUNS: list[str] = []


@pytest.mark.timeout(60)
def test_an_event_during_a_step_in_the_air_under_a_lease_from_the_queue_loses_nothing() -> None:
    store = CountingStore()
    sender = Engine([SlowBeside], store=store, budget=Budget(steps=0), queued=True)
    sender.start(SlowBeside(), workflow_id="w")
    record = store.load("w")
    assert record is not None
    assert record.queued
    STARTED.clear()
    RUNS.clear()
    worker = Engine([SlowBeside], store=store, queued=True)
    thread = threading.Thread(target=worker.resume, args=("w",))
    store.calls.clear()
    thread.start()
    try:
        assert STARTED.wait(60)
        until(lambda: store.calls.count("load") >= 2)  # the worker has looked for events once
        assert sender.callback("w", "answer", "yes", event_id="e") == "yes"
    finally:
        HOLD.set()
        thread.join(60)
    assert sender.get("w").status is Status.FINISHED
    assert sender.get("w").state == SlowBeside(["yes"], "found", 1)
    assert RUNS == ["slow"]


@dataclass
class Child(Workflow):
    found: int = 0

    def definition(self) -> Section:
        return Section(Step("find", self.find, into="found"))

    def find(self) -> int:
        return 1


@dataclass
class Parent(Workflow):
    """As many steps in the air as there are threads; each runs a workflow that has one in the air, too."""

    found: int = 0

    def definition(self) -> Section:
        return Section(
            *[Go("child", Step(f"run {n}", partial(self.run, n), into=self.add), id=n) for n in range(3)]
        )

    def run(self, number: int) -> int:
        ALL_HERE.wait(60)
        return ENGINES[0].start(Child(), workflow_id=f"child {number}").state.found

    def add(self, found: int) -> None:
        self.found += found


ENGINES: list[Engine] = []
ALL_HERE = threading.Barrier(3)


@pytest.mark.timeout(60)
def test_steps_in_the_air_may_run_workflows_that_have_some_themselves() -> None:
    engine = Engine([Parent, Child], store=MemoryStore(), parallel=3)
    ENGINES[:] = [engine]
    assert engine.start(Parent(), workflow_id="parent").state.found == 3


@dataclass
class ReportsToItself(Workflow):
    """A step in the air that sends an event to its own workflow, before it ends."""

    seen: list[str] = field(default_factory=list)
    found: str = ""

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("slow", self.slow, into="found")),
            Wait("for news", On("news", self.on_news)),
        )

    def slow(self) -> str:
        ENGINES[0].callback("w", "news", "half done")
        until(lambda: ENGINES[0].get("w").state.seen == ["half done"])
        return "done"

    def on_news(self, text: str) -> None:
        self.seen.append(text)


@pytest.mark.timeout(120)
def test_what_a_step_in_the_air_sends_to_its_own_workflow_does_not_wait_for_its_end() -> None:
    ENGINES[:] = [Engine([ReportsToItself], store=MemoryStore())]
    snapshot = ENGINES[0].start(ReportsToItself(), workflow_id="w")
    assert snapshot.state == ReportsToItself(["half done"], "done")
    with pytest.raises(WorkflowClosed):
        ENGINES[0].callback("w", "news", "late")


@dataclass
class RefusesNews(ReportsToItself):
    """The handler fails the first time; the step that has sent the event does not wait for that."""

    def slow(self) -> str:
        ENGINES[0].callback("w", "news", "half done")
        until(lambda: len(RUNS) > 0)
        return "done"

    def on_news(self, text: str) -> None:
        RUNS.append(text)
        if len(RUNS) == 1:
            raise ConnectionError
        self.seen.append(text)


@pytest.mark.timeout(120)
def test_what_a_step_in_the_air_has_sent_is_tried_again_when_its_handler_raises() -> None:
    RUNS.clear()
    ENGINES[:] = [Engine([RefusesNews], store=MemoryStore())]
    ENGINES[0].start(RefusesNews(), workflow_id="w")
    assert ENGINES[0].get("w").waiting_for == ["news"]
    until(lambda: ENGINES[0].resume("w").status is Status.FINISHED)
    assert ENGINES[0].get("w").state == RefusesNews(["half done"], "done")


@dataclass
class Cancelled(SlowBeside):
    def slow(self) -> str:
        STARTED.set()
        assert HOLD.wait(60)
        try:
            ENGINES[0].callback("w", "answer", "late", event_id="late")
        except (WorkflowClosed, EventPending) as error:
            RUNS.append(type(error).__name__)
        return "found"


@pytest.mark.timeout(60)
def test_a_step_in_the_air_of_a_cancelled_workflow_is_told_so() -> None:
    engine = Engine([Cancelled], store=MemoryStore())
    ENGINES[:] = [engine]
    STARTED.clear()
    RUNS.clear()
    thread = threading.Thread(target=engine.start, args=(Cancelled(), "w"))
    thread.start()
    assert STARTED.wait(60)
    engine.cancel("w")
    HOLD.set()
    thread.join(60)
    engine.close()
    assert RUNS == ["WorkflowClosed"]
