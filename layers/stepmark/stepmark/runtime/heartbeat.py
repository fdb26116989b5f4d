"""The thread of a process that keeps leases alive while long steps run."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from stepmark.runtime.ledger import Ledger

_log = logging.getLogger("stepmark")


class Leases:
    """The leases of what one engine runs now, each for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ledgers: set[Ledger] = set()

    def __bool__(self) -> bool:
        return bool(self._ledgers)

    def add(self, ledger: Ledger) -> None:
        """Prolong this one too, from now on."""
        self._ledgers.add(ledger)
        HEARTBEAT.watch(self)

    def discard(self, ledger: Ledger) -> None:
        """Prolong this one no more."""
        self._ledgers.discard(ledger)

    def renew(self) -> None:
        """Prolong those that are half over."""
        for ledger in list(self._ledgers):
            ledger.renew()


SHORTEST_SECONDS = 0.001  # between two beats: more often would be to do nothing else


class Heartbeat:
    """Prolongs the leases of what the engines of this process run, however long a step takes.

    One thread for all of them: it begins with the first call that runs a workflow and ends when none runs,
    so that a call which is over within a quarter of its lease costs no thread.
    """

    def __init__(self) -> None:
        self._watched: WeakSet[Leases] = WeakSet()
        self._changed = threading.Condition()
        self._pause: float | None = None  # until the next beat; None: there is no thread

    def watch(self, leases: Leases) -> None:
        """Keep an engine's leases from now on, until it runs nothing."""
        seconds = leases.seconds / 4
        if seconds < SHORTEST_SECONDS:
            return
        with self._changed:
            self._watched.add(leases)
            if self._pause is None:
                self._pause = seconds
                threading.Thread(target=self._beat, name="stepmark-heartbeat", daemon=True).start()
            elif seconds < self._pause:
                self._pause = seconds
                self._changed.notify()

    def _beat(self) -> None:
        while True:
            with self._changed:
                while self._changed.wait(self._pause):
                    pass  # told of a shorter lease
                for idle in [each for each in self._watched if not each]:
                    self._watched.discard(idle)
                watched = list(self._watched)
                self._pause = min((each.seconds / 4 for each in watched), default=None)
                if self._pause is None:
                    return
            while watched:
                _renew(watched.pop())


def _renew(leases: Leases) -> None:
    try:
        leases.renew()
    except Exception as error:  # noqa: BLE001 - the other engines' leases must not run out for it
        _log.warning("leases could not be prolonged: %s", type(error).__name__)


HEARTBEAT = Heartbeat()


def _forget_thread() -> None:
    """In a forked process: threads do not survive a fork."""
    HEARTBEAT.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_forget_thread)
