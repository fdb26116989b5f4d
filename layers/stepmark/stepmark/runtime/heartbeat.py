"""The thread of a process that keeps leases alive while long steps run."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

from stepmark.errors import printable
from stepmark.runtime.lease import BEATS

if TYPE_CHECKING:
    from stepmark.runtime.ledger import Ledger

_log = logging.getLogger("stepmark")


class Leases:
    """The leases of what one engine runs now, each for so many seconds.

    Each is prolonged on a thread of its own: a write that hangs, or fails, is that workflow's alone.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ledgers: set[Ledger] = set()
        self._renewing: set[Ledger] = set()

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
        """Prolong those for which it is time, and wait for that."""
        for ledger in list(self._ledgers):
            _renew(ledger)

    def begin_to_renew(self) -> None:
        """Prolong those for which it is time, without waiting for it."""
        for ledger in list(self._ledgers):
            if ledger.needs_renewal and ledger not in self._renewing:
                self._renewing.add(ledger)
                renewal = threading.Thread(
                    target=self._renew_beside, args=(ledger,), name="stepmark-renewal", daemon=True
                )
                try:
                    renewal.start()
                except RuntimeError:  # there are too many threads, or the process ends
                    self._renew_beside(ledger)

    def _renew_beside(self, ledger: Ledger) -> None:
        try:
            _renew(ledger)
        finally:
            self._renewing.discard(ledger)


SHORTEST_SECONDS = 0.001  # between two beats: more often would be to do nothing else


class Heartbeat:
    """Prolongs the leases of what the engines of this process run, however long a step takes.

    One thread looks after all of them: it begins with the first call that runs a workflow and ends when none
    runs, so that calls which are soon over cost no thread each.
    """

    def __init__(self) -> None:
        self._watched: WeakSet[Leases] = WeakSet()
        self._changed = threading.Condition()
        self._pause: float | None = None  # until the next beat; None: there is no thread

    def watch(self, leases: Leases) -> None:
        """Keep an engine's leases from now on, until it runs nothing."""
        seconds = leases.seconds / BEATS
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
                self._pause = min((each.seconds / BEATS for each in watched), default=None)
                if self._pause is None:
                    return
            while watched:
                watched.pop().begin_to_renew()


def _renew(ledger: Ledger) -> None:
    try:
        ledger.renew()
    except Exception as error:  # noqa: BLE001 - a store may raise anything; the next beat tries again
        what = printable(ledger.record.workflow_id), type(error).__name__
        _log.warning("workflow %s: its lease could not be prolonged: %s", *what)


HEARTBEAT = Heartbeat()


def _forget_thread() -> None:
    """In a forked process: threads do not survive a fork."""
    HEARTBEAT.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_forget_thread)
