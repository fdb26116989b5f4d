"""What can be done next for a workflow, as data: addressed by names, so it holds whatever is loaded anew.

Work that needs no lease only delivers what has happened: when two do it at once, one of them commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class RunStep:
    """Run a step that changes the state."""

    needs_lease: ClassVar[bool] = True
    thread: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Begin a step with `into`, which runs alongside others."""

    needs_lease: ClassVar[bool] = True
    thread: str


@dataclass(frozen=True, slots=True)
class StoreResult:
    """Store what a step with `into` has returned."""

    needs_lease: ClassVar[bool] = True
    thread: str


@dataclass(frozen=True, slots=True)
class PassGate:
    """Go on after a WaitFor whose condition has come true."""

    needs_lease: ClassVar[bool] = True
    thread: str


@dataclass(frozen=True, slots=True)
class Block:
    """Park a thread that can't go on: for that error, or for what is said in this library's own words."""

    needs_lease: ClassVar[bool] = True
    thread: str
    what: str
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """Note an event that a deploy has added to the Wait a thread is at."""

    needs_lease: ClassVar[bool] = False
    thread: str
    event: str


@dataclass(frozen=True, slots=True)
class SetUp:
    """Call the setup() of an event's Handler."""

    needs_lease: ClassVar[bool] = True
    thread: str
    event: str


@dataclass(frozen=True, slots=True)
class Look:
    """Call the look() of an event's Observation. first: at this Wait, it has not been called yet."""

    needs_lease: ClassVar[bool] = False
    thread: str
    event: str
    first: bool


@dataclass(frozen=True, slots=True)
class Deliver:
    """An event wins its Wait. event_id: of a stored event; None for a timer, or for what a look has found."""

    needs_lease: ClassVar[bool] = False
    thread: str
    event: str
    event_id: str | None


@dataclass(frozen=True, slots=True)
class TearDown:
    """Call the teardown() of an event's Handler, whose thread came to its Wait at version `since`."""

    needs_lease: ClassVar[bool] = True
    thread: str
    since: int
    event: str


@dataclass(frozen=True, slots=True)
class End:
    """The end of the workflow's life has come, wherever it stands."""

    needs_lease: ClassVar[bool] = False


type AtThread = RunStep | Launch | StoreResult | PassGate | Expect | SetUp | Look | Deliver
type Work = AtThread | Block | TearDown | End
