"""The steps with `into` that run alongside others of their workflow, each on its own copy of the state."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from stepmark.definition.statements import Step
from stepmark.errors import UnknownStatement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stepmark.core.record import Progress, Thread
    from stepmark.core.tree import Tree
    from stepmark.definition.workflow import Workflow
    from stepmark.runtime.context import Activity


@dataclass(slots=True)
class Flight:
    """One such step, as it began at version `since`, with its copy of the state, and that copy's text."""

    since: int
    future: Future[Any]
    activity: Activity
    copy: Workflow
    before: str

    def drop(self) -> None:
        """Forget it; it may not stop at once, but changes nothing."""
        self.activity.end()
        self.future.cancel()


class Flights:
    """The flights of one workflow, by thread."""

    def __init__(self) -> None:
        self._by_thread: dict[str, Flight] = {}
        self._landed: dict[str, bool] = {}
        self._checked: Tree | None = None  # in which the threads of all flights are at such steps
        self._lock = Lock()
        self.bell = Event()  # rung when one lands

    def __bool__(self) -> bool:
        return bool(self._by_thread)

    def __iter__(self) -> Iterator[Future[Any]]:
        return (flight.future for flight in self._by_thread.values())

    @property
    def landed(self) -> Mapping[str, bool]:
        """For each thread with a flight, whether its step has returned."""
        return self._landed

    @property
    def any_landed(self) -> bool:
        """Whether a step has returned that is still to be taken."""
        return True in self._landed.values()

    def add(self, key: str, flight: Flight) -> None:
        """A thread's step has begun."""
        with self._lock:
            self._by_thread[key] = flight
            self._landed[key] = False
        flight.future.add_done_callback(partial(self._land, key))

    def _land(self, key: str, future: Future[Any]) -> None:
        """Called in the thread that the step has run in."""
        with self._lock:
            flight = self._by_thread.get(key)
            if flight is not None and flight.future is future:
                self._landed[key] = True
                self.bell.set()

    def take(self, key: str) -> Flight:
        """The flight of a thread whose step has returned."""
        flight = self._remove(key)
        flight.activity.end()
        return flight

    def _remove(self, key: str) -> Flight:
        with self._lock:
            del self._landed[key]
            return self._by_thread.pop(key)

    def wait(self, seconds: float) -> bool:
        """Wait for the next that lands; whether one has."""
        wait(self, seconds, FIRST_COMPLETED)
        return self.any_landed

    def drop_stale(self, progress: Progress, tree: Tree | None) -> None:
        """Forget the flights whose thread is no longer where it was when they began."""
        threads = progress.threads
        stale = [
            key
            for key, flight in self._by_thread.items()
            if (thread := threads.get(key)) is None
            or thread.since != flight.since
            or thread.trouble.parked
            or tree is None
        ]
        for key in stale:
            self._remove(key).drop()
        if tree is not None and (self._checked is None or not tree.has_places_of(self._checked)):
            for key in [key for key in self._by_thread if not _is_alongside(threads[key], tree)]:
                self._remove(key).drop()
        self._checked = tree

    def drop_all(self) -> None:
        """Forget them all."""
        for flight in self._by_thread.values():
            flight.drop()
        self._by_thread, self._landed = {}, {}


def wait(flights: Flights, seconds: float, until: str) -> None:  # noqa: ARG001 - the name it has there
    """As concurrent.futures.wait(), which looks at each of many futures every time."""
    flights.bell.clear()
    if not flights.any_landed:
        flights.bell.wait(seconds)


def _is_alongside(thread: Thread, tree: Tree) -> bool:
    try:
        node = tree.stop(thread.place)
    except UnknownStatement:
        return False
    return node.kind is Step and tree[node].into is not None
