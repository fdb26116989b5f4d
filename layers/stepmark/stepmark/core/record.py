"""What is stored of a workflow: one record, whose size does not depend on how many steps have run."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import to_json

from stepmark.core import outputs
from stepmark.core.values import read
from stepmark.errors import StateError, frames_of

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_EVENTS = 100  # events stored until they are handled
MAX_EVENT_BYTES = 65_536
MAX_REFUSAL = 2_000  # characters that are stored of why an event was refused

UNKNOWN = -1.0  # the timer of a workflow whose last worker has died: there may be one
QUEUE = "queue-"  # begins the lease_owner of a workflow that lies in the scheduler's queue


class Status(StrEnum):
    """Where a workflow stands.

    RUNNING: a step runs, or waits for its next attempt. WAITING: only an event, a timer or a change of the
    state helps. PARKED: a person must act (`retry`, `move`, `cancel`, or a new deploy and `retry`).
    FINISHED and CANCELLED are final, also while something is still to be torn down.
    """

    RUNNING = "RUNNING"
    WAITING = "WAITING"
    PARKED = "PARKED"
    FINISHED = "FINISHED"
    CANCELLED = "CANCELLED"

    @property
    def closed(self) -> bool:
        """Whether nothing will change any more."""
        return self is Status.FINISHED or self is Status.CANCELLED


def status_of(text: str) -> Status:
    """A stored status; one that this release does not know is PARKED, for somebody has to look at it."""
    return Status(text) if text in Status else Status.PARKED


@dataclass(frozen=True, slots=True)
class Record:
    """One workflow as a store keeps it; `state` and `progress` are JSON text, opaque to the store.

    version: grows by one with every commit. due_at: when a worker must look at it, in seconds since the
    epoch, or None. lease_owner, lease_until: who runs it now, and until when nobody else may. ends_at: the
    end of its life, for a store in which things can expire; the truth about it is in `progress`.
    """

    workflow_id: str
    workflow: str
    version: int
    status: Status
    state: str
    progress: str
    due_at: float | None
    lease_owner: str | None
    lease_until: float | None
    ends_at: float | None = field(default=None, compare=False)

    @property
    def queued(self) -> bool:
        """Whether it lies in the scheduler's queue, with a lease for whoever takes it out."""
        return self.lease_owner is not None and self.lease_owner.startswith(QUEUE)

    def leased(self, now: float) -> bool:
        """Whether somebody runs it."""
        return self.lease_owner is not None and self.lease_until is not None and self.lease_until > now


@dataclass(slots=True)
class Trouble:
    """The failures of one piece of work so far: of a step, a setup, a teardown, or an event's handler.

    brief: how many characters at the beginning of `error` say what failed and how; what follows is the text
    of somebody's exception. None when that is not known. frames: where in the user's code it was raised, the
    innermost last, each as `file:line function`.
    """

    attempt: int = 0
    retry_at: float | None = None
    error: str | None = None
    parked: bool = False
    brief: int | None = None
    frames: list[str] = field(default_factory=list)

    def ready(self, now: float) -> bool:
        """Whether the work may be tried now."""
        return not self.parked and (self.retry_at is None or self.retry_at <= now)

    def forgive(self) -> None:
        """Give the work all its attempts back."""
        self.attempt, self.retry_at, self.parked = 0, None, False
        self.error = self.brief = None
        self.frames = []

    def failed_with(self, place: str, error: BaseException, text: str) -> None:
        """Note an exception, and what it says, as the last error."""
        begin = f"{place}: {type(error).__name__}"
        self.error, self.brief, self.frames = f"{begin}: {text}", len(begin), frames_of(error)

    def stopped_with(self, message: str) -> None:
        """Note words of this library's own as the last error."""
        self.error, self.brief, self.frames = message, len(message), []

    def brief_error(self, place: str) -> str | None:
        """The last error by its place and its type, without what an exception says."""
        if self.error is None:
            return None
        return place if self.brief is None else self.error[: self.brief]


def _trouble(trouble: Trouble) -> list[Any] | None:
    if not trouble.attempt and not trouble.parked:
        return None
    more: list[Any] = [] if trouble.brief is None else [trouble.brief]
    if more and trouble.frames:
        more.append(trouble.frames)
    return [trouble.attempt, trouble.retry_at, trouble.error, int(trouble.parked), *more]


def _from_trouble(stored: list[Any] | None) -> Trouble:
    if stored is None:
        return Trouble()
    attempt, retry_at, error, parked, *more = stored  # earlier releases had four, then five
    brief = next((each for each in more if isinstance(each, int)), None)
    frames = next((each for each in more if isinstance(each, list)), [])
    return Trouble(attempt, retry_at, error, bool(parked), brief, frames)


@dataclass(slots=True)
class Awaited:
    """What a thread keeps for one event: a Timeout's fire time, or what a setup() or look() returned."""

    fire_at: float | None = None  # when a Timeout fires, or an Observation looks again
    setup: bool = False  # a Handler's event: has setup, handle and teardown
    done: bool = False  # it has been set up, or looked for
    data: Any = None  # what setup() returned; [when, payload] of what look() has found
    trouble: Trouble = field(default_factory=Trouble)
    named: str | None = None  # the event's name before a deploy gave it another


class Place(NamedTuple):
    """The address of a statement: its name, and the thread's part of the definition that it is in.

    go, id: the Go that started the thread, and that Go's id; None in the main section. several: the Go was
    one of several that differ by their id: when only one is left, that need not be this thread's.
    """

    at: str
    go: str | None = None
    id: str | None = None
    several: bool = False

    def moved_to(self, at: str) -> Place:
        """Another statement in the same part of the definition."""
        return Place(at, self.go, self.id, self.several)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step has given up, for the statements of its or_else().

        failure = current().failure

    statement: the step's name. type, message: of the error; the message may quote anything, 2 KB at most.
    idempotency_key: what the step's attempts had, to undo what they may have done all the same.
    """

    statement: str
    type: str
    message: str
    idempotency_key: str


@dataclass(slots=True)
class Thread:
    """One thread: where it is, and what it waits for there.

    key: its name among the workflow's threads. since: the version at which it came to the statement, so that
    each visit has an idempotency key of its own. failures: of the steps in whose or_else() it is, the
    innermost last. written: as to_json() has last written it, and for which place and version: of many
    threads, a commit changes one.
    """

    key: str
    place: Place
    since: int = 0
    trouble: Trouble = field(default_factory=Trouble)
    awaited: dict[str, Awaited] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    written: tuple[Place, int, str] | None = field(default=None, compare=False, repr=False)

    @property
    def at(self) -> str:
        """The name of the statement that it is at."""
        return self.place.at


@dataclass(slots=True)
class Event:
    """An event that has been accepted and not handled yet.

    sender: names the callback() that waits for the answer until `until`, while another worker has the event;
    if the handler raises, that callback is told, and the event is not tried again.
    """

    event: str
    payload: str
    thread: str | None
    event_id: str  # empty for what a look has found
    received_at: float
    trouble: Trouble = field(default_factory=Trouble)
    sender: str = ""
    until: float = 0.0


@dataclass(slots=True)
class Teardown:
    """A Handler's event that is over and still has to be torn down."""

    thread: str
    place: Place
    event: str
    since: int
    handled: bool
    data: Any = None
    trouble: Trouble = field(default_factory=Trouble)


@dataclass(slots=True)
class Progress:
    """All of a workflow that is not its state; the threads stand in the order of their turns."""

    threads: dict[str, Thread] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    teardowns: list[Teardown] = field(default_factory=list)
    outputs: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    ended: Status | None = None  # FINISHED or CANCELLED: only teardowns are left to do
    crashes: int = 0  # how often in a row whoever ran it has died
    result: Any = None
    error: str | None = (
        None  # why the whole workflow is parked: definition() raised, or the state no longer fits
    )
    brief: str | None = None  # the same without what an exception says, where that differs
    ends_at: float | None = None  # the end of its life, in seconds since the epoch
    timer: float | None = None  # the wake-up that the scheduler keeps, or may keep: UNKNOWN
    look: bool = False  # posted to the one who runs it: what an Observation looks for may have happened
    rested: int = 0  # the version with which it last had nothing to do for a while
    life: str = ""  # tells it from another workflow of its id, before it or in another store

    def remember(self, event_id: str, output: Any) -> None:
        """Keep an event's output for a repeat of its event_id."""
        if event_id:
            outputs.remember(self.outputs, event_id, output)

    def room_for(self, payload: str) -> bool:
        """Whether one more event can be stored."""
        size = sum(len(kept.encode()) for kept in [payload, *(event.payload for event in self.events)])
        return len(self.events) < MAX_EVENTS and size <= MAX_EVENT_BYTES

    def event(self, event_id: str) -> Event | None:
        """The stored event of that id."""
        return next((event for event in self.events if event.event_id == event_id), None)

    def drop_event(self, event_id: str) -> None:
        """Keep the event of that id no longer."""
        self.events = [event for event in self.events if event.event_id != event_id]

    def teardown(self, thread: str, since: int, event: str) -> Teardown:
        """The teardown of an event whose thread came to its Wait at that version."""
        key = (thread, since, event)
        return next(each for each in self.teardowns if (each.thread, each.since, each.event) == key)

    def troubles(self) -> list[Trouble]:
        """What has happened so far to every piece of work."""
        found = [thread.trouble for thread in self.threads.values()]
        for thread in self.threads.values():
            if thread.awaited:
                found += [awaited.trouble for awaited in thread.awaited.values()]
        if self.events:
            found += [event.trouble for event in self.events]
        if self.teardowns:
            found += [teardown.trouble for teardown in self.teardowns]
        return found

    def places(self) -> list[tuple[str, Trouble]]:
        """The same, each with the name of where it has happened."""
        names = [thread.at for thread in self.threads.values()]
        names += [name for thread in self.threads.values() for name in thread.awaited]
        names += [event.event for event in self.events] + [teardown.event for teardown in self.teardowns]
        return list(zip(names, self.troubles(), strict=True))

    def to_json(self) -> str:  # noqa: C901 - one case a field
        """As text; what has its default is left out."""
        stored: dict[str, Any] = {"life": self.life} if self.life else {}
        if self.events:
            stored["events"] = [
                [e.event, e.payload, e.thread, e.event_id, e.received_at, _trouble(e.trouble)]
                + ([e.sender, e.until] if e.sender else [])
                for e in self.events
            ]
        if self.teardowns:
            stored["teardowns"] = [_teardown(teardown) for teardown in self.teardowns]
        if self.outputs:
            stored |= outputs.store(self.outputs)
        if self.ended is not None:
            stored["ended"] = self.ended
        if self.crashes:
            stored["cutOff"] = self.crashes
        if self.result is not None:
            stored["result"] = self.result
        if self.error is not None:
            stored["error"] = self.error
        if self.brief is not None:
            stored["brief"] = self.brief
        if self.ends_at is not None:
            stored["endsAt"] = self.ends_at
        if self.timer is not None:
            stored["timer"] = self.timer
        if self.look:
            stored["look"] = True
        if self.rested:
            stored["rested"] = f"{self.rested:012}"  # of fixed width, as a thread's `since`
        threads = f'{{"threads":[{",".join(_written(self.threads.values()))}]'
        return f"{threads},{to_json(stored).decode()[1:]}" if stored else f"{threads}}}"

    @classmethod
    def from_json(cls, text: str) -> Progress:
        """From what to_json() wrote; StateError when it is nothing of the kind."""
        try:
            return cls._read(read(text))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise StateError(
                f"what is stored of the workflow's progress can't be read: {type(error).__name__}"
            ) from error

    @classmethod
    def _read(cls, stored: dict[str, Any]) -> Progress:
        return cls(
            threads={entry["thread"]: _from_thread(entry) for entry in stored["threads"]},
            events=[
                Event(e[0], e[1], e[2], e[3], e[4], _from_trouble(e[5]), *e[6:])
                for e in stored.get("events", ())
            ],
            teardowns=[_from_teardown(t) for t in stored.get("teardowns", ())],
            outputs=outputs.load(stored),
            ended=Status(stored["ended"]) if "ended" in stored else None,
            crashes=stored.get("cutOff", 0),
            result=stored.get("result"),
            error=stored.get("error"),
            brief=stored.get("brief"),
            ends_at=_number(stored.get("endsAt")),
            timer=_number(stored.get("timer")),
            look=stored.get("look", False),
            rested=int(stored.get("rested", 0)),
            life=stored.get("life", ""),
        )


def _number(stored: Any) -> float | None:
    return None if stored is None else float(stored)


def _teardown(teardown: Teardown) -> list[Any]:
    place, trouble = teardown.place, _trouble(teardown.trouble)
    stored = [teardown.thread, place.go, place.id, place.at, teardown.event, teardown.since, teardown.handled]
    return [*stored, teardown.data, trouble, True] if place.several else [*stored, teardown.data, trouble]


def _from_teardown(stored: list[Any]) -> Teardown:
    thread, go, ident, at, event, since, handled, data, trouble, *several = stored
    place = Place(at, go, ident, bool(several))
    return Teardown(thread, place, event, since, handled, data, _from_trouble(trouble))


def _written(threads: Iterable[Thread]) -> list[str]:
    """Threads as JSON; most are as they were, with nothing to tell but where they are."""
    texts = []
    for thread in threads:
        known, trouble = thread.written, thread.trouble
        if thread.awaited or thread.failures or trouble.attempt or trouble.parked:
            texts.append(to_json(_thread(thread)).decode())
        elif known is not None and known[0] is thread.place and known[1] == thread.since:
            texts.append(known[2])
        else:
            text = to_json(_thread(thread)).decode()
            thread.written = (thread.place, thread.since, text)
            texts.append(text)
    return texts


def _thread(thread: Thread) -> dict[str, Any]:
    # of fixed width, so that a record is as long after a million steps as after one
    stored: dict[str, Any] = {"thread": thread.key, "at": thread.at, "since": f"{thread.since:012}"}
    if thread.place.go is not None:
        stored["go"] = thread.place.go
        if thread.place.id is not None:
            stored["id"] = thread.place.id
        if thread.place.several:
            stored["several"] = True
    if thread.trouble.attempt or thread.trouble.parked:
        stored["trouble"] = _trouble(thread.trouble)
    if thread.awaited:
        stored["awaited"] = {
            name: [a.fire_at, int(a.setup), int(a.done), a.data, _trouble(a.trouble)]
            + ([] if a.named is None else [a.named])
            for name, a in thread.awaited.items()
        }
    if thread.failures:
        stored["failures"] = [[f.statement, f.type, f.message, f.idempotency_key] for f in thread.failures]
    return stored


def _from_thread(stored: dict[str, Any]) -> Thread:
    return Thread(
        key=stored["thread"],
        place=Place(stored["at"], stored.get("go"), stored.get("id"), stored.get("several", False)),
        since=int(stored["since"]),
        trouble=_from_trouble(stored.get("trouble")),
        awaited={
            name: Awaited(a[0], bool(a[1]), bool(a[2]), a[3], _from_trouble(a[4]), *a[5:])
            for name, a in stored.get("awaited", {}).items()
        },
        failures=[Failure(*each) for each in stored.get("failures", ())],
    )
