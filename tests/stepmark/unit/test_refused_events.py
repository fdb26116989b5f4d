"""Events that come in the wrong state: refused by the Wait that a thread is at, or by the handler."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from stepmark import (
    DefinitionError,
    Engine,
    EventRefused,
    For,
    Go,
    MemoryStore,
    On,
    Scope,
    Section,
    SqliteStore,
    Status,
    Step,
    Timeout,
    Wait,
    Workflow,
    describe,
)
from stepmark.core.record import Progress
from stepmark.testing import LocalEngine

from tests.stepmark.support import until


@dataclass
class Order(Workflow, name="order"):
    log: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Wait("for the payment", On("paid", self.on_paid), On("cancel", self.on_cancel)),
            Wait("for the parcel", On("delivered", self.on_delivered), refuse=("cancel", "paid")),
            Wait("for a complaint", On("cancel", self.on_cancel), On("time is up", Timeout(days=30))),
        )

    def on_paid(self) -> str:
        self.log.append("paid")
        return "thanks"

    def on_cancel(self) -> None:
        self.log.append("cancelled")

    def on_delivered(self) -> None:
        self.log.append("delivered")


@pytest.mark.parametrize("event_id", [None, "k"])
def test_a_wait_refuses_what_does_not_fit_its_state(event_id: str | None) -> None:
    engine = LocalEngine(Order)
    engine.start(Order(), workflow_id="w")
    engine.callback("w", "paid")
    before = engine.get("w")
    with pytest.raises(EventRefused, match="'cancel' is refused at 'for the parcel'"):
        engine.callback("w", "cancel", event_id=event_id)
    assert engine.get("w") == before
    engine.callback("w", "delivered")
    assert engine.get("w").state.log == ["paid", "delivered"], "it was not kept"
    engine.callback("w", "cancel", event_id=event_id)
    assert engine.get("w").state.log == ["paid", "delivered", "cancelled"]


def test_the_repeat_of_an_event_is_answered_where_it_would_be_refused() -> None:
    engine = LocalEngine(Order)
    engine.start(Order(), workflow_id="w")
    assert engine.callback("w", "paid", event_id="k") == "thanks"
    assert engine.callback("w", "paid", event_id="k") == "thanks"
    with pytest.raises(EventRefused):
        engine.callback("w", "paid", event_id="another")


def test_what_was_kept_before_is_kept_on() -> None:
    @dataclass
    class Later(Order):
        def definition(self) -> Section:
            _, *others = super().definition().body
            time = On("time", Timeout(minutes=1)), On("paid", self.on_paid)
            return Section(Wait("for time", *time), *others)

    engine = LocalEngine(Later)
    engine.start(Later(), workflow_id="w")
    assert engine.callback("w", "cancel", event_id="k") is None
    engine.advance(minutes=1)
    assert engine.callback("w", "cancel", event_id="k") is None, "its sender was told that it is kept"
    engine.callback("w", "delivered")
    assert engine.get("w").state.log == ["delivered", "cancelled"]


def test_another_thread_may_wait_for_what_one_refuses() -> None:
    @dataclass
    class Threads(Workflow):
        got: int = 0

        def definition(self) -> Section:
            return Section(
                Go("other", For("once", self.got == 0, Wait("for it", On("it", self.on_it)))),
                Wait("for the end", On("end", None), refuse=("it",)),
            )

        def on_it(self) -> None:
            self.got += 1

    engine = LocalEngine(Threads)
    engine.start(Threads(), workflow_id="w")
    with pytest.raises(EventRefused):
        engine.callback("w", "it", thread="main")
    engine.callback("w", "it")
    assert engine.get("w").state.got == 1
    with pytest.raises(EventRefused):
        engine.callback("w", "it")


def test_names_in_a_scope_need_no_prefix() -> None:
    @dataclass
    class Scoped(Workflow):
        def definition(self) -> Section:
            return Section(
                Scope(
                    "legal",
                    Wait("first", On("read", None), refuse=("sign",)),
                    Wait("second", On("sign", None, aliases=("initial",))),
                )
            )

    engine = LocalEngine(Scoped)
    engine.start(Scoped(), workflow_id="w")
    for name in ("sign", "legal.sign", "legal.initial"):
        with pytest.raises(EventRefused):
            engine.callback("w", name)
    first, second = describe(Scoped)["statements"][0]["statements"]
    assert (first["refuses"], "refuses" in second) == (["legal.sign"], False)
    engine.callback("w", "read")
    engine.callback("w", "sign")
    assert engine.get("w").status is Status.FINISHED


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.timeout(60)
def test_an_event_sent_while_a_step_runs_is_refused_where_the_workflow_comes_to_rest(
    store: str, tmp_path: Any
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    @dataclass
    class Busy(Workflow):
        def definition(self) -> Section:
            return Section(
                Step("ship", self.ship),
                Wait("for the parcel", On("delivered", None), refuse=("cancel",)),
                Wait("for a complaint", On("cancel", None)),
            )

        def ship(self) -> None:
            begun.set()
            go_on.wait(30)

    engine = Engine([Busy], store=MemoryStore() if store == "memory" else SqliteStore(tmp_path / "w.db"))
    worker = threading.Thread(target=engine.start, args=(Busy(), "w"))
    worker.start()
    assert begun.wait(30)
    told: list[BaseException] = []

    def send() -> None:
        with pytest.raises(EventRefused) as raised:
            engine.callback("w", "cancel", event_id="k")
        told.append(raised.value)

    sender = threading.Thread(target=send)
    sender.start()
    until(lambda: _kept(engine) == 1)
    go_on.set()
    sender.join(30)
    worker.join(30)
    assert "'cancel' is refused at 'for the parcel'" in str(told[0])
    assert _kept(engine) == 0


def _kept(engine: Engine) -> int:
    record = engine.runtime.store.load("w")
    assert record is not None
    return len(Progress.from_json(record.progress).events)


@dataclass
class Choosy(Workflow):
    got: int = 0

    def definition(self) -> Section:
        return Section(
            Wait("for time", On("time", Timeout(minutes=1))),
            Wait("for it", On("it", self.on_it), On("end", None)),
        )

    def on_it(self, amount: int) -> None:
        self.got = amount
        if amount > 100:
            raise EventRefused("that is too much")


def test_a_handler_refuses_an_event_itself() -> None:
    engine = LocalEngine(Choosy)
    engine.start(Choosy(), workflow_id="w")
    engine.advance(minutes=1)
    with pytest.raises(EventRefused, match="that is too much"):
        engine.callback("w", "it", 101, event_id="k")
    snapshot = engine.get("w")
    assert (snapshot.status, snapshot.state.got, snapshot.error) == (Status.WAITING, 0, None)
    engine.callback("w", "it", 100, event_id="k")
    assert engine.get("w").state.got == 100


def test_a_kept_event_that_its_handler_refuses_is_dropped() -> None:
    engine = LocalEngine(Choosy)
    engine.start(Choosy(), workflow_id="w")
    engine.callback("w", "it", 101)
    engine.callback("w", "it", 99)
    engine.advance(minutes=1)
    assert (engine.get("w").status, engine.get("w").state.got) == (Status.FINISHED, 99)


@pytest.mark.parametrize(
    ("refuse", "why"),
    [
        (("end",), "waits for event 'end'"),
        (("enf",), "no event 'enf'"),
        ("end", "a tuple"),
        (("",), "no event ''"),
        ((3,), "no event 3"),
        (True, "a tuple"),
    ],
)
def test_a_wait_that_refuses_what_makes_no_sense_is_no_definition(refuse: Any, why: str) -> None:
    @dataclass
    class Wrong(Workflow):
        def definition(self) -> Section:
            return Section(Wait("for the end", On("end", None), refuse=refuse))

    with pytest.raises(DefinitionError, match=f"Wait 'for the end'.*{why}"):
        LocalEngine(Wrong).start(Wrong(), workflow_id="w")
