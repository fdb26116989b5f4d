"""A store in memory, for tests and for workflows that may die with the process."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from stepmark.errors import VersionConflict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from stepmark.core.record import Record


class MemoryStore:
    """Keeps records in a dict.

    engine = Engine([Approval], store=MemoryStore())
    """

    on_one_machine = True

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._lock = Lock()

    def create(self, record: Record) -> bool:
        with self._lock:
            return self._records.setdefault(record.workflow_id, record) is record

    def load(self, workflow_id: str) -> Record | None:
        return self._records.get(workflow_id)

    def commit(self, record: Record, expected_version: int) -> None:
        with self._lock:
            current = self._records.get(record.workflow_id)
            if current is None or current.version != expected_version:
                raise VersionConflict(record.workflow_id)
            self._records[record.workflow_id] = record

    def due(self, now: float, limit: int, workflows: Collection[str] | None = None) -> list[str]:
        with self._lock:
            found = [
                (r.due_at, r.workflow_id)
                for r in self._records.values()
                if r.due_at is not None and (workflows is None or r.workflow in workflows)
            ]
        return [workflow_id for due_at, workflow_id in sorted(found)[:limit] if due_at <= now]

    def next_due(self) -> float | None:
        with self._lock:
            return min((r.due_at for r in self._records.values() if r.due_at is not None), default=None)

    def live(self, workflow: str | None = None) -> Iterator[Record]:
        with self._lock:
            records = sorted(self._records.values(), key=lambda record: record.workflow_id)
        yield from (r for r in records if not r.status.closed and workflow in {None, r.workflow})
