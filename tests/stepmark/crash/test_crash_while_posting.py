"""A sender leaves an event with the worker that runs the workflow, and either of them stops at any call."""

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

import pytest
from stepmark import (
    Engine,
    EventPending,
    Go,
    Handler,
    MemoryStore,
    On,
    Request,
    Section,
    Status,
    Step,
    Wait,
    Workflow,
    WorkflowClosed,
    current,
)
from stepmark.testing import VirtualClock, run_due

from tests.stepmark.crash.bombs import Bomb, Crash, CrashingScheduler, CrashingStore

LEASE_SECONDS = 30.0
EVENTS = ("one", "two", "three")


class Outside:
    """Another process, which sends events and may stop while it does."""

    def __init__(self, store: CrashingStore, clock: VirtualClock) -> None:
        self.engine = Engine(
            [Posted], store=store, clock=clock, lease_seconds=LEASE_SECONDS, callback_seconds=0
        )
        self._sends = False

    def send(self, event: str) -> None:
        if self._sends:  # it does one thing at a time
            return
        self._sends = True
        # nothing of the step that runs in this process is known there
        try:
            Context().run(self.engine.callback, "w", event, event, event_id=event)
        except EventPending:
            LEFT.append(event)
        except (WorkflowClosed, Crash):
            pass
        self._sends = False


OUTSIDE: list[Outside] = []
LEFT: list[str] = []  # the events that were left with the worker


class Ticket(Handler[str, None]):
    """Events come while it is set up, and while it is handled."""

    def setup(self, request: Request[None]) -> None:
        assert request.setup_data is None
        OUTSIDE[0].send("two")

    def handle(self, request: Request[None], payload: str) -> str:
        assert isinstance(request.state, Posted)
        OUTSIDE[0].send("three")
        return request.state.on_event(payload)


@dataclass
class Posted(Workflow):
    """Each of its steps is met by an event while it runs."""

    got: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("alongside", self.alongside, into=self.trace.append)),
            Step("first", self.step),
            Wait("for one", On("one", self.on_event)),
            Wait("for two", On("two", Ticket())),
            Step("second", self.step),
            Wait("for three", On("three", self.on_event)),
            Step("third", self.step),
        )

    def step(self) -> None:
        self.trace.append(current().statement)
        OUTSIDE[0].send("one")

    def alongside(self) -> str:
        OUTSIDE[0].send("one")
        return "alongside"

    def on_event(self, payload: str) -> str:
        self.got.append(payload)
        return payload.upper()


def run(bomb: Bomb) -> None:
    clock = VirtualClock()
    store = CrashingStore(MemoryStore(), bomb)

    def engine() -> Engine:
        OUTSIDE[:] = [Outside(store, clock)]
        return Engine(
            [Posted],
            store=store,
            clock=clock,
            scheduler=CrashingScheduler(bomb),
            lease_seconds=LEASE_SECONDS,
            callback_seconds=LEASE_SECONDS * 2,
        )

    def survive(call: Callable[[Engine], Any]) -> Any:
        while True:
            try:
                return call(engine())
            except Crash:
                continue

    survive(lambda engine: engine.start(Posted(), workflow_id="w"))
    for event in EVENTS:
        # beyond the lease of whoever has stopped; then the sender asks again, as it was told to
        survive(lambda engine: run_due(engine, clock, clock.now() + LEASE_SECONDS + 1))
        output = survive(lambda engine, event=event: engine.callback("w", event, event, event_id=event))  # type: ignore[misc]
        assert output in {event.upper(), None}
    survive(lambda engine: run_due(engine, clock, clock.now() + LEASE_SECONDS + 1))
    snapshot = survive(lambda engine: engine.get("w"))
    assert snapshot.status is Status.FINISHED
    assert snapshot.state.got == list(EVENTS)
    assert sorted(snapshot.state.trace) == ["alongside", "first", "second", "third"]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(600)
def test_guarantee_05_stopped_at_every_call_while_events_are_posted() -> None:
    LEFT.clear()
    calm = Bomb()
    run(calm)
    assert set(LEFT) == set(EVENTS)  # none found the workflow free
    for at in range(1, calm.count + 1):
        run(Bomb(at))
        for apart in range(1, 12):
            run(Bomb(at, at + apart))
