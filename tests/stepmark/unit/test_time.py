"""Elapsed time is measured, and no lease ends, by a wall clock that may be set."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from stepmark import (
    Budget,
    Engine,
    EventPending,
    For,
    MemoryStore,
    On,
    Retry,
    Section,
    SqliteStore,
    Status,
    Step,
    Store,
    Timeout,
    Wait,
    Workflow,
    current,
    run_worker,
)
from stepmark.runtime import owners
from stepmark.testing import LocalEngine, VirtualClock

from tests.stepmark.support import until

HOUR = 3600.0
SECONDS = 60.0

RUNS: list[str] = []
ENTERED, LEAVE = threading.Event(), threading.Event()
CLOCKS: list[VirtualClock] = []


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    RUNS.clear()
    ENTERED.clear()
    LEAVE.clear()
    yield
    LEAVE.set()


class SetClock:
    """A clock as a program of one's own may have: the machine's, and set by so much."""

    def __init__(self, by: float = 0.0) -> None:
        self.by = by

    def now(self) -> float:
        return time.time() + self.by

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class Held(Workflow):
    """A step that goes on once it is told to, and then an event."""

    count: int = 0

    def definition(self) -> Section:
        return Section(Step("held", self.held), Wait("for it", On("it", None)))

    def held(self) -> None:
        RUNS.append(current().workflow_id)
        ENTERED.set()
        assert LEAVE.wait(SECONDS)
        self.count += 1


def hold(engine: Engine, workflow_id: str = "w") -> threading.Thread:
    thread = threading.Thread(target=engine.start, args=(Held(), workflow_id), daemon=True)
    thread.start()
    assert ENTERED.wait(SECONDS)
    return thread


@pytest.mark.timeout(60)
@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_a_sender_waits_as_long_as_it_was_told_whatever_the_clock_is_set_to(by: float) -> None:
    clock, store = SetClock(), MemoryStore()
    thread = hold(Engine([Held], store=store))

    class Setting(MemoryStore):
        """The clock is set once the event is there."""

        def commit(self, record: object, expected_version: int) -> None:
            store.commit(record, expected_version)  # type: ignore[arg-type]
            clock.by = by

    posting = Setting()
    posting.load = store.load  # type: ignore[method-assign]
    sender = Engine([Held], store=posting, clock=clock, callback_seconds=0.5)
    began = time.monotonic()
    with pytest.raises(EventPending):
        sender.callback("w", "it")
    assert 0.5 <= time.monotonic() - began < 20
    LEAVE.set()
    thread.join(SECONDS)


def test_a_sender_whose_clock_moves_by_sleeping_alone_waits_no_longer_than_that() -> None:
    class Sleeping:
        def __init__(self) -> None:
            self.at = 1_000_000.0

        def now(self) -> float:
            return self.at

        def sleep(self, seconds: float) -> None:
            self.at += seconds

    store, clock = MemoryStore(), Sleeping()
    hold(Engine([Held], store=store, clock=clock, lease_seconds=HOUR))
    with pytest.raises(EventPending):
        Engine([Held], store=store, clock=clock, callback_seconds=HOUR / 2).callback("w", "it")
    assert clock.at < 1_000_000 + HOUR


@dataclass
class Counting(Workflow):
    """Each step takes a second, and the wall clock is set meanwhile."""

    by: float
    count: int = 0

    def definition(self) -> Section:
        return Section(For("count", self.count < 10, Step("add", self.add)))

    def add(self) -> None:
        CLOCKS[0].sleep(1)
        CLOCKS[0].set(CLOCKS[0].now() + self.by)
        self.count += 1


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_a_budget_ends_when_its_time_has_passed(by: float) -> None:
    CLOCKS[:] = [VirtualClock()]
    engine = Engine([Counting], store=MemoryStore(), clock=CLOCKS[0], budget=Budget(seconds=2.5))
    assert engine.start(Counting(by)).state.count == 3


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "w.db")


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_a_clock_that_is_set_takes_no_workflow_from_a_holder_that_lives(store: Store, by: float) -> None:
    clock = SetClock()
    holder, other = (Engine([Held], store=store, clock=clock, lease_seconds=1.0) for _ in range(2))
    thread = hold(holder)
    clock.by = by
    stop = threading.Event()
    worker = threading.Thread(target=run_worker, args=(other,), kwargs={"stop": stop, "poll_seconds": 0.01})
    worker.start()

    def lease_until() -> float:
        record = store.load("w")
        assert record is not None
        assert record.lease_until is not None
        return record.lease_until

    try:
        assert other.resume("w").status is Status.RUNNING
        until(lambda: abs(lease_until() - clock.now()) < 3)  # the lease goes by the new time now
        first = lease_until()
        until(lambda: lease_until() > first + 2)  # and is prolonged, several times
    finally:
        LEAVE.set()
        thread.join(SECONDS)
        stop.set()
        worker.join(SECONDS)
    assert RUNS == ["w"]
    assert holder.get("w").state.count == 1


FROZEN = """
import sys, threading
from dataclasses import dataclass
from stepmark import Engine, Section, SqliteStore, Step, Wait, On, Workflow

@dataclass
class Held(Workflow):
    count: int = 0

    def definition(self):
        return Section(Step("held", self.held), Wait("for it", On("it", None)))

    def held(self):
        print("entered", flush=True)
        sys.stdin.read()

Engine([Held], store=SqliteStore(sys.argv[1]), lease_seconds=float(sys.argv[2])).start(Held(), "w")
"""


def in_another_process(path: Path, lease_seconds: float) -> subprocess.Popen[str]:
    environment = {"PYTHONPATH": str(Path(sys.modules["stepmark"].__file__ or "").parents[1])}
    command = [sys.executable, "-c", FROZEN, str(path), str(lease_seconds)]
    process = subprocess.Popen(  # noqa: S603 - this interpreter
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "entered\n"
    return process


@pytest.mark.timeout(120)
def test_a_process_whose_clock_is_an_hour_ahead_takes_nothing_from_one_that_lives(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    LEAVE.set()
    ahead = Engine([Held], store=SqliteStore(path), clock=SetClock(HOUR))
    with in_another_process(path, lease_seconds=15) as process:
        try:
            assert ahead.resume("w").status is Status.RUNNING
            assert RUNS == []
        finally:
            process.kill()
            process.wait(30)
    assert ahead.resume("w").state.count == 1  # it has died: nobody waits for its lease


def test_a_lease_from_before_the_machine_was_started_anew_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = owners.with_end(owners.new_owner(), 1e9)
    if "@" not in holder:
        pytest.skip("this system does not say when it was started")
    owners.begin(holder.partition("@")[0])
    assert owners.end_of(holder) == 1e9
    assert not owners.has_died(holder)
    monkeypatch.setattr(owners, "_boot", lambda: "another0")
    assert owners.end_of(holder) is None
    assert owners.has_died(holder)
    owners.end(holder.partition("@")[0])


@pytest.mark.parametrize(
    "holder", ["", "me", "me@", "elsewhere/1:7:00@12345678-9.5", "x@y@z", "queue-a:b:c@d-e"]
)
def test_of_a_lease_elsewhere_the_end_is_not_known(holder: str) -> None:
    assert owners.end_of(holder) is None


# -- the clock of tests -----------------------------------------------------------------------------------


@dataclass
class Timed(Workflow):
    """Timers one after another, and retries."""

    each: float
    rounds: int = 0
    failures: int = 0

    def definition(self) -> Section:
        return Section(
            For(
                "rounds",
                self.rounds < 10_000,
                Wait("a while", On("over", Timeout(seconds=self.each))),
                Step("count", self.count, retry=Retry(attempts=99, first_delay=0.1, factor=1, jitter=0)),
            )
        )

    def count(self) -> None:
        if current().attempt <= self.failures:
            raise ConnectionError
        self.rounds += 1


@pytest.mark.parametrize(
    ("each", "by", "times", "rounds"),
    [
        (1, 0.1, 10, 1),
        (1, 0.1, 500, 50),
        (0.1, 1, 1, 10),
        (0.1, 0.3, 100, 300),
        (0.3, 0.1, 900, 300),
        (0.7, 0.1, 7, 1),
        (1e-6, 1e-5, 7, 70),
    ],
)
def test_times_of_tests_add_up(each: float, by: float, times: int, rounds: int) -> None:
    for start in (0.0, 0.1, 0.3, 1 / 3):
        engine = LocalEngine(Timed)
        engine.advance(seconds=start)
        engine.start(Timed(each), workflow_id="w")
        for _ in range(times):
            engine.advance(seconds=by)
        assert engine.get("w").state.rounds == rounds
    engine = LocalEngine(Timed)
    before = engine.clock.now()
    for _ in range(10):
        engine.advance(seconds=0.1, minutes=0.1, hours=0.1, days=0.1)
    assert engine.clock.now() == before + 1 + 60 + 3600 + 86400


def test_a_retry_is_due_when_its_delays_add_up() -> None:
    engine = LocalEngine(Timed)
    engine.start(Timed(1, failures=10), workflow_id="w")
    engine.advance(seconds=1)
    for _ in range(9):
        engine.advance(seconds=0.1)
    assert engine.get("w").state.rounds == 0
    engine.advance(seconds=0.1)
    assert engine.get("w").state.rounds == 1


def test_a_virtual_clock_counts_sleeps_of_any_length() -> None:
    clock = VirtualClock(0.0)
    for _ in range(10):
        clock.sleep(0.1)
    assert clock.now() == clock.monotonic() == 1.0
    clock.sleep(1e-9)
    assert clock.now() > 1.0
    clock.set(500.0)
    clock.sleep_until(100.0)
    assert (clock.now(), clock.monotonic() < 2) == (500.0, True)
    clock.sleep_until(501.5)
    assert (clock.now(), clock.monotonic() < 3) == (501.5, True)
