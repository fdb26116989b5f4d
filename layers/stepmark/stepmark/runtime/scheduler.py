"""How a workflow is woken up.

Every wake-up is only a hint: the store's due_at has the truth, and a sweep over it finds what a lost hint
has left behind.
"""

from __future__ import annotations

from threading import Condition
from typing import Protocol


class Scheduler(Protocol):
    """Told, after a commit, when a workflow wants to be resumed."""

    def wake(self, workflow_id: str, at: float) -> None:
        """Have `engine.resume(workflow_id)` called at or after that time (seconds since the epoch)."""


class KeepingScheduler(Scheduler, Protocol):
    """A scheduler that keeps wake-ups somewhere, one for each workflow, and is told when they are void.

    far_seconds: only a wake-up that is further ahead is kept, and has to be forgotten. Such a one is set
    before the commit that says so, and replaces the one before; so it is there for whoever comes after that
    commit and makes it void. A scheduler without `forget` is never asked to forget anything; one without
    `far_seconds` keeps every wake-up.
    """

    far_seconds: float

    def forget(self, workflow_id: str) -> None:
        """Remove the wake-up that is kept; harmless when there is none."""


class LocalScheduler:
    """Wakes up the worker in this process at once; others find the work by polling the store.

    engine = Engine([Approval], store=SqliteStore("workflows.db"), scheduler=LocalScheduler())
    """

    def __init__(self) -> None:
        self._condition = Condition()
        self._woken = False

    def wake(self, workflow_id: str, at: float) -> None:  # noqa: ARG002 - the store knows both
        self.interrupt()

    def interrupt(self) -> None:
        """End a pause now."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def pause(self, seconds: float) -> None:
        """Sleep that long, or until the next wake-up."""
        with self._condition:
            if not self._woken:
                self._condition.wait(seconds)
            self._woken = False
