"""Time, as the engine sees it."""

import time
from typing import Protocol


class Clock(Protocol):
    """What the engine asks for the time; seconds since the epoch.

    How long something takes is not measured by it, as it may be set: a clock may have `monotonic()` too, the
    seconds since any moment, which nobody sets. For one that hasn't, the machine's own is asked.
    """

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def monotonic_of(clock: Clock) -> float:
    """The time for measuring how long something takes."""
    seconds: float = getattr(clock, "monotonic", time.monotonic)()
    return seconds
