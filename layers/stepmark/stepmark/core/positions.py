"""Where the threads of running workflows are, for whoever asks what a deploy would do to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepmark.core.record import Place
from stepmark.definition.workflow import MAIN

if TYPE_CHECKING:
    from stepmark.core.record import Progress


@dataclass(frozen=True, slots=True)
class LivePosition:
    """Where one thread of a running workflow is.

        LivePosition("request-7", at="for an answer")

    thread: its name. go, thread_id: the Go it comes from, and its id. set_up: the events there with a Handler
    that has been set up. several: its Go was one of several of that name, which differ by their id. unread:
    why the workflow's record can't be read; then the rest says nothing.
    """

    workflow_id: str
    at: str
    thread: str = MAIN
    go: str | None = None
    thread_id: str | None = None
    set_up: tuple[str, ...] = ()
    several: bool = False
    unread: str | None = None

    @property
    def place(self) -> Place:
        """The address of the statement."""
        return Place(self.at, self.go, self.thread_id, self.several)


def positions_of(workflow_id: str, progress: Progress) -> list[LivePosition]:
    """Where the threads of one workflow are, and what its pending teardowns need."""
    threads = [
        (thread.place, thread.key, tuple(name for name, awaited in thread.awaited.items() if awaited.setup))
        for thread in progress.threads.values()
    ]
    teardowns = [(gone.place, gone.thread, (gone.event,)) for gone in progress.teardowns]
    return [
        LivePosition(workflow_id, place.at, key, place.go, place.id, set_up, place.several)
        for place, key, set_up in threads + teardowns
    ]
