"""What a running step can know about itself."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import blake2b
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepmark.core.record import Event, Failure


class Activity:
    """One call of a user's function, for as long as it runs: what it sends, to its own workflow or to others.

    events: what is sent to its own becomes part of the commit that the function leads to, and is dropped with
    it. None: the function runs alongside others, whose commits come in between. life: tells its workflow from
    others of the same id.
    """

    __slots__ = ("_lock", "_over", "_sent", "events", "life", "store")

    def __init__(self, store: object, events: list[Event] | None, life: str) -> None:
        self.store = store
        self.life = life
        self.events = events
        self._sent: dict[object, set[int]] = {}
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

    def number(self, target: object) -> int:
        """Count one more of what the function sends to that target; the same on each attempt."""
        with self._lock:
            numbers = self._sent.setdefault(target, set())
            number = next(each for each in range(len(numbers) + 1) if each not in numbers)
            numbers.add(number)
            return number

    def take_back(self, target: object, number: int) -> None:
        """It was not sent, as far as is known: the next counts as the same again."""
        with self._lock:
            self._sent[target].discard(number)

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


@contextmanager
def id_within_step(store: object, workflow_id: str, event: str, thread: str | None) -> Iterator[str | None]:
    """The id of an event that the step or handler which calls sends: the same on each of its attempts.

    That is made of the step's idempotency key and of how many such events it has sent before. None outside of
    a step, and for what becomes part of the step's own commit.
    """
    context = _current.get(None)
    activity = None if context is None else context.activity
    own = activity_in(store, workflow_id)
    if context is None or activity is None or activity.over or (own is not None and own.events is not None):
        yield None
        return
    target = (workflow_id, event, thread)
    number = activity.number(target)
    digest = blake2b(f"{activity.life}{context.idempotency_key}".encode(), digest_size=12).digest()
    try:
        yield f"step-{urlsafe_b64encode(digest).decode()}-{number}"
    except BaseException:
        activity.take_back(target, number)
        raise
