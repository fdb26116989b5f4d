"""The steps with `into` that run alongside others of their workflow, each on its own copy of the state."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepmark.definition.statements import Step
from stepmark.errors import UnknownStatement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepmark.core.record import Progress
    from stepmark.core.tree import Tree
    from stepmark.definition.workflow import Workflow
    from stepmark.runtime.context import Activity

_NONE: dict[str, bool] = {}


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

    def __bool__(self) -> bool:
        return bool(self._by_thread)

    @property
    def landed(self) -> Mapping[str, bool]:
        """For each thread with a flight, whether its step has returned."""
        if not self._by_thread:
            return _NONE
        return {key: flight.future.done() for key, flight in self._by_thread.items()}

    def add(self, key: str, flight: Flight) -> None:
        """A thread's step has begun."""
        self._by_thread[key] = flight

    def take(self, key: str) -> Flight:
        """The flight of a thread whose step has returned."""
        flight = self._by_thread.pop(key)
        flight.activity.end()
        return flight

    def wait(self, seconds: float) -> bool:
        """Wait for the next that lands; whether one has."""
        landed, _ = wait([flight.future for flight in self._by_thread.values()], seconds, FIRST_COMPLETED)
        return bool(landed)

    def drop_stale(self, progress: Progress, tree: Tree | None) -> None:
        """Forget the flights whose thread is no longer where it was when they began."""
        for key, flight in list(self._by_thread.items()):
            if not _is_awaited(flight, key, progress, tree):
                self._by_thread.pop(key).drop()

    def drop_all(self) -> None:
        """Forget them all."""
        for flight in self._by_thread.values():
            flight.drop()
        self._by_thread = {}


def _is_awaited(flight: Flight, key: str, progress: Progress, tree: Tree | None) -> bool:
    thread = progress.threads.get(key)
    if thread is None or tree is None or thread.trouble.parked or thread.since != flight.since:
        return False
    try:
        node = tree.stop(thread.place)
    except UnknownStatement:
        return False
    return node.kind is Step and tree[node].into is not None
