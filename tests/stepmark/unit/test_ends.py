"""A workflow may have an end of its life, at which it is cancelled, wherever it stands."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from stepmark import (
    Budget,
    Engine,
    Go,
    Handler,
    MemoryStore,
    On,
    Record,
    Request,
    Retry,
    Section,
    SqliteStore,
    StateError,
    Status,
    Step,
    Timeout,
    UnknownWorkflow,
    Wait,
    Workflow,
    WorkflowClosed,
)
from stepmark.core.planning import GIVE_UP_SECONDS
from stepmark.core.record import Progress
from stepmark.testing import LocalEngine, VirtualClock, run_due

from tests.stepmark.support import Noted, Task, settle

HOUR = 3600.0


@dataclass
class Call(Workflow, name="call"):
    """Waits for a person, with a task and a timer far ahead; `how` says what goes wrong."""

    how: str = ""
    done: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("beside", self.beside, retry=Retry(attempts=1))),
            Wait("for it", On("it", self.on_it), On("task", Task()), On("late", Timeout(days=300))),
            Step("after", self.after),
        )

    def beside(self) -> None:
        if self.how == "parked":
            raise LookupError

    def on_it(self, text: str) -> str:
        self.done.append(text)
        return text

    def after(self) -> None:
        self.done.append("after")


@pytest.fixture
def engine() -> LocalEngine:
    Noted.take()
    return LocalEngine(Call)


@pytest.mark.parametrize(("how", "before"), [("", Status.WAITING), ("parked", Status.PARKED)])
def test_at_its_end_a_workflow_is_cancelled_and_torn_down(
    engine: LocalEngine, how: str, before: Status
) -> None:
    end = engine.clock.now() + 5 * HOUR
    snapshot = engine.start(Call(how), workflow_id="w", ends_at=end)
    assert (snapshot.status, snapshot.ends_at, snapshot.to_dict()["endsAt"]) == (before, end, end)
    engine.advance(hours=4.99)
    assert engine.get("w").status is before
    engine.advance(hours=0.01)
    snapshot = engine.get("w")
    assert (snapshot.status, snapshot.threads, snapshot.error) == (Status.CANCELLED, {}, None)
    assert Noted.take() == ["task set up", "task torn down with ticket of main, handled: False"]
    assert engine.store.next_due() is None


def test_without_an_end_nothing_is_stored_of_one_and_nothing_ends(engine: LocalEngine) -> None:
    snapshot = engine.start(Call(), workflow_id="w")
    assert (snapshot.ends_at, snapshot.to_dict()["endsAt"]) == (None, None)
    record = engine.store.load("w")
    assert record is not None
    assert (record.ends_at, "endsAt" in record.progress) == (None, False)
    engine.advance(days=299)
    assert engine.get("w").status is Status.WAITING


def test_what_is_over_before_its_end_stays_as_it_is(engine: LocalEngine) -> None:
    engine.start(Call(), workflow_id="w", ends_at=engine.clock.now() + HOUR)
    engine.callback("w", "it", "x")
    before = engine.store.load("w")
    assert before is not None
    assert (before.status, before.due_at) == (Status.FINISHED, None)
    engine.advance(days=2)
    engine.resume("w")
    assert engine.store.load("w") == before


def test_a_workflow_that_begins_after_its_end_runs_nothing(engine: LocalEngine) -> None:
    snapshot = engine.start(Call(), workflow_id="w", ends_at=engine.clock.now())
    assert (snapshot.status, snapshot.created) == (Status.CANCELLED, True)
    engine.advance(days=2)
    assert engine.get("w").state.done == []
    assert Noted.take() == []


@pytest.mark.parametrize("ends_at", [math.nan, math.inf, -math.inf])
def test_an_end_is_a_time(engine: LocalEngine, ends_at: float) -> None:
    with pytest.raises(ValueError, match="ends_at"):
        engine.start(Call(), workflow_id="w", ends_at=ends_at)
    with pytest.raises(TypeError):
        engine.start(Call(), workflow_id="w", ends_at="tomorrow")  # type: ignore[arg-type]
    assert engine.store.load("w") is None


@pytest.mark.parametrize("how", ["resume", "look", "callback", "retry", "move", "cancel"])
def test_whoever_comes_after_the_end_finds_it_cancelled(engine: LocalEngine, how: str) -> None:
    """No worker has come by: the first who does anything ends it."""
    engine.start(Call("parked"), workflow_id="w", ends_at=engine.clock.now() + HOUR)
    engine.clock.sleep(HOUR)
    if how == "callback":
        with pytest.raises(WorkflowClosed):
            engine.callback("w", "it", "x")
    elif how == "move":
        with pytest.raises(WorkflowClosed):
            engine.move("w", "main", "after")
    else:
        getattr(engine, how)("w")
    snapshot = engine.get("w")
    assert (snapshot.status, snapshot.state.done) == (Status.CANCELLED, [])
    assert Noted.take()[-1] == "task torn down with ticket of main, handled: False"


def test_an_event_sent_before_the_end_still_has_its_output_after_it(engine: LocalEngine) -> None:
    engine.start(Call("parked"), workflow_id="w", ends_at=engine.clock.now() + HOUR)
    assert engine.callback("w", "it", "x", event_id="1") == "x"
    engine.clock.sleep(HOUR)
    assert engine.callback("w", "it", "x", event_id="1") == "x"
    assert engine.get("w").status is Status.CANCELLED


def test_who_runs_it_at_its_end_ends_it_between_two_steps() -> None:
    @dataclass
    class Steps(Workflow):
        done: int = 0

        def definition(self) -> Section:
            return Section(*[Step(f"step {number}", self.step) for number in range(10)])

        def step(self) -> None:
            clock.sleep(10)
            self.done += 1

    clock = VirtualClock()
    engine = Engine([Steps], store=MemoryStore(), clock=clock)
    snapshot = engine.start(Steps(), workflow_id="w", ends_at=clock.now() + 25)
    assert (snapshot.status, snapshot.state.done) == (Status.CANCELLED, 3)


def test_the_end_comes_while_somebody_else_runs_it_and_is_then_seen_by_that_one() -> None:
    @dataclass
    class Long(Workflow):
        done: int = 0

        def definition(self) -> Section:
            return Section(Step("long", self.long), Step("after", self.long))

        def long(self) -> None:
            clock.sleep(100)
            if not self.done:
                refused.append(other.cancel)
                with pytest.raises(WorkflowClosed):
                    other.callback("w", "anything")
            self.done += 1

    clock, store = VirtualClock(), MemoryStore()
    refused: list[object] = []
    other = Engine([Long], store=store, clock=clock)
    engine = Engine([Long], store=store, clock=clock, lease_seconds=1_000)
    snapshot = engine.start(Long(), workflow_id="w", ends_at=clock.now() + 50)
    assert refused
    assert (snapshot.status, snapshot.state.done) == (Status.CANCELLED, 0)


def test_what_is_beyond_the_budget_is_left_to_a_worker() -> None:
    Noted.take()
    clock, store = VirtualClock(), MemoryStore()
    engine = Engine([Call], store=store, clock=clock, queued=True, budget=Budget(steps=0))
    engine.start(Call(), workflow_id="w", ends_at=clock.now() + HOUR)
    engine.resume("w", Budget())
    clock.sleep(HOUR)
    with pytest.raises(WorkflowClosed):
        engine.callback("w", "it", "x")
    assert engine.get("w").status is Status.CANCELLED
    engine.resume("w", Budget())
    assert Noted.take()[-1] == "task torn down with ticket of main, handled: False"
    assert store.next_due() is None


# -- what can't be torn down ----------------------------------------------------------------------------


class Stuck(Handler[str, str]):
    """Can't be torn down."""

    tried = 0

    def setup(self, request: Request[str]) -> str:
        return request.thread

    def handle(self, request: Request[str], payload: str) -> None: ...

    def teardown(self, request: Request[str], handled: bool) -> None:
        del request, handled
        Stuck.tried += 1
        raise ConnectionError


@dataclass
class Clings(Workflow, name="clings"):
    def definition(self) -> Section:
        return Section(Wait("for it", On("it", Stuck())))


def test_a_teardown_that_always_fails_is_given_up_after_an_hour() -> None:
    engine = LocalEngine(Clings)
    Stuck.tried = 0
    engine.start(Clings(), workflow_id="w", ends_at=engine.clock.now() + HOUR)
    engine.advance(hours=1)
    assert engine.get("w").status is Status.CANCELLED, "nobody has to do anything about it"
    engine.advance(seconds=GIVE_UP_SECONDS - 1)
    assert engine.store.next_due() is not None
    engine.advance(seconds=1)
    record = engine.store.load("w")
    assert record is not None
    assert (record.status, record.due_at) == (Status.CANCELLED, None)
    assert Progress.from_json(record.progress).teardowns == []
    assert Stuck.tried == 5


def test_what_nobody_came_by_for_is_torn_down_once_even_after_that() -> None:
    engine = LocalEngine(Clings)
    Stuck.tried = 0
    engine.start(Clings(), workflow_id="w", ends_at=engine.clock.now() + HOUR)
    engine.clock.sleep(10 * HOUR)
    engine.resume("w")
    assert (engine.get("w").status, Stuck.tried) == (Status.CANCELLED, 1)
    assert engine.store.next_due() is None


def test_one_that_was_cancelled_before_and_could_not_be_torn_down_goes_too() -> None:
    engine = LocalEngine(Clings)
    engine.start(Clings(), workflow_id="w", ends_at=engine.clock.now() + 5 * HOUR)
    engine.cancel("w")
    engine.advance(hours=4)
    assert engine.get("w").error is not None
    engine.advance(hours=2)
    assert (engine.get("w").status, engine.get("w").error) == (Status.CANCELLED, None)
    assert engine.store.next_due() is None


@dataclass
class Raises(Workflow, name="clings"):
    def definition(self) -> Section:
        raise LookupError


@dataclass
class Gone(Workflow, name="clings"):
    def definition(self) -> Section:
        return Section(Step("another", lambda: None))


@dataclass
class Needs(Gone, name="clings"):
    needed: int


@pytest.mark.parametrize("cls", [Raises, Gone, Needs])
def test_a_definition_that_no_longer_works_ends_too(cls: type[Workflow]) -> None:
    clock, store = VirtualClock(), MemoryStore()
    Engine([Clings], store=store, clock=clock).start(Clings(), workflow_id="w", ends_at=clock.now() + HOUR)
    engine = Engine([cls], store=store, clock=clock)
    assert engine.resume("w").status is Status.PARKED
    run_due(engine, clock, clock.now() + HOUR)
    assert engine.get("w").status is Status.CANCELLED
    run_due(engine, clock, clock.now() + GIVE_UP_SECONDS)
    assert engine.get("w").status is Status.CANCELLED
    assert store.next_due() is None


def test_a_class_that_is_gone_keeps_no_workflow_beyond_the_hour() -> None:
    """Until then it may be another worker's: a newer one's, for example."""
    clock, store = VirtualClock(), MemoryStore()
    Engine([Clings], store=store, clock=clock).start(Clings(), workflow_id="w", ends_at=clock.now() + HOUR)
    engine = Engine([Call], store=store, clock=clock)
    clock.sleep(HOUR)
    with pytest.raises(UnknownWorkflow):
        engine.resume("w")
    clock.sleep(GIVE_UP_SECONDS)
    assert engine.resume("w").status is Status.CANCELLED
    assert store.next_due() is None


# -- stores ---------------------------------------------------------------------------------------------


def test_a_file_of_the_release_before_takes_workflows_with_an_end(tmp_path: Path) -> None:
    clock = VirtualClock()
    store = SqliteStore(tmp_path / "w.db")
    columns = [row[1] for row in store._connection.execute("PRAGMA table_info(workflows)")]
    assert columns == [
        *("workflow_id", "workflow", "version", "status", "state", "progress"),
        *("due_at", "lease_owner", "lease_until"),
    ]
    Engine([Call], store=store, clock=clock).start(Call(), workflow_id="w", ends_at=clock.now() + HOUR)
    engine = Engine([Call], store=SqliteStore(tmp_path / "w.db"), clock=clock)
    assert engine.get("w").ends_at == clock.now() + HOUR
    settle(engine, HOUR)
    assert engine.get("w").status is Status.CANCELLED


def test_who_ends_a_workflow_with_pending_events_keeps_none() -> None:
    engine = LocalEngine(Call)
    engine.start(Call("parked"), workflow_id="w", ends_at=engine.clock.now() + HOUR)
    engine.callback("w", "it", "first")
    record = engine.store.load("w")
    assert isinstance(record, Record)
    engine.advance(hours=1)
    ended = engine.store.load("w")
    assert ended is not None
    progress = Progress.from_json(ended.progress)
    assert (progress.events, progress.threads, progress.teardowns) == ([], {}, [])


def test_an_end_that_cannot_be_read_is_no_crash() -> None:
    with pytest.raises(StateError):
        Progress.from_json('{"threads": [], "endsAt": "tomorrow"}')
