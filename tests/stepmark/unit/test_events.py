"""Guarantee 7 and the rest about events: types, early ones, repeats, outputs, timers, handlers."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel
from stepmark import (
    DoNotRetry,
    EventsFull,
    For,
    Go,
    HandlerFailed,
    If,
    On,
    PayloadRefused,
    PayloadTooLarge,
    Scope,
    Section,
    Statement,
    Status,
    Step,
    Timeout,
    UnknownEvent,
    UnknownThread,
    Wait,
    Workflow,
    WorkflowClosed,
    WorkflowExists,
    WorkflowNotFound,
    current,
)
from stepmark.testing import LocalEngine

from tests.stepmark.support import Noted, Task


@dataclass
class Order:
    item: str
    amount: int
    due: date | None = None


class Person(BaseModel):
    name: str


class Place(TypedDict):
    city: str


@dataclass
class Typed(Workflow):
    got: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            For(
                "all",
                len(self.got) < 100,
                Wait(
                    "for something",
                    On("dataclass", self.on_dataclass),
                    On("model", self.on_model),
                    On("typed dict", self.on_typed_dict),
                    On("int", self.on_int),
                    On("list", self.on_list),
                    On("anything", self.on_anything),
                    On("nothing", self.on_nothing),
                    On("async", self.on_async),
                ),
            )
        )

    def on_dataclass(self, order: Order) -> Order:
        self.got.append(repr(order))
        return order

    def on_model(self, person: Person) -> Person:
        self.got.append(repr(person))
        return person

    def on_typed_dict(self, place: Place) -> str:
        self.got.append(repr(place))
        return place["city"]

    def on_int(self, number: int) -> int:
        self.got.append(repr(number))
        return number + 1

    def on_list(self, names: list[str]) -> int:
        self.got.append(repr(names))
        return len(names)

    def on_anything(self, payload) -> Any:  # type: ignore[no-untyped-def]
        self.got.append(repr(payload))
        return payload

    def on_nothing(self) -> None:
        self.got.append("nothing")

    async def on_async(self, text: str) -> str:
        self.got.append(text)
        return text * 2


GOOD: list[tuple[str, Any, Any]] = [
    ("dataclass", {"item": "pen", "amount": 2}, {"item": "pen", "amount": 2, "due": None}),
    (
        "dataclass",
        {"item": "pen", "amount": 2, "due": "2026-11-21"},
        {"item": "pen", "amount": 2, "due": "2026-11-21"},
    ),
    ("dataclass", Order("pen", 3), {"item": "pen", "amount": 3, "due": None}),
    ("model", {"name": "Ada"}, {"name": "Ada"}),
    ("model", Person(name="Ada"), {"name": "Ada"}),
    ("typed dict", {"city": "Paris"}, "Paris"),
    ("int", 4, 5),
    ("list", ["a", "b"], 2),
    ("anything", {"a": [1, None]}, {"a": [1, None]}),
    ("nothing", None, None),
    ("async", "ab", "abab"),
]
BAD: list[tuple[str, Any]] = [
    ("dataclass", {"item": "pen"}),
    ("dataclass", {"item": "pen", "amount": "2"}),
    ("dataclass", None),
    ("model", {"name": 3}),
    ("typed dict", {}),
    ("int", "4"),
    ("int", True),
    ("list", [1]),
    ("nothing", 1),
    ("async", b"\xff"),
    ("anything", object()),
]


@pytest.mark.parametrize(("event", "payload", "output"), GOOD)
def test_guarantee_07_a_payload_is_what_the_handlers_annotation_says(
    event: str, payload: Any, output: Any
) -> None:
    engine = LocalEngine(Typed)
    engine.start(Typed(), workflow_id="1")
    assert engine.callback("1", event, payload) == output
    assert len(engine.get("1").state.got) == 1


@pytest.mark.parametrize(("event", "payload"), BAD)
def test_guarantee_07_a_payload_of_the_wrong_type_is_refused_and_changes_nothing(
    event: str, payload: Any
) -> None:
    engine = LocalEngine(Typed)
    before = engine.start(Typed(), workflow_id="1").version
    with pytest.raises(PayloadRefused, match=event):
        engine.callback("1", event, payload)
    assert engine.get("1").version == before


@dataclass
class Later(Workflow):
    answers: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Wait("for time", On("time is up", Timeout(minutes=1))),
            Wait("for an answer", On("answer", self.on_answer), On("other", None)),
            Wait("for another", On("answer", self.on_answer)),
        )

    def on_answer(self, text: str) -> str:
        self.answers.append(text)
        return f"thanks for {text}"


def test_guarantee_07_an_event_that_arrives_before_its_wait_is_kept_and_delivered() -> None:
    engine = LocalEngine(Later)
    engine.start(Later(), workflow_id="1")
    assert engine.callback("1", "answer", "first", event_id="e1") is None
    assert engine.callback("1", "answer", "second") is None
    with pytest.raises(PayloadRefused):
        engine.callback("1", "answer", 3)
    engine.advance(minutes=1)
    assert engine.get("1").state.answers == ["first", "second"]
    assert engine.callback("1", "answer", "first", event_id="e1") == "thanks for first"
    assert engine.get("1").status is Status.FINISHED


def test_guarantee_07_the_same_event_id_counts_once() -> None:
    engine = LocalEngine(Later)
    engine.start(Later(), workflow_id="1")
    engine.callback("1", "answer", "early", event_id="e1")
    engine.callback("1", "answer", "early", event_id="e1")
    engine.advance(minutes=1)
    assert engine.get("1").state.answers == ["early"]
    assert engine.callback("1", "answer", "second", event_id="e2") == "thanks for second"
    assert engine.callback("1", "answer", "changed", event_id="e2") == "thanks for second"
    assert engine.get("1").state.answers == ["early", "second"]


def test_guarantee_07_exactly_one_event_wins() -> None:
    @dataclass
    class Race(Workflow):
        won: list[str] = field(default_factory=list)

        def definition(self) -> Section:
            return Section(
                Wait(
                    "for the first",
                    On("a", self.note, Step("after a", self.step)),
                    On("b", self.note, Step("after b", self.step)),
                    On("too late", Timeout(minutes=1), Step("after time", self.step)),
                ),
                Wait("for ever", On("end", None)),
            )

        def note(self) -> None:
            self.won.append(current().statement)

        def step(self) -> None:
            self.won.append(current().statement)

    engine = LocalEngine(Race)
    engine.start(Race(), workflow_id="1")
    engine.callback("1", "b")
    engine.callback("1", "a")
    engine.advance(minutes=2)
    assert engine.get("1").state.won == ["b", "after b"]


def test_an_event_after_the_deadline_is_too_late_even_if_nobody_has_looked() -> None:
    @dataclass
    class Deadline(Workflow):
        result: str = ""

        def definition(self) -> Section:
            return Section(
                Wait("for an answer", On("answer", self.on_answer), On("too late", Timeout(minutes=1))),
                Wait("for ever", On("end", None)),
            )

        def on_answer(self) -> None:
            self.result = "answered"

    engine = LocalEngine(Deadline)
    engine.start(Deadline(), workflow_id="1")
    engine.clock.sleep(61)  # the timer is due, but no worker has come by
    assert engine.callback("1", "answer") is None
    assert engine.get("1").state.result == ""


@dataclass
class WithTask(Workflow):
    def definition(self) -> Section:
        return Section(Wait("for a person", On("task", Task()), On("other", Task("other")), On("stop", None)))


def test_a_handler_is_set_up_handles_and_is_torn_down() -> None:
    Noted.take()
    engine = LocalEngine(WithTask)
    engine.start(WithTask(), workflow_id="1")
    assert engine.callback("1", "task", "yes") == "YES"
    assert Noted.take() == [
        "task set up",
        "other set up",
        "task handled with ticket of main",
        "task torn down with ticket of main, handled: True",
        "other torn down with ticket of main, handled: False",
    ]


def test_a_handler_that_raises_tells_the_sender_and_changes_nothing() -> None:
    @dataclass
    class Raises(Workflow):
        count: int = 0

        def definition(self) -> Section:
            return Section(Wait("for it", On("it", self.on_it)))

        def on_it(self, good: bool) -> str:
            self.count += 1
            if not good:
                raise LookupError("unknown customer")
            return "fine"

    engine = LocalEngine(Raises)
    engine.start(Raises(), workflow_id="1")
    with pytest.raises(HandlerFailed, match="unknown customer") as raised:
        engine.callback("1", "it", False, event_id="e")
    assert isinstance(raised.value.__cause__, LookupError)
    assert engine.get("1").status is Status.WAITING
    assert engine.callback("1", "it", True, event_id="e") == "fine"
    assert engine.get("1").state.count == 1


def test_the_handler_of_a_kept_event_is_retried_and_then_parks() -> None:
    @dataclass
    class Refusing(Workflow):
        def definition(self) -> Section:
            return Section(
                Wait("for time", On("time is up", Timeout(minutes=1))),
                Wait("for it", On("it", self.on_it), On("instead", None)),
            )

        def on_it(self) -> None:
            raise DoNotRetry("no")

    engine = LocalEngine(Refusing)
    engine.start(Refusing(), workflow_id="1")
    engine.callback("1", "it")
    engine.advance(minutes=1)
    assert engine.get("1").status is Status.PARKED
    assert "it: DoNotRetry: no" in str(engine.get("1").error)
    engine.callback("1", "instead")
    assert engine.get("1").status is Status.FINISHED


@dataclass
class TwoWaiters(Workflow):
    got: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            *[Go("waiter", Wait("for work", On("work", self.on_work)), id=name) for name in "ab"],
        )

    def on_work(self, what: str) -> str:
        self.got.append(f"{current().thread}: {what}")
        return current().thread


def test_an_event_goes_to_the_thread_that_is_named_or_has_waited_longest() -> None:
    engine = LocalEngine(TwoWaiters)
    engine.start(TwoWaiters(), workflow_id="1")
    assert engine.callback("1", "work", "x", thread="waiter[b]") == "waiter[b]"
    assert engine.callback("1", "work", "y") == "waiter[a]"
    assert engine.get("1").status is Status.FINISHED


def test_what_is_refused() -> None:
    engine = LocalEngine(Later, TwoWaiters)
    engine.start(Later(), workflow_id="1")
    with pytest.raises(UnknownEvent, match="'nonsense' is not in its definition"):
        engine.callback("1", "nonsense")
    with pytest.raises(UnknownEvent, match="fires by itself"):
        engine.callback("1", "time is up")
    with pytest.raises(UnknownThread, match="'nobody'"):
        engine.callback("1", "answer", "x", thread="nobody")
    with pytest.raises(WorkflowNotFound, match="'2'"):
        engine.callback("2", "answer", "x")
    with pytest.raises(WorkflowExists, match="'1'"):
        engine.start(TwoWaiters(), workflow_id="1")
    engine.cancel("1")
    with pytest.raises(WorkflowClosed, match="CANCELLED"):
        engine.callback("1", "answer", "x")


def test_kept_events_are_bounded() -> None:
    engine = LocalEngine(Later)
    engine.start(Later(), workflow_id="1")
    for _ in range(100):
        engine.callback("1", "answer", "x")
    with pytest.raises(EventsFull):
        engine.callback("1", "answer", "x")
    with pytest.raises(PayloadTooLarge, match="longer"):
        engine.callback("1", "answer", "x" * 100_000)
    with pytest.raises(PayloadTooLarge, match="longer"):
        engine.callback("1", "answer", "é" * 40_000)  # bytes count, not characters


@dataclass
class MayEnd(Workflow):
    answers: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Wait("for the end", On("end", lambda: "ended")),
            If(bool(self.answers), "never", Wait("later", On("answer", self.answers.append))),
        )


@pytest.mark.parametrize("end", ["event", "cancel"])
def test_guarantee_07_the_repeat_of_a_kept_event_gets_its_first_answer_when_all_is_over(end: str) -> None:
    engine = LocalEngine(MayEnd)
    engine.start(MayEnd(), workflow_id="1")
    assert engine.callback("1", "answer", "early", event_id="kept") is None
    if end == "event":
        assert engine.callback("1", "end", event_id="end") == "ended"
    else:
        engine.cancel("1")
    assert engine.get("1").status.closed
    assert engine.callback("1", "answer", "early", event_id="kept") is None
    with pytest.raises(WorkflowClosed):
        engine.callback("1", "answer", "late", event_id="another")


@dataclass
class Reused(Workflow):
    """A sub-workflow used twice, and an event that has the same name without a prefix."""

    got: list[str] = field(default_factory=list)
    own: bool = False

    def definition(self) -> Section:
        return Section(
            Scope("first", *self.asking()),
            Scope("second", *self.asking()),
            *([Wait("own", On("answer", self.got.append))] if self.own else []),
        )

    def asking(self) -> tuple[Statement, ...]:
        return (Wait("ask", On("answer", self.got.append)),)


def test_the_sender_of_an_event_may_leave_out_the_scopes_prefix() -> None:
    engine = LocalEngine(Reused)
    engine.start(Reused(), workflow_id="1")
    assert engine.get("1").waiting_for == ["first.answer"]
    engine.callback("1", "answer", "a")
    assert engine.get("1").waiting_for == ["second.answer"]
    engine.callback("1", "second.answer", "b")
    assert engine.get("1").state.got == ["a", "b"]
    engine.start(Reused(), workflow_id="2")
    with pytest.raises(UnknownEvent):
        engine.callback("2", "third.answer", "c")


def test_an_event_with_that_very_name_comes_before_one_with_a_prefix() -> None:
    engine = LocalEngine(Reused)
    engine.start(Reused(own=True), workflow_id="1")
    assert engine.callback("1", "answer", "own") is None  # kept for the Wait that is called so
    assert engine.get("1").waiting_for == ["first.answer"]
    engine.callback("1", "first.answer", "a")
    engine.callback("1", "second.answer", "b")
    assert engine.get("1").state.got == ["a", "b", "own"]


def test_starting_twice_runs_nothing_twice() -> None:
    engine = LocalEngine(Later)
    assert engine.start(Later(), workflow_id="1").created
    again = engine.start(Later(answers=["other"]), workflow_id="1")
    assert not again.created
    assert again.state.answers == []


@dataclass
class SendsToItself(Workflow):
    seen: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Step("send", self.send),
            Step("send async", self.send_async),
            Wait("for the first", On("done", self.on_done)),
            Wait("for the second", On("done", self.on_done)),
        )

    def send(self) -> None:
        self.seen.append(f"sent, {ENGINES[0].callback(current().workflow_id, 'done', 'one')}")

    async def send_async(self) -> None:
        self.seen.append(f"sent, {ENGINES[0].callback(current().workflow_id, 'done', 'two')}")

    def on_done(self, text: str) -> None:
        self.seen.append(text)


ENGINES: list[LocalEngine] = []


def test_a_step_may_send_an_event_to_its_own_workflow() -> None:
    engine = LocalEngine(SendsToItself)
    ENGINES[:] = [engine]
    before = engine.clock.now()
    snapshot = engine.start(SendsToItself(), workflow_id="1")
    assert snapshot.status is Status.FINISHED
    assert snapshot.state.seen == ["sent, None", "sent, None", "one", "two"]
    assert engine.clock.now() == before
