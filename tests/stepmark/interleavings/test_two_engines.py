"""Two engines on one store, with every order in which their store calls can come."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from stepmark import (
    Budget,
    Engine,
    EventPending,
    Go,
    MemoryStore,
    On,
    Record,
    Section,
    Status,
    Step,
    Wait,
    Workflow,
    WorkflowBusy,
    WorkflowClosed,
    current,
)
from stepmark.testing import VirtualClock, run_due

from tests.stepmark.support import RUN_OUT, Noted, Task

MAX_ORDERS = 20_000  # no program below has as many; the limit only guards against a mistake


class Turnstile:
    """Lets one thread at a time make a store call, in a given order; remembers the choices it had."""

    def __init__(self, order: list[int]) -> None:
        self._order = order
        self._condition = threading.Condition()
        self._waiting: set[int] = set()
        self._alive: set[int] = set()
        self._allowed: int | None = None
        self.choices: list[list[int]] = []
        self.taken: list[int] = []

    def enter(self, who: int) -> None:
        with self._condition:
            self._waiting.add(who)
            self._choose()
            assert self._condition.wait_for(lambda: self._allowed == who, timeout=60)
            self._allowed = None
            self._waiting.discard(who)

    def run(self, who: int, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._condition:
                self._alive.discard(who)
                self._choose()

    def _choose(self) -> None:
        """Once every thread that is alive waits for its next call, let one of them through."""
        if self._allowed is not None or not self._waiting or self._waiting != self._alive:
            return
        options = sorted(self._waiting)
        step = len(self.taken)
        chosen = self._order[step] if step < len(self._order) else options[0]
        self.choices.append(options)
        self.taken.append(chosen)
        self._allowed = chosen
        self._condition.notify_all()

    def play(self, *works: Callable[[], None]) -> None:
        self._alive = set(range(len(works)))
        threads = [threading.Thread(target=self.run, args=(who, work)) for who, work in enumerate(works)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()


class TurnstileStore:
    """One engine's view of the shared store."""

    on_one_machine = False

    def __init__(self, inner: MemoryStore, turnstile: Turnstile, who: int) -> None:
        self._inner = inner
        self._turnstile = turnstile
        self._who = who

    def create(self, record: Record) -> bool:
        self._turnstile.enter(self._who)
        return self._inner.create(record)

    def load(self, workflow_id: str) -> Record | None:
        self._turnstile.enter(self._who)
        return self._inner.load(workflow_id)

    def commit(self, record: Record, expected_version: int) -> None:
        self._turnstile.enter(self._who)
        self._inner.commit(record, expected_version)

    def due(self, now: float, limit: int) -> list[str]:
        return self._inner.due(now, limit)

    def next_due(self) -> float | None:
        return self._inner.next_due()

    def live(self, workflow: str | None = None) -> Iterator[Record]:
        return self._inner.live(workflow)


@dataclass
class Shared(Workflow):
    count: int = 0
    trace: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Go("other", Step("c", self.add)),
            Step("a", self.add),
            Wait("for it", On("it", self.on_it), On("task", Task())),
            Step("b", self.add),
        )

    def add(self) -> None:
        self.count += 1
        self.trace.append(current().statement)

    def on_it(self, amount: int) -> int:
        self.count += amount
        self.trace.append("it")
        return self.count


@dataclass
class Counted(Workflow):
    """Takes two events of one kind, each followed by a step."""

    got: list[int] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Wait("for one", On("it", self.on_it)),
            Step("a", self.add),
            Wait("for another", On("it", self.on_it)),
            Step("b", self.add),
        )

    def on_it(self, amount: int) -> int:
        self.got.append(amount)
        return amount

    def add(self) -> None:
        self.got.append(0)


def orders(play: Callable[[list[int]], Turnstile]) -> int:
    """Play every order there is; how many that were."""
    order: list[int] = []
    played = 0
    while True:
        turnstile = play(order)
        played += 1
        assert played < MAX_ORDERS
        taken, choices = turnstile.taken, turnstile.choices
        step = len(taken) - 1
        while step >= 0 and taken[step] == choices[step][-1]:
            step -= 1
        if step < 0:
            return played
        order = [*taken[:step], choices[step][choices[step].index(taken[step]) + 1]]


type Work = Callable[[Engine], None]


def play_all(prepare: Work, one: Work, two: Work, check: Work, lease_seconds: float = 60.0) -> int:
    """Let two engines do their work in every order; the check comes after a sweep over what is due."""

    def play(order: list[int]) -> Turnstile:
        Noted.take()
        store, clock, turnstile = MemoryStore(), VirtualClock(), Turnstile(order)
        plain = Engine([Shared, Counted], store=store, clock=clock)
        prepare(plain)
        engines = [
            Engine(
                [Shared, Counted],
                store=TurnstileStore(store, turnstile, who),
                clock=clock,
                lease_seconds=lease_seconds,
                callback_seconds=0.01,  # two looks at the store
            )
            for who in range(2)
        ]
        turnstile.play(lambda: one(engines[0]), lambda: two(engines[1]))
        run_due(plain, clock, clock.now() + 1_000)
        check(plain)
        return turnstile

    played = orders(play)
    print(f"{played} orders")
    return played


def start(engine: Engine) -> None:
    engine.start(Shared(), workflow_id="w")


def send(amount: int, event_id: str) -> Work:
    def work(engine: Engine) -> None:
        # accepted and not answered yet, or too late: both are told to the sender
        with suppress(EventPending, WorkflowClosed):
            engine.callback("w", "it", amount, event_id=event_id)

    return work


def nothing(_: Engine) -> None:
    pass


def assert_done_once(engine: Engine) -> None:
    state = engine.get("w").state
    assert sorted(state.trace) in (["a", "c"], ["a", "b", "c", "it"])
    assert state.count == sum({"a": 1, "b": 1, "c": 1, "it": 10}[name] for name in state.trace)


def assert_finished(engine: Engine) -> None:
    assert engine.get("w").status is Status.FINISHED
    assert sorted(engine.get("w").state.trace) == ["a", "b", "c", "it"]
    assert_done_once(engine)
    assert sorted(Noted.take()) == ["task set up", "task torn down with ticket of main, handled: False"]


@pytest.mark.timeout(900)
def test_guarantee_01_two_starts() -> None:
    def check(engine: Engine) -> None:
        assert engine.get("w").state.count == 2
        assert Noted.take() == ["task set up"]

    assert play_all(nothing, start, start, check) > 10


@pytest.mark.timeout(900)
def test_guarantee_01_the_same_event_from_two_sides_counts_once() -> None:
    assert play_all(start, send(10, "e"), send(10, "e"), assert_finished) > 10


@pytest.mark.timeout(900)
def test_guarantee_01_two_different_events_and_only_one_wins() -> None:
    def check(engine: Engine) -> None:
        assert engine.get("w").status is Status.FINISHED
        assert engine.get("w").state.trace.count("it") == 1
        assert engine.get("w").state.count in {13, 23}

    assert play_all(start, send(10, "e1"), send(20, "e2"), check) > 10


@pytest.mark.timeout(900)
def test_guarantee_01_an_event_while_the_workflow_starts() -> None:
    def send_once_started(engine: Engine) -> None:
        if engine.runtime.store.load("w") is not None:
            send(10, "e")(engine)

    def check(engine: Engine) -> None:
        send(10, "e")(engine)
        assert_finished(engine)

    assert play_all(nothing, start, send_once_started, check) > 10


@pytest.mark.timeout(900)
def test_guarantee_01_a_cancellation_while_the_workflow_runs() -> None:
    def cancel(engine: Engine) -> None:
        engine.cancel("w")

    def check(engine: Engine) -> None:
        state = engine.get("w").state
        assert engine.get("w").status in {Status.CANCELLED, Status.FINISHED}
        assert state.count == sum({"a": 1, "b": 1, "c": 1, "it": 10}[name] for name in state.trace)
        noted = Noted.take()
        assert noted.count("task set up") == 1
        assert [line for line in noted if line.startswith("task torn down")] != []

    assert play_all(start, send(10, "e"), cancel, check) > 10


@pytest.mark.timeout(900)
def test_guarantee_01_a_lease_that_runs_out_under_a_slow_worker() -> None:
    def resume(engine: Engine) -> None:
        engine.resume("w")

    def interrupted(engine: Engine) -> None:
        cut_off = Engine(
            [Shared], store=engine.runtime.store, clock=engine.runtime.clock, lease_seconds=RUN_OUT
        )
        cut_off.start(Shared(), workflow_id="w")

    def check(engine: Engine) -> None:
        send(10, "e")(engine)
        snapshot = engine.get("w")
        assert snapshot.status is Status.FINISHED
        assert sorted(snapshot.state.trace) == ["a", "b", "c", "it"]
        assert_done_once(engine)

    def resume_once_started(engine: Engine) -> None:
        if engine.runtime.store.load("w") is not None:
            resume(engine)

    # a lease of no time: each engine takes over from the other whenever it looks
    assert play_all(nothing, interrupted, resume_once_started, check, lease_seconds=RUN_OUT) > 10


@pytest.mark.timeout(900)
def test_guarantee_01_a_move_while_an_event_comes() -> None:
    def move(engine: Engine) -> None:
        with suppress(WorkflowBusy, WorkflowClosed):
            engine.move("w", "main", "b")

    def check(engine: Engine) -> None:
        send(10, "e")(engine)
        snapshot = engine.get("w")
        assert snapshot.status is Status.FINISHED
        assert snapshot.state.trace.count("b") in {1, 2}
        assert snapshot.state.count == sum(
            {"a": 1, "b": 1, "c": 1, "it": 10}[n] for n in snapshot.state.trace
        )

    assert play_all(start, send(10, "e"), move, check) > 10


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lease_seconds", [60.0, RUN_OUT])
def test_guarantee_01_two_events_without_an_id_both_count_once(lease_seconds: float) -> None:
    outputs: list[int] = []

    def prepare(engine: Engine) -> None:
        outputs.clear()
        engine.start(Counted(), workflow_id="w")

    def send_without_id(amount: int) -> Work:
        def work(engine: Engine) -> None:
            with suppress(EventPending):  # the other engine has it, and will handle it
                outputs.append(engine.callback("w", "it", amount))

        return work

    def check(engine: Engine) -> None:
        assert engine.get("w").status is Status.FINISHED
        assert sorted(engine.get("w").state.got) == [0, 0, 10, 20]
        assert set(outputs) <= {10, 20}
        assert len(outputs) == len(set(outputs))

    assert play_all(prepare, send_without_id(10), send_without_id(20), check, lease_seconds) > 10


@pytest.mark.timeout(900)
def test_guarantee_01_of_two_workers_one_wins_and_the_other_changes_nothing() -> None:
    """Both resume the same workflow: as long as its lease holds, each step runs once."""

    def prepare(engine: Engine) -> None:
        runtime = engine.runtime
        idle = Engine([Shared], store=runtime.store, clock=runtime.clock, budget=Budget(steps=0))
        idle.start(Shared(), workflow_id="w")

    def resume(engine: Engine) -> None:
        engine.resume("w")

    def check(engine: Engine) -> None:
        assert engine.get("w").state.trace == ["a", "c"]
        assert engine.get("w").state.count == 2
        assert Noted.take() == ["task set up"]
        record = engine.runtime.store.load("w")
        assert record is not None
        assert record.version == 5  # created, claimed, two steps, one setup

    assert play_all(prepare, resume, resume, check) > 5
