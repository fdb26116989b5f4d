"""The embedded default store: one SQLite file, shared by any number of processes on a machine."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from weakref import finalize

from stepmark.core.record import Record, status_of
from stepmark.errors import StoreError, StoreUnavailable, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# What a file of each version lacks of the next; one without tables is of version 0. The release before goes
# on with version 1, as workers of both may run during a deployment: it writes all columns of `workflows`.
_TO_VERSION = (
    """
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
    CREATE INDEX IF NOT EXISTS workflows_live ON workflows (workflow, workflow_id)
        WHERE status NOT IN ('FINISHED', 'CANCELLED');
    DROP INDEX IF EXISTS workflows_due;
    CREATE INDEX workflows_due ON workflows (due_at, workflow) WHERE due_at IS NOT NULL;
    CREATE TABLE workflows_over (workflow_id TEXT PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX workflows_over_since ON workflows_over (since);
    """,
)
# in the order of Record's fields
_SELECT = (
    "SELECT workflow_id, workflow, version, status, state, progress, due_at, lease_owner, lease_until"
    " FROM workflows"
)
_INSERT = (
    "INSERT INTO workflows (workflow_id, workflow, version, status, state, progress, due_at, lease_owner,"
    " lease_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
# While a workflow runs, only these change: leaving the indexed columns alone keeps a commit at one page.
_UPDATE_STEP = (
    "UPDATE workflows SET version = ?, state = ?, progress = ? WHERE workflow_id = ? AND version = ?"
    " AND status = ? AND due_at IS ? AND lease_owner IS ? AND lease_until IS ?"
)
_UPDATE = (
    "UPDATE workflows SET workflow = ?, version = ?, status = ?, state = ?, progress = ?, due_at = ?,"
    " lease_owner = ?, lease_until = ? WHERE workflow_id = ? AND version = ?"
)
# What is over is known since the store was first told to keep it for so long and no longer.
_NOTE_ALL_OVER = (
    "INSERT INTO workflows_over SELECT workflow_id, ? FROM workflows"
    " WHERE status IN ('FINISHED', 'CANCELLED') ON CONFLICT DO NOTHING"
)
_NOTE_OVER = "INSERT INTO workflows_over VALUES (?, ?) ON CONFLICT DO UPDATE SET since = excluded.since"
_OUTDATED = "SELECT workflow_id FROM workflows_over WHERE since <= ? ORDER BY since LIMIT 10"
_FORGET = (
    "DELETE FROM workflows WHERE workflow_id = ? AND status IN ('FINISHED', 'CANCELLED') AND due_at IS NULL"
)
_FORGET_OVER = "DELETE FROM workflows_over WHERE workflow_id = ?"
_PAGE = 200
_LOCKED_PAUSE = 0.01
_making = Lock()


class SqliteStore:
    """Keeps records in one SQLite file; every commit is on disk (`synchronous=FULL`) before it counts.

        engine = Engine([Approval], store=SqliteStore("workflows.db", keep=timedelta(days=30)))

    Processes on one machine may share the file; a network file system will not do. A new file is its owner's
    alone (0600), and so is what SQLite puts beside it; one that is there keeps the rights that it has. One
    that may only be read can be looked at. A file of an older release is brought up to date when it is
    opened; that older release can't open it then.

    busy_seconds: how long a commit waits for another process's; to read never waits. keep: for how long a
    workflow is kept that is over, in seconds or as a timedelta; for ever by default. Raises StoreUnavailable
    when the file can't be read or written, StoreError when it is of a newer release, and ValueError without a
    path.
    """

    on_one_machine = True

    def __init__(
        self, path: str | Path, *, busy_seconds: float = 10.0, keep: timedelta | float | None = None
    ) -> None:
        if not os.fspath(path):
            raise ValueError("a store needs a path: SQLite would forget a file without a name")
        self.slowest_write = busy_seconds
        self._keep = keep.total_seconds() if isinstance(keep, timedelta) else keep
        self._lock = Lock()
        try:
            _make_private(path)
            self._connection, alone = _open(path, busy_seconds)
            self.close = finalize(self, _close, self._connection)
            # who reads does not wait for who writes, in this process either
            self._reading = self._connection if alone else _connect(path, busy_seconds)
            self._reading_lock = self._lock if alone else Lock()
            self.close = finalize(self, _close, self._connection, self._reading)
            if self._keep is not None:
                self._connection.execute(_NOTE_ALL_OVER, (time.time(),))
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
        rows = self._rows(f"{_SELECT} WHERE workflow_id = ?", (workflow_id,))
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
        if record.status.closed and record.due_at is None and self._keep is not None:
            self._forget(record.workflow_id, self._keep)

    def due(self, now: float, limit: int, workflows: Collection[str] | None = None) -> list[str]:
        statement, names = "SELECT workflow_id FROM workflows WHERE due_at <= ?", tuple(workflows or ())
        if workflows is not None:
            statement += f" AND workflow IN ({', '.join('?' * len(names))})"
        rows = self._rows(f"{statement} ORDER BY due_at LIMIT ?", (now, *names, limit))
        return [row[0] for row in rows]

    def next_due(self) -> float | None:
        rows = self._rows("SELECT min(due_at) FROM workflows WHERE due_at IS NOT NULL", ())
        due_at: float | None = rows[0][0]
        return due_at

    def live(self, workflow: str | None = None) -> Iterator[Record]:
        last = ""
        while True:
            rows = self._rows(
                f"{_SELECT} WHERE status NOT IN ('FINISHED', 'CANCELLED') AND workflow_id > ?"
                " AND (? IS NULL OR workflow = ?) ORDER BY workflow_id LIMIT ?",
                (last, workflow, workflow, _PAGE),
            )
            yield from map(_record, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def _forget(self, workflow_id: str, keep: float) -> None:
        """Note that a workflow is over; some that have been so for long enough leave."""
        now = time.time()
        with suppress(StoreUnavailable):  # it is committed; whatever is over next takes this one along
            self._change(_NOTE_OVER, (workflow_id, now))
            for (outdated,) in self._rows(_OUTDATED, (now - keep,)):
                self._change(_FORGET, (outdated,))
                self._change(_FORGET_OVER, (outdated,))

    def _change(self, statement: str, values: tuple[Any, ...]) -> bool:
        try:
            with self._lock:
                return self._connection.execute(statement, values).rowcount == 1
        except sqlite3.Error as error:
            raise _failure("written", error) from error

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            with self._reading_lock:
                return self._reading.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _failure("read", error) from error


def _connect(path: str | Path, busy_seconds: float, *, uri: bool = False) -> sqlite3.Connection:
    # autocommit: each statement above is a transaction of its own
    return sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False, uri=uri)


def _open(path: str | Path, busy_seconds: float) -> tuple[sqlite3.Connection, bool]:
    """A connection to a file that is up to date, and whether it has to be the only one.

    That is so in memory, and for a file that may only be read.
    """
    connection = _connect(path, busy_seconds)
    try:
        _write_ahead(connection, busy_seconds)
        connection.execute("PRAGMA synchronous=FULL")
        # a write-ahead log that is soon written over again: to sync one that grows takes twice as long
        connection.execute("PRAGMA wal_autocheckpoint=100")
        _bring_up_to_date(connection, path)
        in_memory = not connection.execute("PRAGMA database_list").fetchone()[2]
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error) and _code(error) == sqlite3.SQLITE_READONLY:
            return _open_to_look(Path(path).absolute(), busy_seconds), True
        raise
    return connection, in_memory


def _open_to_look(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """A connection to a file that may only be read, in a folder where SQLite may perhaps make nothing."""
    options = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    connection = _connect(f"{path.as_uri()}?mode=ro{options}", busy_seconds, uri=True)
    try:
        _version(connection, path)
        connection.execute(f"{_SELECT} LIMIT 1")
    except BaseException:
        connection.close()
        raise
    return connection


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code: https://www.sqlite.org/rescode.html."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _write_ahead(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Turn on the write-ahead log, which SQLite itself does not wait for while another process does so."""
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_LOCKED_PAUSE)
        else:
            return


def _bring_up_to_date(connection: sqlite3.Connection, path: str | Path) -> None:
    if _version(connection, path) == len(_TO_VERSION):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in _TO_VERSION[_version(connection, path) :]:  # another process may have been faster
            for statement in statements.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(_TO_VERSION)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection, path: str | Path) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > len(_TO_VERSION):
        raise StoreError(
            f"{path} is a store of version {found}, and this release of stepmark knows {len(_TO_VERSION)}: "
            "install the newer one"
        )
    return found


def _failure(what: str, error: sqlite3.Error) -> StoreError | StoreUnavailable:
    permanent = _code(error) in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_TOOBIG}
    return (StoreError if permanent else StoreUnavailable)(f"the store could not be {what}: {error}")


def _close(*connections: sqlite3.Connection) -> None:
    for connection in connections:
        connection.close()


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
