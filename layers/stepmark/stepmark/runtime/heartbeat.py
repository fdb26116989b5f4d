"""The thread of a process that keeps leases alive while long steps run."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from stepmark.runtime.engine import Engine

_log = logging.getLogger("stepmark")


class Heartbeat:
    """Prolongs the leases of what the engines of this process run, however long a step takes.

    One thread for all of them: it begins with the first call that runs a workflow and ends when none runs,
    so that a call which is over within a quarter of its lease costs no thread.
    """

    def __init__(self) -> None:
        self._engines: WeakSet[Engine] = WeakSet()
        self._changed = threading.Condition()
        self._pause: float | None = None  # until the next beat; None: there is no thread

    def watch(self, engine: Engine) -> None:
        """Keep the engine's leases from now on, until it runs nothing."""
        seconds = engine.runtime.lease_seconds / 4
        if seconds <= 0:
            return
        with self._changed:
            self._engines.add(engine)
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
                for engine in [each for each in self._engines if not each.runs_something]:
                    self._engines.discard(engine)
                engines = list(self._engines)
                self._pause = min((each.runtime.lease_seconds / 4 for each in engines), default=None)
                if self._pause is None:
                    return
            while engines:
                _renew(engines.pop())


def _renew(engine: Engine) -> None:
    try:
        engine.renew_leases()
    except Exception as error:  # noqa: BLE001 - the other engines' leases must not run out for it
        _log.warning("leases could not be prolonged: %s", type(error).__name__)


HEARTBEAT = Heartbeat()


def _forget_thread() -> None:
    """In a forked process: threads do not survive a fork."""
    HEARTBEAT.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_forget_thread)
