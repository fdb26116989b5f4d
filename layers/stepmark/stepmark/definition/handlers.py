"""What an event can have besides a function: setup and teardown, a look elsewhere, a timer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar  # noqa: UP035 - defaults of type parameters came with Python 3.13

from stepmark.definition.retry import Retry
from stepmark.definition.workflow import EventSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepmark.definition.workflow import Workflow


Payload = TypeVar("Payload", default=Any)
SetupData = TypeVar("SetupData", default=Any)


@dataclass(frozen=True, slots=True)
class Request(Generic[SetupData]):
    """What a Handler is told about the event it stands for.

    event: the name to send to `callback`. thread: the thread that waits. state: the workflow's current state.
    setup_data: what setup() returned, as JSON holds it; None in setup(), and in a teardown() after a
    setup() that was cut off. idempotency_key: the same on every attempt.
    """

    workflow_id: str
    thread: str
    event: str
    idempotency_key: str
    state: Workflow
    setup_data: SetupData | None = None


class Handler(EventSource, ABC, Generic[Payload, SetupData]):
    """An event that is set up when its Wait is reached and torn down when the Wait is over.

        class UserTask(Handler[Answer, str]):
            def setup(self, request: Request[str]) -> str:
                return create_task(request.workflow_id, request.event)

            def handle(self, request: Request[str], payload: Answer) -> None: ...

            def teardown(self, request: Request[str], handled: bool) -> None:
                close_task(request.setup_data)

    All three may be `async def`, are retried on their own, and may run more than once. Only handle() may
    change the state. `retry` is an attribute of the class or the object. A teardown() that has used up its
    attempts parks the workflow, unless that is over: then it stays so. Either way `Engine.retry` tries it
    again.
    """

    retry: Retry | None = None

    def setup(self, request: Request[SetupData]) -> SetupData | Awaitable[SetupData] | None:  # noqa: ARG002
        """Announce the event; what it returns (anything JSON can hold) comes back in request.setup_data."""
        return None

    @abstractmethod
    def handle(self, request: Request[SetupData], payload: Payload) -> Any:
        """The event has won: change the state; what it returns is the sender's output."""

    def teardown(self, request: Request[SetupData], handled: bool) -> Any:  # noqa: ARG002 - for subclasses
        """The Wait is over; `handled` tells whether this event won."""
        return None


@dataclass(frozen=True, slots=True)
class Happened:
    """What look() returns when the event has happened; `payload` goes to handle()."""

    payload: object = None


@dataclass(frozen=True, slots=True)
class LookAgain:
    """What look() returns to be called again at that time (seconds since the epoch) at the latest."""

    at: float

    def __post_init__(self) -> None:
        if not isfinite(self.at):
            raise ValueError("LookAgain(at=...) must be a time, in seconds since the epoch")


class Observation(Handler[Payload, None], Generic[Payload]):
    """An event that happens elsewhere, whether or not anybody waits for it: the engine looks for itself.

        class Paid(Observation[int]):
            def look(self, request: Request[None]) -> Happened | None:
                invoice = read_invoice(request.workflow_id)
                return Happened(invoice.amount) if invoice.paid else None

            def handle(self, request: Request[None], payload: int) -> None: ...

    The engine looks when a thread comes to the Wait, and whenever `Engine.look` says that something may have
    happened. Whoever makes it happen calls that afterwards: then no event is missed, however the two overlap.
    `Engine.callback` refuses such an event. A look that fails is repeated for hours.
    """

    retry = Retry(attempts=100, longest_delay=300)

    @abstractmethod
    def look(self, request: Request[None]) -> Happened | LookAgain | None:
        """Whether the event has happened; must change nothing. May be `async def`."""


class Timeout(EventSource):
    """A durable timer as an event of a Wait; its fire time is fixed when the Wait is reached.

        On("too late", Timeout(minutes=10), Finish("timed out"))
        On("too late", Timeout(at=self.deadline), Finish("timed out"))

    at, in place of a length: a datetime with its time zone, or a function without parameters that returns
    one when the Wait is reached. A time that has passed fires at once. Raises ValueError or TypeError for
    what makes no sense; a function that raises, or returns something else, parks.
    """

    __slots__ = ("at", "seconds")

    def __init__(
        self,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        at: datetime | Callable[[], datetime] | None = None,
    ) -> None:
        self.at = at
        self.seconds = seconds + 60 * minutes + 3600 * hours + 86400 * days
        if not 0 <= self.seconds < float("inf"):
            raise ValueError("Timeout: give a length of time that is not negative")
        if at is not None and self.seconds:
            raise ValueError("Timeout: give a length of time or at=..., not both")
        if at is not None and not callable(at):
            _timestamp_of(at)

    def fire_at(self, now: float) -> float:
        """When it fires if the Wait is reached now, in seconds since the epoch."""
        if self.at is None:
            return now + self.seconds
        return _timestamp_of(self.at() if callable(self.at) else self.at)


def _timestamp_of(moment: object) -> float:
    """A datetime in seconds since the epoch; TypeError or ValueError when that can't be told."""
    if not isinstance(moment, datetime):
        raise TypeError(f"Timeout(at=...) takes a datetime, or a function that returns one, not {moment!r}")
    if moment.utcoffset() is None:
        raise ValueError("Timeout(at=...) needs a time zone: datetime(..., tzinfo=UTC), or ZoneInfo")
    return moment.timestamp()
