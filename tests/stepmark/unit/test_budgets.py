"""What an engine with little or no budget still does for the sender of an event, and what it leaves alone."""

from dataclasses import dataclass, field

import pytest
from stepmark import (
    Budget,
    Engine,
    For,
    Go,
    HandlerFailed,
    MemoryStore,
    On,
    Retry,
    Section,
    Status,
    Step,
    Timeout,
    Wait,
    Workflow,
    current,
)
from stepmark.core.record import Progress
from stepmark.testing import VirtualClock

from tests.stepmark.support import CountingStore, Noted, Task


@dataclass
class RetryBeside(Workflow):
    """A thread whose step has failed once and is due again, and a wait for a person."""

    answers: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("flaky", self.flaky, retry=Retry(first_delay=5, jitter=0))),
            Step("one", self.step),  # two turns of this thread, so that the other's comes first
            Step("two", self.step),
            Wait("for an answer", On("answer", self.on_answer)),
            Step("after", self.after),
        )

    def flaky(self) -> None:
        Noted.log.append("flaky")
        if len(Noted.log) == 1:
            raise ConnectionError

    def on_answer(self, text: str) -> str:
        if text == "bad":
            raise ValueError(text)
        self.answers.append(text)
        return text.upper()

    def step(self) -> None: ...

    def after(self) -> None:
        Noted.log.append("after")


def retry_beside(
    budget: Budget, *, queued: bool = False
) -> tuple[Engine, Engine, CountingStore, VirtualClock]:
    """An engine with a budget, one without, and a workflow whose retry has just become due."""
    Noted.take()
    store, clock = CountingStore(), VirtualClock()
    plain = Engine([RetryBeside], store=store, clock=clock)
    plain.start(RetryBeside(), workflow_id="w")
    clock.sleep(5)
    store.calls.clear()
    return Engine([RetryBeside], store=store, clock=clock, budget=budget, queued=queued), plain, store, clock


@pytest.mark.parametrize("budget", [Budget(steps=0), Budget(seconds=0)])
def test_without_a_budget_a_callback_delivers_its_event_and_runs_nobodys_step(budget: Budget) -> None:
    engine, plain, store, clock = retry_beside(budget)
    assert engine.callback("w", "answer", "yes") == "YES"
    assert Noted.log == ["flaky"]
    assert store.calls == ["load", "commit"]
    assert store.due(clock.now(), 10) == ["w"]
    assert plain.resume("w").status is Status.FINISHED
    assert sorted(Noted.take()) == ["after", "flaky", "flaky"]


def test_what_the_budget_leaves_goes_into_the_queue_with_the_event() -> None:
    engine, plain, store, _ = retry_beside(Budget(steps=0), queued=True)
    assert engine.callback("w", "answer", "yes") == "YES"
    record = store.load("w")
    assert record is not None
    assert record.queued
    assert Noted.log == ["flaky"]
    assert plain.resume("w").status is Status.FINISHED


def test_without_a_budget_a_refused_event_changes_nothing_and_runs_nobodys_step() -> None:
    engine, _, store, _ = retry_beside(Budget(steps=0))
    with pytest.raises(HandlerFailed):
        engine.callback("w", "answer", "bad")
    assert store.calls == ["load"]
    assert Noted.take() == ["flaky"]


@dataclass
class Two(Workflow):
    """A wait, many steps, and another wait."""

    count: int = 0
    got: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Wait("first", On("one", self.on_event)),
            For("count", self.count < 50, Step("add", self.add)),
            Wait("second", On("two", self.on_event)),
        )

    def add(self) -> None:
        self.count += 1

    def on_event(self) -> str:
        self.got.append(current().statement)
        return "thanks"


@pytest.mark.parametrize("budget", [Budget(steps=0), Budget(seconds=0)])
def test_an_early_event_is_stored_without_a_budget(budget: Budget) -> None:
    store, clock = MemoryStore(), VirtualClock()
    engine = Engine([Two], store=store, clock=clock, budget=budget)
    engine.start(Two(), workflow_id="w")
    assert engine.callback("w", "two", event_id="e") is None
    assert engine.callback("w", "one") == "thanks"
    assert Engine([Two], store=store, clock=clock).resume("w").state.got == ["one", "two"]


def test_an_early_event_does_not_lift_the_budget() -> None:
    engine = Engine([Two], store=MemoryStore(), clock=VirtualClock(), budget=Budget(steps=5))
    engine.start(Two(), workflow_id="w")
    engine.callback("w", "one")
    assert engine.get("w").state.count == 4  # the event is one of the five
    assert engine.callback("w", "two") is None
    assert engine.get("w").state.count == 9


@dataclass
class NeedsSetup(Workflow):
    def definition(self) -> Section:
        return Section(Wait("for a person", On("task", Task())))


def test_without_a_budget_nothing_is_set_up_for_an_event() -> None:
    Noted.take()
    store, clock = MemoryStore(), VirtualClock()
    engine = Engine([NeedsSetup], store=store, clock=clock, budget=Budget(steps=0))
    engine.start(NeedsSetup(), workflow_id="w")
    assert engine.callback("w", "task", "yes", event_id="e") is None
    assert Noted.take() == []
    assert Engine([NeedsSetup], store=store, clock=clock).resume("w").status is Status.FINISHED
    assert engine.callback("w", "task", "yes", event_id="e") == "YES"


def test_an_early_event_left_with_a_worker_that_dies_is_kept_without_a_budget() -> None:
    """The sender finds the lease over while it waits, and keeps the event for whoever runs the steps."""
    store, clock = MemoryStore(), VirtualClock()
    store.on_one_machine = False  # or the sender would see the death at once
    Engine([Two], store=store, clock=clock).start(Two(), workflow_id="w")

    class Dead(BaseException):
        pass

    @dataclass
    class Dying(Two, name="Two"):
        def add(self) -> None:
            raise Dead

    with pytest.raises(Dead):
        Engine([Dying], store=store, clock=clock, lease_seconds=5).callback("w", "one")
    engine = Engine([Two], store=store, clock=clock, budget=Budget(steps=0), callback_seconds=10)
    before = clock.now()
    assert engine.callback("w", "two") is None  # kept: the steps before its Wait are not this engine's
    assert before + 5 <= clock.now() < before + 10
    record = store.load("w")
    assert record is not None
    assert record.lease_owner is None
    assert [event.event for event in Progress.from_json(record.progress).events] == ["two"]
    assert Engine([Two], store=store, clock=clock).resume("w").state.got == ["one", "two"]


class Gone(BaseException):
    """The process has ended."""


@dataclass
class DiesBeside(Workflow):
    """A step that takes its process with it, while another thread waits for an event."""

    got: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("die", self.die, into=self.got.append)),
            Wait("for it", On("it", self.on_it)),
        )

    def die(self) -> str:
        raise Gone

    def on_it(self) -> str:
        self.got.append("it")
        return "thanks"


@pytest.mark.timeout(60)
def test_a_sender_without_a_budget_delivers_what_it_has_left_with_a_worker_that_dies() -> None:
    store, clock = MemoryStore(), VirtualClock()
    with pytest.raises(Gone):
        Engine([DiesBeside], store=store, clock=clock, lease_seconds=5).start(DiesBeside(), workflow_id="w")
    record = store.load("w")
    assert record is not None
    assert record.leased(clock.now())
    engine = Engine([DiesBeside], store=store, clock=clock, budget=Budget(steps=0), callback_seconds=10)
    assert engine.callback("w", "it") == "thanks"
    assert engine.get("w").state.got == ["it"]
    assert store.due(clock.now(), 10) == ["w"]


def test_an_event_at_a_wait_to_which_a_deploy_has_added_a_timeout_is_delivered_without_a_budget() -> None:
    @dataclass
    class Plain(Workflow, name="patient"):
        def definition(self) -> Section:
            return Section(Wait("for it", On("it", self.on_it)))

        def on_it(self) -> str:
            return "thanks"

    @dataclass
    class Impatient(Plain, name="patient"):
        def definition(self) -> Section:
            return Section(Wait("for it", On("it", self.on_it), On("late", Timeout(hours=1))))

    store, clock = MemoryStore(), VirtualClock()
    Engine([Plain], store=store, clock=clock).start(Plain(), workflow_id="w")
    engine = Engine([Impatient], store=store, clock=clock, budget=Budget(steps=0))
    assert engine.callback("w", "it") == "thanks"
