"""A workflow that goes on and on without a pause is parked; one that waits now and then is not."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stepmark import (
    Budget,
    Engine,
    For,
    Go,
    MemoryStore,
    On,
    Retry,
    Section,
    SqliteStore,
    Status,
    Step,
    Timeout,
    Wait,
    Workflow,
    current,
)
from stepmark.core.record import Progress
from stepmark.testing import VirtualClock, run_due

BOUND = 30
ENGINES: list[Engine] = []


@dataclass
class Spins(Workflow, name="spins"):
    """Loops over one step."""

    turns: int = 0
    last: int = 10**9

    def definition(self) -> Section:
        return Section(For("again", self.turns < self.last, Step("turn", self.turn)))

    def turn(self) -> None:
        self.turns += 1


@dataclass
class Sleepless(Workflow, name="sleepless"):
    """Loops over a timer that is too short to be a pause."""

    seconds: float = 0.0
    turns: int = 0

    def definition(self) -> Section:
        return Section(
            For(
                "again", True, Wait("nap", On("over", Timeout(seconds=self.seconds), Step("turn", self.turn)))
            )
        )

    def turn(self) -> None:
        self.turns += 1


@dataclass
class TalksToItself(Workflow, name="talks to itself"):
    """Each step sends the event that the loop waits for."""

    turns: int = 0

    def definition(self) -> Section:
        return Section(
            For("again", True, Step("say", self.say), Wait("listen", On("word", self.on_word))),
        )

    def say(self) -> None:
        self.engine().callback(current().workflow_id, "word")

    @staticmethod
    def engine() -> Engine:
        return ENGINES[-1]

    def on_word(self) -> None:
        self.turns += 1


@dataclass
class FailsAtOnce(Workflow, name="fails at once"):
    """A step that is tried again for ever, without a delay."""

    def definition(self) -> Section:
        return Section(
            Step(
                "hopeless",
                self.hopeless,
                retry=Retry(attempts=10**9, first_delay=0, longest_delay=0),
            )
        )

    def hopeless(self) -> None:
        raise ConnectionError


@dataclass
class OneOfTwo(Workflow, name="one of two"):
    """A thread that loops beside one that waits for a person."""

    turns: int = 0

    def definition(self) -> Section:
        return Section(
            Go("busy", For("again", True, Step("turn", self.turn))),
            Wait("for an answer", On("answer", self.on_answer)),
        )

    def turn(self) -> None:
        self.turns += 1

    def on_answer(self) -> None: ...


CLASSES: list[type[Workflow]] = [Spins, Sleepless, TalksToItself, FailsAtOnce, OneOfTwo]


@contextmanager
def memory(_directory: Path) -> Iterator[MemoryStore]:
    yield MemoryStore()


@contextmanager
def sqlite(directory: Path) -> Iterator[SqliteStore]:
    yield SqliteStore(str(directory / "workflows.db"))


@pytest.fixture(params=[memory, sqlite])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with request.param(tmp_path) as store:
        engine = Engine(CLASSES, store=store, clock=VirtualClock(), max_commits_without_pause=BOUND)
        ENGINES.append(engine)
        yield engine
        ENGINES.remove(engine)


def error_of(engine: Engine, workflow_id: str) -> str:
    return " ".join(str(thread.error) for thread in engine.get(workflow_id).threads.values())


@pytest.mark.parametrize("make", [Spins, Sleepless, TalksToItself, FailsAtOnce, OneOfTwo])
def test_it_is_parked_and_says_so(make: Callable[[], Workflow], engine: Engine) -> None:
    engine.start(make(), workflow_id="1")
    run_due(engine, engine.runtime.clock, engine.runtime.clock.now())  # type: ignore[arg-type]
    assert engine.get("1").status is Status.PARKED
    error = error_of(engine, "1")
    assert f"{BOUND} commits without a pause" in error
    assert "max_commits_without_pause" in error


def test_it_is_parked_however_often_a_worker_stops_in_between(engine: Engine) -> None:
    """As on Lambda, where each call does ten seconds' worth and hands over."""
    engine.start(Spins(), workflow_id="1")
    patient = Engine(
        CLASSES, store=engine.runtime.store, clock=engine.runtime.clock, budget=Budget(steps=3),
        max_commits_without_pause=100,
    )  # fmt: skip
    engine.retry("1")
    for _ in range(60):
        patient.resume("1")
    assert patient.get("1").status is Status.PARKED
    assert patient.get("1").state.turns < 200


def test_what_ends_within_the_bound_ends(engine: Engine) -> None:
    assert engine.start(Spins(last=BOUND - 3), workflow_id="1").status is Status.FINISHED


def test_retry_gives_it_the_whole_bound_again(engine: Engine) -> None:
    first = engine.start(Spins(), workflow_id="1").state.turns
    second = engine.retry("1").state.turns
    assert second - first == pytest.approx(BOUND, abs=2)
    assert engine.get("1").status is Status.PARKED


def test_the_others_of_its_threads_go_on(engine: Engine) -> None:
    engine.start(OneOfTwo(), workflow_id="1")
    assert "for an answer" in {thread.at for thread in engine.get("1").threads.values()}
    engine.callback("1", "answer")
    assert {thread.at for thread in engine.get("1").threads.values()} == {"turn"}


def test_a_timer_of_a_second_is_a_pause(engine: Engine) -> None:
    engine.start(Sleepless(seconds=1), workflow_id="1")
    clock: Any = engine.runtime.clock
    run_due(engine, clock, clock.now() + 10 * BOUND)
    assert engine.get("1").status is Status.WAITING
    assert engine.get("1").state.turns >= 9 * BOUND


def test_events_that_come_from_outside_are_pauses() -> None:
    """A chat of any length, one message after the other."""

    @dataclass
    class Chat(Workflow, name="chat"):
        messages: int = 0

        def definition(self) -> Section:
            return Section(For("on", True, Wait("for a message", On("message", self.on_message))))

        def on_message(self) -> None:
            self.messages += 1

    chats = Engine([Chat], store=MemoryStore(), clock=VirtualClock(), max_commits_without_pause=BOUND)
    chats.start(Chat(), workflow_id="1")
    for _ in range(5 * BOUND):
        chats.callback("1", "message")
    assert chats.get("1").state.messages == 5 * BOUND
    assert chats.get("1").status is Status.WAITING


def test_a_record_of_the_release_before_goes_on(engine: Engine) -> None:
    engine.start(Sleepless(seconds=60), workflow_id="1")
    record = engine.runtime.store.load("1")
    assert record is not None
    before = re.sub(r',?"rested":"0*1"', "", record.progress)
    assert Progress.from_json(before).rested == 0
    clock: Any = engine.runtime.clock
    run_due(engine, clock, clock.now() + 61)
    record = engine.runtime.store.load("1")
    assert record is not None
    assert Progress.from_json(record.progress).rested == record.version


@pytest.mark.parametrize("bound", [0, -1])
def test_a_bound_is_above_zero(bound: int) -> None:
    with pytest.raises(ValueError, match="max_commits_without_pause must be"):
        Engine([Spins], store=MemoryStore(), max_commits_without_pause=bound)
