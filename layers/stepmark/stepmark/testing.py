"""The engine for tests: in memory, with a clock that only moves when told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepmark.runtime.engine import Engine
from stepmark.stores.memory import MemoryStore

if TYPE_CHECKING:
    from stepmark.definition.workflow import Workflow


UNITS = 1_000_000  # in a second: a clock of floats would be a little behind after ten times 0.1 s


class VirtualClock:
    """A clock that stands still until it is moved; to sleep moves it.

        clock = VirtualClock(); clock.sleep(60); clock.now()

    It counts in whole microseconds; a sleep that is shorter takes one.
    """

    def __init__(self, now: float = 1_000_000.0) -> None:
        self._passed = round(now * UNITS)
        self.set(now)

    def now(self) -> float:
        return max(self._units / UNITS, self._at_least)

    def monotonic(self) -> float:
        return self._passed / UNITS

    def sleep(self, seconds: float) -> None:
        units = round(seconds * UNITS) or int(seconds > 0)
        self._units += units
        self._passed += max(units, 0)
        self._at_least = 0.0

    def sleep_until(self, at: float) -> None:
        """Sleep until it is that time, if it is not already."""
        if at > self.now():
            passed, before = self._passed, self._units
            self.set(at)
            self._passed = passed + self._units - before

    def set(self, now: float) -> None:
        """Set it forward or back, as a machine's time service does: no time passes, so no lease ends.

        clock.set(clock.now() - 3600)
        """
        self._units = round(now * UNITS)
        self._at_least = now  # which may be more than a whole number, by what a float can't tell


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
        """Move the clock, stopping at each moment at which a timer or a retry is due, and run what is.

        Times are whole microseconds: ten times 0.1 s is 1 s.
        """
        until = self.clock.now() + seconds + 60 * minutes + 3600 * hours + 86400 * days
        run_due(self, self.clock, until)


def run_due(engine: Engine, clock: VirtualClock, until: float) -> None:
    """Run everything in the engine's store that is due up to a time, in order, moving the clock along."""
    store, last = engine.runtime.store, until + 0.5 / UNITS  # either may be off by what a float can't tell
    while (due_at := store.next_due()) is not None and due_at <= last:
        clock.sleep_until(due_at)
        for workflow_id in store.due(clock.now(), 100):
            engine.resume(workflow_id)
    clock.sleep_until(round(until * UNITS) / UNITS)
