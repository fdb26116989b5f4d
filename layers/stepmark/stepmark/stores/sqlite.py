"""The embedded default store: one SQLite file, shared by any number of processes on a machine."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from weakref import finalize

from stepmark.core.record import Record, status_of
from stepmark.errors import StoreUnavailable, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS workflows (
    workflow_id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    version INTEGER NOT NULL,
    status TEXT NOT NULL,
    state TEXT NOT NULL,
    progress TEXT NOT NULL,
    due_at REAL,
    lease_owner TEXT,
    lease_until REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS workflows_due ON workflows (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS workflows_live ON workflows (workflow, workflow_id)
    WHERE status NOT IN ('FINISHED', 'CANCELLED');
"""

# SELECT * and this INSERT rely on the columns standing in the order of Record's fields
_INSERT = "INSERT INTO workflows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
# While a workflow runs, only these change: leaving the indexed columns alone keeps a commit at one page.
_UPDATE_STEP = (
    "UPDATE workflows SET version = ?, state = ?, progress = ? WHERE workflow_id = ? AND version = ?"
    " AND status = ? AND due_at IS ? AND lease_owner IS ? AND lease_until IS ?"
)
_UPDATE = (
    "UPDATE workflows SET workflow = ?, version = ?, status = ?, state = ?, progress = ?, due_at = ?,"
    " lease_owner = ?, lease_until = ? WHERE workflow_id = ? AND version = ?"
)
_PAGE = 200
_making = Lock()


class SqliteStore:
    """Keeps records in one SQLite file; every commit is on disk (`synchronous=FULL`) before it counts.

        engine = Engine([Approval], store=SqliteStore("workflows.db"))

    Processes on one machine may share the file; a network file system will not do. A new file is its owner's
    alone (0600), and so is what SQLite puts beside it; one that is there keeps the rights that it has.
    busy_seconds: how long a commit waits for another process's. Raises StoreUnavailable when the file can't
    be read or written.
    """

    on_one_machine = True

    def __init__(self, path: str | Path, *, busy_seconds: float = 10.0) -> None:
        self._lock = Lock()
        try:
            _make_private(path)
            # autocommit: each statement below is a transaction of its own
            self._connection = sqlite3.connect(
                path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
            self.close = finalize(self, self._connection.close)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            # a write-ahead log that is soon written over again: to sync one that grows takes twice as long
            self._connection.execute("PRAGMA wal_autocheckpoint=100")
            self._connection.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{path} can't be opened as a store: {error}") from error

    def create(self, record: Record) -> bool:
        values = (
            record.workflow_id,
            record.workflow,
            record.version,
            record.status,
            record.state,
            record.progress,
            record.due_at,
            record.lease_owner,
            record.lease_until,
        )
        return self._change(_INSERT, values)

    def load(self, workflow_id: str) -> Record | None:
        rows = self._rows("SELECT * FROM workflows WHERE workflow_id = ?", (workflow_id,))
        return _record(rows[0]) if rows else None

    def commit(self, record: Record, expected_version: int) -> None:
        key = (record.workflow_id, expected_version)
        status = str(record.status)
        unchanged = (status, record.due_at, record.lease_owner, record.lease_until)
        if record.lease_owner is not None and self._change(
            _UPDATE_STEP, (record.version, record.state, record.progress, *key, *unchanged)
        ):
            return
        indexed = (record.due_at, record.lease_owner, record.lease_until)
        changed = (record.workflow, record.version, status, record.state, record.progress, *indexed)
        if not self._change(_UPDATE, (*changed, *key)):
            raise VersionConflict(record.workflow_id)

    def due(self, now: float, limit: int) -> list[str]:
        rows = self._rows(
            "SELECT workflow_id FROM workflows WHERE due_at <= ? ORDER BY due_at LIMIT ?",
            (now, limit),
        )
        return [row[0] for row in rows]

    def next_due(self) -> float | None:
        rows = self._rows("SELECT min(due_at) FROM workflows WHERE due_at IS NOT NULL", ())
        due_at: float | None = rows[0][0]
        return due_at

    def live(self, workflow: str | None = None) -> Iterator[Record]:
        last = ""
        while True:
            rows = self._rows(
                "SELECT * FROM workflows WHERE status NOT IN ('FINISHED', 'CANCELLED') AND workflow_id > ?"
                " AND (? IS NULL OR workflow = ?) ORDER BY workflow_id LIMIT ?",
                (last, workflow, workflow, _PAGE),
            )
            yield from map(_record, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def _change(self, statement: str, values: tuple[Any, ...]) -> bool:
        try:
            with self._lock:
                return self._connection.execute(statement, values).rowcount == 1
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store could not be written: {error}") from error

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store could not be read: {error}") from error


def _make_private(path: str | Path) -> None:
    """Make a file that is not there before SQLite does, which would let everybody read it.

    What SQLite puts beside the file later, it gives the file's own rights.
    """
    name = _file_of(os.fspath(path))
    # To close a file that somebody in this process has open as a database would drop their locks on it: so
    # only the one who makes it opens it, and nobody else goes on before that is done.
    with _making, suppress(FileExistsError):
        if name is not None:
            os.close(os.open(os.path.realpath(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _file_of(path: str) -> str | None:
    """The file that SQLite would make for a path, or None."""
    if path in {"", ":memory:"}:
        return None
    if not path.startswith("file:") or not _takes_uris():
        return path
    uri = urlsplit(path)
    options = parse_qs(uri.query)
    made = options.get("mode", ["rwc"])[-1] == "rwc" and "vfs" not in options
    name = unquote(uri.path)
    return name if made and name not in {"", ":memory:"} else None


def _takes_uris() -> bool:
    """Whether this SQLite reads a path that begins with `file:` as a URI without being asked to."""
    with closing(sqlite3.connect(":memory:")) as connection:
        return ("USE_URI",) in connection.execute("PRAGMA compile_options").fetchall()


def _record(row: tuple[Any, ...]) -> Record:
    workflow_id, workflow, version, status, *rest = row
    return Record(workflow_id, workflow, version, status_of(status), *rest)
