"""The engine for tests: in memory, with a clock that only moves when told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepmark.runtime.engine import Engine
from stepmark.stores.memory import MemoryStore

if TYPE_CHECKING:
    from stepmark.definition.workflow import Workflow


class VirtualClock:
    """A clock that stands still until it is moved; to sleep moves it.

    clock = VirtualClock(); clock.sleep(60); clock.now()
    """

    def __init__(self, now: float = 1_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


class LocalEngine(Engine):
    """An engine for tests: nothing is stored beyond the process, timers fire when the clock is moved.

        engine = LocalEngine(Approval)
        engine.start(Approval(user="ada"), workflow_id="1")
        engine.advance(minutes=10)
        assert engine.get("1").result == "timed out"

    start() and callback() return once everything is blocked: on events, on timers, or on a retry's delay.
    """

    def __init__(self, *workflow_classes: type[Workflow]) -> None:
        self.store = MemoryStore()
        self.clock = VirtualClock()
        super().__init__(workflow_classes, store=self.store, clock=self.clock)

    def advance(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0) -> None:
        """Move the clock, stopping at each moment at which a timer or a retry is due, and run what is."""
        until = self.clock.now() + seconds + 60 * minutes + 3600 * hours + 86400 * days
        run_due(self, self.clock, until)


def run_due(engine: Engine, clock: VirtualClock, until: float) -> None:
    """Run everything in the engine's store that is due up to a time, in order, moving the clock along."""
    store = engine.runtime.store
    while (due_at := store.next_due()) is not None and due_at <= until:
        clock.sleep(max(0.0, due_at - clock.now()))
        for workflow_id in store.due(clock.now(), 100):
            engine.resume(workflow_id)
    clock.sleep(max(0.0, until - clock.now()))
