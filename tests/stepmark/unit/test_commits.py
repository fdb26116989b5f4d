"""Guarantees 1, 2, 3 and 5: what a commit says, how often effects happen, and that nothing gets lost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

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
    VersionConflict,
    Wait,
    Workflow,
    current,
)
from stepmark.testing import LocalEngine, VirtualClock

from tests.stepmark.support import CountingStore, Noted, engine_on, settle

if TYPE_CHECKING:
    from stepmark import Record


@dataclass
class Chain(Workflow):
    done: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(*[Step(name, self.note) for name in ("one", "two", "three")])

    def note(self) -> None:
        self.done.append(current().statement)


@dataclass
class Counter(Workflow):
    count: int = 0
    limit: int = 10

    def definition(self) -> Section:
        return Section(For("count up", self.count < self.limit, Step("add", self.add)))

    def add(self) -> None:
        self.count += 1


def test_guarantee_01_one_write_per_step_says_what_is_done_and_what_is_next() -> None:
    store = CountingStore()
    engine_on(store, Chain).start(Chain(), workflow_id="1")
    seen = [(record.state.count('"') // 2 - 1, record.progress) for record in store.records]
    assert [steps for steps, _ in seen] == [0, 1, 2, 3]
    for (_, progress), following in zip(seen, ("one", "two", "three", None), strict=True):
        assert ('"at":"' + str(following) + '"' in progress) is (following is not None)
    assert store.calls.count("commit") == 3
    assert [record.version for record in store.records] == [1, 2, 3, 4]


def test_guarantee_01_a_resume_reads_once_and_writes_once_per_step() -> None:
    store = CountingStore()
    engine = engine_on(store, Chain)
    engine.runtime = replace(engine.runtime, budget=Budget(steps=0))
    engine.start(Chain(), workflow_id="1")
    store.calls.clear()
    engine.runtime = replace(engine.runtime, budget=Budget())
    engine.resume("1")
    assert store.calls == ["load", *["commit"] * 4]  # read, claim, three steps


@dataclass
class Flaky(Workflow):
    tried: int = 0

    def definition(self) -> Section:
        return Section(Step("try", self.attempt, retry=Retry(attempts=4, first_delay=1)))

    def attempt(self) -> None:
        Noted.log.append(f"{current().attempt} {current().idempotency_key}")
        self.tried += 1
        if len(Noted.log) < 3:
            raise ConnectionError("no answer")


def test_guarantee_02_the_idempotency_key_is_the_same_on_every_retry() -> None:
    Noted.take()
    engine = LocalEngine(Flaky)
    engine.start(Flaky(), workflow_id="w")
    engine.advance(minutes=1)
    attempts = [line.split(" ") for line in Noted.take()]
    assert [attempt for attempt, _ in attempts] == ["1", "2", "3"]
    assert len({key for _, key in attempts}) == 1
    assert engine.get("w").state.tried == 1  # what failed attempts had changed was dropped


@dataclass
class Rounds(Workflow):
    round: int = 0

    def definition(self) -> Section:
        return Section(For("rounds", self.round < 3, Step("go", self.go)))

    def go(self) -> None:
        Noted.log.append(current().idempotency_key)
        self.round += 1


def test_guarantee_02_the_idempotency_key_differs_each_time_a_loop_comes_by() -> None:
    Noted.take()
    LocalEngine(Rounds).start(Rounds(), workflow_id="w")
    assert len(set(Noted.take())) == 3


def test_guarantee_03_the_record_does_not_grow_with_the_steps() -> None:
    store = CountingStore()
    engine_on(store, Counter).start(Counter(limit=5_000, count=1_000), workflow_id="1")
    sizes = [len(record.state) + len(record.progress) for record in store.records if record.version < 4_000]
    assert len(set(sizes[1:])) == 1


@dataclass
class Chat(Workflow):
    messages: int = 0

    def definition(self) -> Section:
        return Section(
            For("talk", self.messages < 1_000, Wait("for a message", On("message", self.on_message)))
        )

    def on_message(self, text: str) -> str:
        self.messages += 1
        return text


def test_guarantee_03_the_record_does_not_grow_with_the_events() -> None:
    store = CountingStore()
    engine = engine_on(store, Chat)
    engine.start(Chat(), workflow_id="1")
    for number in range(400):
        engine.callback("1", "message", "x" * 20, event_id=f"{number:04}")
    assert len(store.records[-1].progress) == len(store.records[-101].progress)


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_guarantee_05_a_worker_that_dies_is_replaced_at_once_or_when_its_lease_is_over(
    kind: str, seen: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    class Dead(BaseException):
        pass

    @dataclass
    class Mortal(Workflow):
        count: int = 0

        def definition(self) -> Section:
            return Section(Step("first", self.add), Step("second", self.die), Step("third", self.add))

        def add(self) -> None:
            self.count += 1

        def die(self) -> None:
            self.count += 1
            if not Noted.log:
                Noted.log.append("dead")
                raise Dead

    Noted.take()
    store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path_factory.mktemp("db") / "w.db")
    store.on_one_machine = seen  # whether the death can be seen
    clock = VirtualClock()
    with pytest.raises(Dead):
        engine_on(store, Mortal, clock=clock).start(Mortal(), workflow_id="1")
    other = engine_on(store, Mortal, clock=clock)
    if not seen:
        assert other.resume("1").state.count == 1  # the lease of the dead one still holds
        settle(other)
    assert other.resume("1").status is Status.FINISHED
    assert other.get("1").state.count == 3


@dataclass
class Poison(Workflow):
    mended: bool = False

    def definition(self) -> Section:
        return Section(
            Go("other", Wait("for help", On("help", self.on_help))),
            Step("harmless", self.harmless),
            Step("poison", self.poison),
        )

    def harmless(self) -> None: ...

    def poison(self) -> None:
        if not self.mended:
            raise MemoryExhausted

    def on_help(self) -> None:
        self.mended = True


class MemoryExhausted(BaseException):
    """The process is gone."""


def test_a_step_that_takes_its_process_down_each_time_is_parked_in_the_end() -> None:
    store, clock = MemoryStore(), VirtualClock()
    deaths = 0
    try:
        engine_on(store, Poison, clock=clock).start(Poison(), workflow_id="1")
    except MemoryExhausted:
        deaths += 1
    while True:
        assert deaths < 50
        engine = engine_on(store, Poison, clock=clock)
        try:
            settle(engine)
        except MemoryExhausted:
            deaths += 1
        else:
            break
    assert deaths == 21
    snapshot = engine.get("1")
    assert snapshot.status is Status.PARKED
    assert snapshot.error == "poison: the process has died 21 times in a row"
    engine.callback("1", "help")
    assert engine.retry("1").status is Status.FINISHED


@dataclass
class Sleeper(Workflow):
    def definition(self) -> Section:
        return Section(Wait("sleep", On("wake up", Timeout(hours=1))))


def test_guarantee_05_timers_survive_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("db") / "w.db"
    clock = VirtualClock()
    first = SqliteStore(path)
    engine_on(first, Sleeper, clock=clock).start(Sleeper(), workflow_id="1")
    first.close()
    engine = engine_on(SqliteStore(path), Sleeper, clock=clock)
    settle(engine, seconds=3_599)
    assert engine.get("1").status is Status.WAITING
    settle(engine, seconds=1)
    assert engine.get("1").status is Status.FINISHED


class LostAnswerStore(CountingStore):
    """A store whose commit is done twice because the first answer got lost, as network clients do."""

    on_one_machine = False

    def commit(self, record: Record, expected_version: int) -> None:
        super().commit(record, expected_version)
        raise VersionConflict(record.workflow_id)


def test_a_commit_whose_answer_was_lost_is_recognised() -> None:
    engine = engine_on(LostAnswerStore(), Chain)
    assert engine.start(Chain(), workflow_id="1").state.done == ["one", "two", "three"]


def test_a_resume_stops_at_its_step_budget_and_goes_on_elsewhere() -> None:
    store = MemoryStore()
    clock = VirtualClock()
    first = Engine([Counter], store=store, clock=clock, budget=Budget(steps=4))
    assert first.start(Counter(), workflow_id="1").state.count == 4
    assert first.get("1").status is Status.RUNNING
    assert store.due(clock.now(), 10) == ["1"]
    second = Engine([Counter], store=store, clock=clock)
    assert second.resume("1", Budget(steps=5)).state.count == 9
    assert second.resume("1").status is Status.FINISHED


def test_a_resume_stops_at_its_time_budget() -> None:
    clock = VirtualClock()

    @dataclass
    class Slow(Workflow):
        count: int = 0

        def definition(self) -> Section:
            return Section(For("count up", self.count < 10, Step("add", self.add)))

        def add(self) -> None:
            clock.sleep(1)
            self.count += 1

    engine = Engine([Slow], store=MemoryStore(), clock=clock, budget=Budget(seconds=3))
    assert engine.start(Slow(), workflow_id="1").state.count == 3
    assert engine.resume("1").state.count == 6
