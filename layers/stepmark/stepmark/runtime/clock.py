"""Time, as the engine sees it."""

import time
from typing import Protocol


class Clock(Protocol):
    """What the engine asks for the time; seconds since the epoch."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
