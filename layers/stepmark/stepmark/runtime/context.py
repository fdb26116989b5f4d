"""What a running step can know about itself."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepmark.core.record import Event, Failure


class Activity:
    """One call of a user's function, for as long as it runs: what it sends to its own workflow.

    events: what is sent becomes part of the commit that the function leads to, and is dropped with it. None:
    the function runs alongside others, whose commits come in between.
    """

    __slots__ = ("_lock", "_over", "events", "store")

    def __init__(self, store: object, events: list[Event] | None) -> None:
        self.store = store
        self.events = events
        self._over = False
        self._lock = Lock()

    @property
    def over(self) -> bool:
        """Whether the function has returned; what it has begun in the background may go on."""
        return self._over

    def send(self, event: Event) -> bool:
        """Make the event part of the function's commit; False when the function has returned meanwhile."""
        with self._lock:
            if self._over or self.events is None:
                return False
            if all(sent.event_id != event.event_id for sent in self.events):
                self.events.append(event)
            return True

    def end(self) -> None:
        """The function has returned."""
        with self._lock:
            self._over = True


@dataclass(frozen=True, slots=True)
class StepContext:
    """The step (or handler) that runs now.

    attempt: 1 the first time. idempotency_key: the same on every attempt, another one each time a loop
    comes by. thread_id: the `id` of the Go that started the thread, as a string. failure: in a step's
    or_else(), why that step has given up.
    """

    workflow_id: str
    thread: str
    thread_id: str | None
    statement: str
    attempt: int
    idempotency_key: str
    activity: Activity | None = field(default=None, repr=False, compare=False)
    failure: Failure | None = field(default=None, repr=False)


_current: ContextVar[StepContext] = ContextVar("stepmark_step")


def current() -> StepContext:
    """The step that runs now.

        def charge(self) -> None:
            pay(self.amount, idempotency_key=current().idempotency_key)

    Raises LookupError outside of a step or handler.
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError("no step runs here: call current() in a step or handler, while it runs") from None


def activity_in(store: object, workflow_id: str) -> Activity | None:
    """The step or handler that calls, if it is one of that workflow in that store and has not returned."""
    context = _current.get(None)
    if context is None or context.workflow_id != workflow_id:
        return None
    activity = context.activity
    return None if activity is None or activity.over or activity.store is not store else activity
