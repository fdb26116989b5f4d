"""What the engine needs of a store.

A commit is one conditional write of one record. Everything a worker has to look at is found by the index on
`due_at`: while a worker runs a workflow that is the end of its lease, so a worker that dies loses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from stepmark.core.record import Record


class Store(Protocol):
    """Keeps records. Every method may raise StoreUnavailable when it can't tell what happened.

    on_one_machine: whether all who use it run on one machine: then the engine judges by a process whether a
    lease's holder lives. A store that does not say so is taken for one of many machines.
    """

    on_one_machine: bool

    def create(self, record: Record) -> bool:
        """Write a new record; False, and nothing written, when the id is taken."""

    def load(self, workflow_id: str) -> Record | None:
        """The record as last committed, or None."""

    def commit(self, record: Record, expected_version: int) -> None:
        """Replace the record if it is still at that version, else raise VersionConflict."""

    def due(self, now: float, limit: int) -> list[str]:
        """The ids with due_at <= now, most overdue first."""

    def next_due(self) -> float | None:
        """The smallest due_at there is, or None."""

    def live(self, workflow: str | None = None) -> Iterator[Record]:
        """The records that are not closed, by id; of one workflow name, or of all."""


class BoundedStore(Store, Protocol):
    """A store that says for how many seconds a write may take before it raises.

    A lease is prolonged early enough for that if it is at least half as long again. Over a store that doesn't
    say so, it is prolonged as early as twice the slowest write so far asks for.
    """

    slowest_write: float


class ChoosingStore(Store, Protocol):
    """A store that can leave out what a worker was not given.

    All of stepmark's own can. Over one that can't, work of other classes that is overdue may keep a worker
    from its own.
    """

    def due(self, now: float, limit: int, workflows: Collection[str] | None = None) -> list[str]:
        """The ids with due_at <= now, most overdue first: of the workflows of those names, or of all."""
