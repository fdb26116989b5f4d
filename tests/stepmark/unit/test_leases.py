"""Who runs a workflow while a step takes longer than the lease, and who is woken up afterwards."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from stepmark import (
    Budget,
    DoNotRetry,
    Engine,
    EventPending,
    For,
    Go,
    Handler,
    MemoryStore,
    On,
    Record,
    Request,
    Section,
    SqliteStore,
    Status,
    Step,
    Timeout,
    VersionConflict,
    Wait,
    Workflow,
    WorkflowClosed,
    current,
    run_worker,
)
from stepmark.runtime import owners
from stepmark.runtime.heartbeat import HEARTBEAT
from stepmark.runtime.owners import begin, end, has_died, new_owner
from stepmark.testing import LocalEngine, VirtualClock

from tests.stepmark.support import RUN_OUT, CountingStore, settle

RUNS: list[str] = []
SENDERS: list[Engine] = []


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    RUNS.clear()
    yield
    SENDERS.clear()


@dataclass
class Long(Workflow):
    """A step that changes the state and takes several leases."""

    count: int = 0

    def definition(self) -> Section:
        return Section(Wait("start", On("go", None)), Step("long", self.long), Wait("end", On("it", None)))

    def long(self) -> None:
        RUNS.append(current().workflow_id)
        time.sleep(1.2)
        self.count += 1


@pytest.mark.timeout(120)
def test_whoever_calls_keeps_the_lease_beside_a_worker(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    engine, other = (Engine([Long], store=SqliteStore(path), lease_seconds=0.4) for _ in range(2))
    stop = threading.Event()
    worker = threading.Thread(target=run_worker, args=(other,), kwargs={"stop": stop, "poll_seconds": 0.02})
    worker.start()
    try:
        engine.start(Long(), workflow_id="w")
        engine.callback("w", "go")
    finally:
        stop.set()
        worker.join(60)
    assert RUNS == ["w"]
    assert engine.get("w").state.count == 1


def test_a_call_that_is_soon_over_costs_no_thread_of_its_own() -> None:
    engines = [Engine([Long], store=MemoryStore()) for _ in range(20)]
    for engine in engines:
        engine.start(Long(), workflow_id="w")
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("stepmark-heartbeat") <= 1


@dataclass
class Posted(Workflow):
    """A long step during which somebody else sends an event, and the heart goes on beating."""

    count: int = 0
    left: list[float] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(Step("long", self.long), Wait("for it", On("it", None)))

    def long(self) -> None:
        holder, sender = SENDERS
        thread = threading.Thread(target=send, args=(sender,))
        thread.start()
        thread.join(60)
        clock = holder.runtime.clock
        for _ in range(8):
            clock.sleep(15)
            holder.renew_leases()
            record = holder.runtime.store.load("w")
            assert record is not None
            assert record.lease_until is not None
            self.left.append(record.lease_until - clock.now())
        self.count += 1


def send(engine: Engine) -> None:
    with pytest.raises(EventPending):
        engine.callback("w", "it", event_id="e")


def test_the_lease_is_prolonged_after_an_event_was_posted_and_the_event_counts() -> None:
    store, clock = MemoryStore(), VirtualClock()
    holder, sender = (
        Engine([Posted], store=store, clock=clock, callback_seconds=0, lease_seconds=60) for _ in range(2)
    )
    SENDERS[:] = [holder, sender]
    snapshot = holder.start(Posted(), workflow_id="w")
    assert min(snapshot.state.left) >= 30 - 0.001
    assert snapshot.status is Status.FINISHED
    assert snapshot.state.count == 1


class Racing(MemoryStore):
    """Something is posted between any load and the commit that follows."""

    race = False

    def commit(self, record: Record, expected_version: int) -> None:
        if self.race:
            raise VersionConflict(record.workflow_id)
        super().commit(record, expected_version)


@dataclass
class Renewed(Workflow):
    def definition(self) -> Section:
        return Section(Step("long", self.long))

    def long(self) -> None:
        engine = SENDERS[0]
        store = engine.runtime.store
        assert isinstance(store, Racing)
        engine.runtime.clock.sleep(40)
        store.race = True
        engine.renew_leases()
        store.race = False
        engine.renew_leases()
        record = store.load("w")
        assert record is not None
        RUNS.append(str(record.lease_until == engine.runtime.clock.now() + 60))


def test_a_heartbeat_that_is_overtaken_tries_again_with_the_next_beat() -> None:
    SENDERS[:] = [Engine([Renewed], store=Racing(), clock=VirtualClock(), lease_seconds=60)]
    assert SENDERS[0].start(Renewed(), workflow_id="w").status is Status.FINISHED
    assert RUNS == ["True"]


def test_a_heartbeat_without_a_lease_is_no_heartbeat() -> None:
    engine = Engine([Long], store=MemoryStore(), lease_seconds=RUN_OUT)
    HEARTBEAT.watch(engine._leases)
    assert engine._leases not in HEARTBEAT._watched


# -- wake-ups -------------------------------------------------------------------------------------------


class Wakes:
    """A scheduler that remembers what it was asked for."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def wake(self, workflow_id: str, at: float) -> None:
        del workflow_id
        self.at.append(at)


@dataclass
class Noting(Workflow):
    """Notes come while a timer runs; it is the timer of one and the same Wait throughout."""

    notes: int = 0

    def definition(self) -> Section:
        return Section(
            Go("timer", Wait("for time", On("over", Timeout(seconds=100)))),
            For("notes", self.notes < 9, Wait("for a note", On("note", None)), Step("keep", self.keep)),
        )

    def keep(self) -> None:
        self.notes += 1


def test_guarantee_05_a_timer_whose_wake_up_may_have_come_too_early_is_set_again() -> None:
    wakes, clock = Wakes(), VirtualClock()
    engine = Engine([Noting], store=MemoryStore(), scheduler=wakes, clock=clock)
    engine.start(Noting(), workflow_id="w")
    due = clock.now() + 100
    assert wakes.at == [due]
    engine.callback("w", "note")
    clock.sleep(90)
    engine.callback("w", "note")
    assert wakes.at == [due]  # one message a timer
    clock.sleep(9.5)  # that message may be on its way, and find the workflow leased
    engine.callback("w", "note")
    assert wakes.at == [due, due]


# -- teardowns that can't be done -----------------------------------------------------------------------


class Stuck(Handler[None, str]):
    mended = False

    def setup(self, request: Request[str]) -> str:
        return f"ticket of {request.thread}"

    def handle(self, request: Request[str], payload: None) -> None: ...

    def teardown(self, request: Request[str], handled: bool) -> None:
        if not Stuck.mended:
            raise DoNotRetry(f"{request.setup_data}, handled: {handled}")


@dataclass
class Rounds(Workflow):
    rounds: int = 0

    def definition(self) -> Section:
        return Section(
            For(
                "rounds",
                self.rounds < 1_000,
                Wait("for it", On("it", Stuck()), On("tick", Timeout(seconds=1))),
                Step("count", self.count),
            )
        )

    def count(self) -> None:
        self.rounds += 1


def test_guarantee_03_the_record_does_not_grow_with_teardowns_that_fail() -> None:
    Stuck.mended = False
    engine = LocalEngine(Rounds)
    engine.start(Rounds(), workflow_id="w")
    engine.advance(seconds=30)
    record = engine.store.load("w")
    assert record is not None
    engine.advance(minutes=10)
    later = engine.store.load("w")
    assert later is not None
    assert len(later.progress) == len(record.progress)
    assert engine.get("w").state.rounds == 20
    assert engine.get("w").status is Status.PARKED
    assert "teardown" in str(engine.get("w").error)
    Stuck.mended = True
    engine.retry("w")
    engine.advance(seconds=30)
    assert engine.get("w").state.rounds > 40
    assert engine.get("w").status is Status.WAITING


def test_a_cancelled_workflow_with_a_broken_definition_is_torn_down_once_it_is_mended() -> None:
    @dataclass
    class Waiting(Workflow, name="mended"):
        def definition(self) -> Section:
            return Section(Wait("for it", On("it", Noted())))

    @dataclass
    class Broken(Workflow, name="mended"):
        def definition(self) -> Section:
            raise RuntimeError("a bad deploy")

    class Noted(Handler[None, None]):
        def setup(self, request: Request[None]) -> None:
            RUNS.append(f"{request.event} set up")

        def handle(self, request: Request[None], payload: None) -> None: ...

        def teardown(self, request: Request[None], handled: bool) -> None:
            RUNS.append(f"{request.event} torn down, handled: {handled}")

    store, clock = CountingStore(), VirtualClock()
    Engine([Waiting], store=store, clock=clock).start(Waiting(), workflow_id="w")
    snapshot = Engine([Broken], store=store, clock=clock).cancel("w")
    assert snapshot.status is Status.PARKED
    assert "a bad deploy" in str(snapshot.error)
    assert [record.workflow_id for record in store.live()] == ["w"]
    mended = Engine([Waiting], store=store, clock=clock)
    with pytest.raises(WorkflowClosed):
        mended.callback("w", "it")
    assert mended.retry("w").status is Status.CANCELLED
    assert RUNS == ["it set up", "it torn down, handled: False"]
    assert mended.get("w").error is None


# -- a lease from the queue -----------------------------------------------------------------------------


@dataclass
class Two(Workflow):
    count: int = 0

    def definition(self) -> Section:
        return Section(Step("one", self.add), Step("two", self.add))

    def add(self) -> None:
        RUNS.append(current().statement)
        self.count += 1
        if len(RUNS) == 1:  # the same message is delivered to another worker
            again = SENDERS[0].resume("w")
            assert again.status is Status.FINISHED


def test_a_wake_up_delivered_twice_commits_each_step_once() -> None:
    """As Engine(queued=True) says: the first step's effect may happen twice, its commit does not."""
    store, clock = MemoryStore(), VirtualClock()
    start = Engine([Two], store=store, clock=clock, queued=True, budget=Budget(steps=0))
    start.start(Two(), workflow_id="w")
    SENDERS[:] = [Engine([Two], store=store, clock=clock, queued=True)]
    engine = Engine([Two], store=store, clock=clock, queued=True)
    assert engine.resume("w").state.count == 2
    assert RUNS == ["one", "one", "two"]
    settle(engine)
    assert engine.get("w").state.count == 2


@dataclass
class Many(Workflow):
    done: list[int] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(For("count", len(self.done) < 9, Step("add", self.add)))

    def add(self) -> None:
        self.done.append(len(self.done))
        RUNS.append("add")
        if len(RUNS) == 1:  # another worker takes the same message, gets further, and puts it back
            SENDERS[0].resume("w", Budget(steps=3))


def test_guarantee_01_of_two_who_take_a_wake_up_the_slower_overwrites_nothing() -> None:
    store, clock = CountingStore(), VirtualClock()
    start = Engine([Many], store=store, clock=clock, queued=True, budget=Budget(steps=0))
    start.start(Many(), workflow_id="w")
    SENDERS[:] = [Engine([Many], store=store, clock=clock, queued=True)]
    engine = Engine([Many], store=store, clock=clock, queued=True)
    assert engine.resume("w").state.done == [0, 1, 2]
    assert [len(record.state) for record in store.records] == sorted(
        len(record.state) for record in store.records
    )
    assert engine.resume("w").state.done == list(range(9))
    assert len(RUNS) == 10  # the first step ran twice, and nothing else


@pytest.mark.parametrize(
    "holder",
    [
        "",
        "me",
        "queue-a:b:c",
        f"elsewhere/1:{2**22 + 1}:0011223344556677",
        new_owner().rpartition(":")[0].rpartition(":")[0] + ":1:0011223344556677",  # the first process lives
    ],
)
def test_of_a_holder_elsewhere_nothing_is_known(holder: str) -> None:
    assert not has_died(holder)


def test_a_holder_of_this_process_lives_until_it_says_that_it_has_ended() -> None:
    holder = new_owner()
    begin(holder)
    assert not has_died(holder)
    end(holder)
    assert has_died(holder)


def test_a_process_that_is_no_more_has_died() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    machine, _, random_part = new_owner().split(":")
    assert process.wait(30) == 0
    assert has_died(f"{machine}:{process.pid}:{random_part}")


@dataclass
class StepFirst(Workflow):
    def definition(self) -> Section:
        return Section(
            Step("a", lambda: None), Wait("w", On("go", None)), Step("b", lambda: None, into=lambda _: None)
        )


def test_nobody_is_remembered_as_a_holder_once_the_calls_are_over() -> None:
    before = set(vars(owners)["_OURS"])
    engine = LocalEngine(StepFirst)
    for _ in range(3):
        engine.start(StepFirst(), workflow_id="w")
        engine.resume("w")
    engine.callback("w", "go")
    assert vars(owners)["_OURS"] == before
