"""A workflow as seen from outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepmark.core.values import read_or_none

if TYPE_CHECKING:
    from stepmark.core.check import LivePosition
    from stepmark.core.record import Status


@dataclass(frozen=True, slots=True)
class ThreadSnapshot:
    """One live thread: the statement it is at, the events it waits for there, and its last error.

    attempt: how often the statement has failed. due_at: when a timer or a retry is due, seconds since the
    epoch. brief: the error by its place and its type, without what an exception says, which may quote
    anything.
    """

    at: str
    waiting_for: list[str] = field(default_factory=list)
    attempt: int = 0
    error: str | None = None
    parked: bool = False
    due_at: float | None = None
    brief: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A workflow at one moment.

    state: the state object (a copy); the stored dict when the class no longer accepts it, None when it is no
    JSON. waiting_for: the names of all events that the threads wait for. created: this very call has started
    the workflow. positions: what `check` has to know of the threads. ends_at: the end of its life, if it has
    one, seconds since the epoch. brief: the error by its place and its type, as a thread's.
    """

    workflow_id: str
    workflow: str
    status: Status
    state: Any
    waiting_for: list[str]
    threads: dict[str, ThreadSnapshot]
    result: Any
    error: str | None
    version: int
    stored_state: str
    created: bool = False
    positions: tuple[LivePosition, ...] = ()
    ends_at: float | None = None
    brief: str | None = None

    def to_dict(self, *, brief: bool = False) -> dict[str, Any]:
        """What JSON can hold of it, for an API or a command; brief: without what exceptions say."""
        return {
            "workflowId": self.workflow_id,
            "workflow": self.workflow,
            "status": str(self.status),
            "waitingFor": self.waiting_for,
            "state": read_or_none(self.stored_state),
            "threads": {
                name: {
                    "at": thread.at,
                    "waitingFor": thread.waiting_for,
                    "attempt": thread.attempt,
                    "error": thread.brief if brief else thread.error,
                    "parked": thread.parked,
                    "dueAt": thread.due_at,
                }
                for name, thread in self.threads.items()
            },
            "result": self.result,
            "error": self.brief if brief else self.error,
            "endsAt": self.ends_at,
        }
