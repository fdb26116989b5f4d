"""Events that happen elsewhere: however looking and happening overlap, none is missed or counted twice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import pytest
from stepmark import (
    Budget,
    Engine,
    Finish,
    Go,
    Happened,
    LookAgain,
    MemoryStore,
    Observation,
    On,
    Request,
    Retry,
    Section,
    Status,
    Step,
    Timeout,
    UnknownEvent,
    Wait,
    Workflow,
)
from stepmark.testing import LocalEngine, VirtualClock

from tests.stepmark.support import CountingStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepmark import Record


class World:
    """What happens outside of workflows."""

    facts: ClassVar[dict[str, object]] = {}
    broken: ClassVar[bool] = False


@pytest.fixture(autouse=True)
def _new_world() -> None:
    World.facts, World.broken = {}, False


class Fact(Observation[int]):
    def __init__(self, name: str) -> None:
        self.name = name

    def look(self, request: Request[None]) -> Happened | LookAgain | None:
        assert request.setup_data is None
        found = World.facts.get(self.name)
        if World.broken:
            raise ConnectionError("no answer")
        if isinstance(found, float):
            return LookAgain(found)
        return None if found is None else Happened(found)

    def handle(self, request: Request[None], payload: int) -> int:
        assert isinstance(request.state, Watcher)
        request.state.seen.append(payload)
        return payload


@dataclass
class Watcher(Workflow):
    seen: list[int] = field(default_factory=list)
    steps: int = 0

    def definition(self) -> Section:
        return Section(
            Wait("for a", On("a", Fact("a")), On("other", None, Finish("other"))),
            Step("between", self.between),
            Wait("for b", On("b", Fact("b")), On("late", Timeout(minutes=5), Finish("late"))),
        )

    def between(self) -> None:
        self.steps += 1


def test_what_has_happened_before_counts_at_once() -> None:
    World.facts = {"a": 1, "b": 2}
    snapshot = LocalEngine(Watcher).start(Watcher(), workflow_id="1")
    assert (snapshot.status, snapshot.state.seen) == (Status.FINISHED, [1, 2])


def test_a_look_finds_what_has_happened_meanwhile_and_nothing_twice() -> None:
    engine = LocalEngine(Watcher)
    engine.start(Watcher(), workflow_id="1")
    assert engine.look("1").status is Status.WAITING
    World.facts["a"] = 1
    assert engine.look("1").state.seen == [1]
    assert engine.look("1").threads["main"].at == "for b"
    World.facts["b"] = 2
    assert engine.look("1").state.seen == [1, 2]
    assert engine.look("1").status is Status.FINISHED


def test_coming_to_a_wait_costs_no_write_of_its_own() -> None:
    store = CountingStore()
    engine = Engine([Watcher], store=store, clock=VirtualClock())
    World.facts["a"] = 1
    engine.start(Watcher(), workflow_id="1")
    # created at the first Wait, whose event has happened; then the event; then the step
    assert store.calls == ["create", "commit", "commit"]
    store.calls.clear()
    engine.look("1")
    assert store.calls == ["load"]


def test_the_sender_of_such_an_event_is_refused() -> None:
    engine = LocalEngine(Watcher)
    engine.start(Watcher(), workflow_id="1")
    with pytest.raises(UnknownEvent):
        engine.callback("1", "a", 7)
    engine.callback("1", "other")
    assert engine.get("1").result == "other"


def test_what_happens_while_the_holder_looks_is_left_as_word_with_the_holder() -> None:
    """The fact comes after the look and before its commit; whoever made it finds the workflow leased."""
    store = MemoryStore()
    clock = VirtualClock()
    first, second = (Engine([Watcher], store=store, clock=clock) for _ in range(2))
    first.start(Watcher(), workflow_id="1")

    def happen() -> None:
        World.facts["b"] = 2
        assert second.look("1").status is not Status.FINISHED

    World.facts["a"] = 1
    engine_look(first, "1", happen)
    assert first.get("1").state.seen == [1, 2]


def engine_look(engine: Engine, workflow_id: str, happen: Callable[[], None]) -> None:
    """Look, and let something happen right after the look for b."""
    original = Fact.look

    def look(self: Fact, request: Request[None]) -> Happened | LookAgain | None:
        found = original(self, request)
        if self.name == "b" and not World.facts.get("b"):
            happen()
        return found

    Fact.look = look  # type: ignore[method-assign]
    try:
        engine.look(workflow_id)
    finally:
        Fact.look = original  # type: ignore[method-assign]


def test_a_look_may_ask_to_be_repeated() -> None:
    engine = LocalEngine(Watcher)
    World.facts["a"] = engine.clock.now() + 30
    snapshot = engine.start(Watcher(), workflow_id="1")
    assert snapshot.threads["main"].due_at == engine.clock.now() + 30
    World.facts["a"] = 1
    engine.advance(seconds=29)
    assert engine.get("1").state.seen == []
    engine.advance(seconds=2)
    assert engine.get("1").state.seen == [1]


def test_a_look_that_fails_is_repeated_and_stops_nobody() -> None:
    engine = LocalEngine(Watcher)
    World.broken = True
    snapshot = engine.start(Watcher(), workflow_id="1")
    assert snapshot.status is Status.RUNNING
    assert "ConnectionError" in str(snapshot.error)
    with pytest.raises(ConnectionError):
        engine.look("1")
    World.facts["a"], World.broken = 1, False
    engine.advance(minutes=1)
    assert engine.get("1").state.seen == [1]


def test_what_a_timer_has_beaten_is_forgotten() -> None:
    engine = LocalEngine(Watcher)
    World.facts["a"] = 1
    engine.start(Watcher(), workflow_id="1")
    engine.advance(minutes=6)
    World.facts["b"] = 2
    snapshot = engine.look("1")
    assert (snapshot.result, snapshot.state.seen) == ("late", [1])


def test_word_that_was_left_is_heeded_by_whoever_takes_over() -> None:
    """The holder dies; the one who resumes after its lease looks again."""
    store, clock = MemoryStore(), VirtualClock()
    dead = Engine([Watcher], store=store, clock=clock, lease_seconds=10, budget=Budget(steps=0))
    dead.start(Watcher(), workflow_id="1")
    record = store.load("1")
    assert record is not None
    store.commit(
        replace(record, version=2, lease_owner="dead", lease_until=clock.now() + 10, due_at=clock.now() + 10),
        1,
    )
    World.facts["a"] = 1
    alive = Engine([Watcher], store=store, clock=clock)
    alive.look("1")
    assert alive.get("1").state.seen == []
    clock.sleep(11)
    assert alive.resume("1").state.seen == [1]


def test_a_second_change_while_the_holder_has_heeded_the_first_is_looked_for_too() -> None:
    """Word comes, the holder looks and finds nothing yet; before it commits, the fact and word of it come."""
    store, clock = MemoryStore(), VirtualClock()
    first, second = (Engine([Watcher], store=store, clock=clock) for _ in range(2))
    first.start(Watcher(), workflow_id="1")
    words: list[str] = []

    def happen() -> None:
        if len(words) == 1:  # the holder looks again, for it has found the word
            World.facts["b"] = 2
        if len(words) < 2:
            words.append("word")
            second.look("1")

    World.facts["a"] = 1
    engine_look(first, "1", happen)
    assert words == ["word", "word"]
    assert first.get("1").state.seen == [1, 2]


@dataclass
class RetryBeside(Workflow):
    """A step of another thread is due again when somebody looks for what has happened."""

    seen: list[int] = field(default_factory=list)
    done: int = 0

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("flaky", self.flaky, retry=Retry(first_delay=5, jitter=0))),
            Step("one", self.step),  # two turns of this thread, so that the other's comes first
            Step("two", self.step),
            Wait("for a", On("a", SeenBeside("a"))),
        )

    def step(self) -> None: ...

    def flaky(self) -> None:
        RECORDS.append(RECORDS_OF[0].load("1"))
        if len(RECORDS) == 1:
            raise ConnectionError
        self.done += 1


class SeenBeside(Fact):
    def handle(self, request: Request[None], payload: int) -> int:
        assert isinstance(request.state, RetryBeside)
        request.state.seen.append(payload)
        return payload


RECORDS: list[Record | None] = []
RECORDS_OF: list[MemoryStore] = []


def test_a_look_that_leads_to_a_step_takes_the_lease_first() -> None:
    store, clock = MemoryStore(), VirtualClock()
    RECORDS[:], RECORDS_OF[:] = [], [store]
    engine = Engine([RetryBeside], store=store, clock=clock)
    engine.start(RetryBeside(), workflow_id="1")
    clock.sleep(5)
    World.facts["a"] = 1
    snapshot = engine.look("1")
    assert (snapshot.status, snapshot.state) == (Status.FINISHED, RetryBeside([1], 1))
    record = RECORDS[-1]
    assert record is not None
    assert record.leased(clock.now())


# --- after a deployment ------------------------------------------------------------------------------------


@dataclass
class Renamed(Workflow, name="Watcher"):
    """A later definition of the watcher: its first place has another name."""

    seen: list[int] = field(default_factory=list)
    steps: int = 0

    def definition(self) -> Section:
        return Section(Wait("for what", On("a", Fact("a"))))


@dataclass
class Broken(Workflow, name="Watcher"):
    seen: list[int] = field(default_factory=list)
    steps: int = 0

    def definition(self) -> Section:
        raise ZeroDivisionError


@dataclass
class Retyped(Workflow, name="Watcher"):
    seen: int = 0
    steps: int = 0

    def definition(self) -> Section:
        return Section(Wait("for a", On("a", Fact("a"))))


@pytest.mark.parametrize("has_happened", [True, False])
@pytest.mark.parametrize(
    ("later", "error"),
    [(Renamed, "'for a'"), (Broken, "ZeroDivisionError"), (Retyped, "seen")],
)
def test_a_look_parks_what_can_not_go_on(later: type[Workflow], error: str, *, has_happened: bool) -> None:
    store, clock, parked = MemoryStore(), VirtualClock(), list[str]()
    Engine([Watcher], store=store, clock=clock).start(Watcher(), workflow_id="1")
    World.facts |= {"a": 1} if has_happened else {}
    engine = Engine([later], store=store, clock=clock, on_parked=lambda name, _: parked.append(name))
    for _ in range(2):
        snapshot = engine.look("1")
        assert snapshot.status is Status.PARKED
        assert error in (snapshot.error or "") + str(snapshot.threads)
    assert parked == ["1"]
    mended = Engine([Watcher], store=store, clock=clock)
    World.facts["a"] = 1
    assert mended.retry("1").state.seen == [1]


@dataclass
class Shorter(Workflow, name="Watcher"):
    """A later definition of the watcher: what it waited for is a step now, which needs no waiting."""

    seen: list[int] = field(default_factory=list)
    steps: int = 0

    def definition(self) -> Section:
        return Section(Step("for a", self.work))

    def work(self) -> None:
        self.steps += 1


def test_a_look_goes_on_where_there_is_nothing_to_wait_for_any_more() -> None:
    store, clock = MemoryStore(), VirtualClock()
    Engine([Watcher], store=store, clock=clock).start(Watcher(), workflow_id="1")
    snapshot = Engine([Shorter], store=store, clock=clock).look("1")
    assert (snapshot.status, snapshot.state.steps) == (Status.FINISHED, 1)
