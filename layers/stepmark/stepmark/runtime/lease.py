"""For how long a workflow belongs to the one who runs it, and when that has to be prolonged."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from stepmark.runtime.clock import monotonic_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepmark.runtime.clock import Clock

BEATS = 10  # in the length of a lease: so often it is seen whether it has to be prolonged
MAX_DRIFT_SECONDS = 0.5  # between wall clock and monotonic clock while a lease lasts; more, and it was set


class LeaseEnd(NamedTuple):
    """The end of a lease: in seconds since the epoch, and by the clock that nobody sets."""

    until: float
    monotonic: float


class Lease:
    """One holder's lease, as it was last written.

    It has to last until a write that prolongs it is done, be that as slow as the store allows, or as twice
    the slowest of this holder so far.
    """

    def __init__(self, clock: Clock, seconds: float, slowest_write: float, until: float | None) -> None:
        self._clock = clock
        self._seconds = seconds
        self._slowest_allowed = slowest_write
        self._slowest_yet = 0.0
        self.end = self._ending_at(clock.now() if until is None else until)

    def _ending_at(self, until: float) -> LeaseEnd:
        return LeaseEnd(until, monotonic_of(self._clock) + until - self._clock.now())

    @contextmanager
    def written(self) -> Iterator[None]:
        """Measure a write."""
        began = monotonic_of(self._clock)
        try:
            yield
        finally:
            self._slowest_yet = max(self._slowest_yet, monotonic_of(self._clock) - began)

    def is_short(self, part: float) -> bool:
        """Whether less than a part of it is left, or less than the slowest write takes.

        The other reason to prolong it is a wall clock that was set: the store, and others, go by it.
        """
        left = self.end.monotonic - monotonic_of(self._clock)
        was_set = abs(self.end.until - self._clock.now() - left) > MAX_DRIFT_SECONDS
        slowest = max(self._slowest_allowed, 2 * self._slowest_yet) + self._seconds / BEATS
        if slowest > 0.8 * self._seconds:  # no lease of that length can be safe
            slowest = 0.5 * self._seconds
        return was_set or left < max(part * self._seconds, slowest)

    def prolonged(self) -> LeaseEnd:
        """The end of one that begins now, or rather when a write as slow as the slowest yet is done."""
        return self._ending_at(self._clock.now() + self._seconds + min(self._slowest_yet, self._seconds))
