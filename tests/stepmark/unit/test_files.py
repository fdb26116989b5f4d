"""A store's file holds what people have said: it is its owner's alone."""

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import stepmark
from stepmark import Record, SqliteStore, Status, StoreError, StoreUnavailable

RECORD = Record("w", "order", 1, Status.WAITING, "{}", '{"threads":[]}', None, None, None)
with closing(sqlite3.connect(":memory:")) as _connection:
    TAKES_URIS = ("USE_URI",) in _connection.execute("PRAGMA compile_options").fetchall()


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("form", ["path", "text", "relative", "link", "uri", "absolute uri"])
def test_a_new_file_and_what_lies_beside_it_are_its_owners_alone(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if form == "link":
        Path("link.db").symlink_to(tmp_path / "a b.db")
    if "uri" in form and not TAKES_URIS:
        pytest.skip("this SQLite takes no URIs")
    forms: dict[str, str | Path] = {
        "path": tmp_path / "a b.db",
        "text": str(tmp_path / "a b.db"),
        "relative": "a b.db",
        "link": Path("link.db"),
        "uri": "file:a%20b.db?mode=rwc",
        "absolute uri": (tmp_path / "a b.db").as_uri(),
    }
    store = SqliteStore(forms[form])
    assert store.create(RECORD)
    beside = ("a b.db", "a b.db-wal", "a b.db-shm", "link.db")
    assert rights(tmp_path) | {"link.db": 0o600} == dict.fromkeys(beside, 0o600)
    assert SqliteStore(tmp_path / "a b.db").load("w") == RECORD


def test_a_file_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    """Somebody may have opened it to a group on purpose."""
    path = tmp_path / "w.db"
    SqliteStore(path).close()
    path.chmod(0o660)
    SqliteStore(path).create(RECORD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.parametrize("path", [":memory:", "file::memory:", "file:x?mode=memory"])
def test_what_is_no_file_makes_none(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.startswith("file:") and not TAKES_URIS:
        pytest.skip("this SQLite takes no URIs")
    monkeypatch.chdir(tmp_path)
    store = SqliteStore(path)
    assert store.create(RECORD)
    assert store.load("w") == RECORD
    assert list(tmp_path.iterdir()) == []


def test_what_may_only_be_read_or_must_be_there_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not TAKES_URIS:
        pytest.skip("this SQLite takes no URIs")
    monkeypatch.chdir(tmp_path)
    for mode in ("ro", "rw"):
        with pytest.raises(StoreUnavailable):
            SqliteStore(f"file:w.db?mode={mode}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_and_what_is_not_there_are_said_to_be_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        SqliteStore(tmp_path)
    with pytest.raises(StoreUnavailable):
        SqliteStore(tmp_path / "no" / "w.db")


def test_opening_it_again_drops_no_lock_of_this_process(tmp_path: Path) -> None:
    """To close any descriptor of a file drops all locks that the process has on it."""
    path = tmp_path / "w.db"
    store = SqliteStore(path)
    store._connection.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        SqliteStore(path, busy_seconds=0.0)
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
    )
    # The interpreter and the code are this test's own.
    other = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert "locked" in other.stderr
    store._connection.execute("ROLLBACK")


def test_many_that_make_it_at_once_share_one_private_file(tmp_path: Path) -> None:
    ready = threading.Barrier(8, timeout=20)
    stores: list[SqliteStore] = []

    def make() -> None:
        ready.wait()
        stores.append(SqliteStore(tmp_path / "w.db"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(stores) == 8
    assert sum(store.create(RECORD) for store in stores) == 1
    assert set(rights(tmp_path).values()) == {0o600}


# --- versions of the file, reading beside a writer, and what is kept ---------------------------------------

# As the release before made it.
SCHEMA = """
CREATE TABLE IF NOT EXISTS workflows (
    workflow_id TEXT PRIMARY KEY, workflow TEXT NOT NULL, version INTEGER NOT NULL, status TEXT NOT NULL,
    state TEXT NOT NULL, progress TEXT NOT NULL, due_at REAL, lease_owner TEXT, lease_until REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS workflows_due ON workflows (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS workflows_live ON workflows (workflow, workflow_id)
    WHERE status NOT IN ('FINISHED', 'CANCELLED');
"""
INSERT = "INSERT INTO workflows VALUES (?, 'order', 1, 'WAITING', '{}', '{\"threads\":[]}', ?, NULL, NULL)"
OVER = replace(RECORD, workflow_id="over", status=Status.FINISHED)


def old_file(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
        connection.execute(INSERT, ("w", None))
        connection.commit()
    return path


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_an_older_file_is_brought_up_to_date_and_the_release_before_goes_on_with_it(tmp_path: Path) -> None:
    path = old_file(tmp_path / "w.db")
    store = SqliteStore(path)
    assert store.load("w") == RECORD
    assert version_of(path) == 1
    with closing(sqlite3.connect(path, isolation_level=None)) as before:
        before.executescript(SCHEMA)
        before.execute(INSERT, ("v", 1))
        assert len(before.execute("SELECT * FROM workflows").fetchone()) == 9
    assert store.due(2.0, 10, ["order"]) == ["v"]
    assert store.due(2.0, 10, ["other"]) == store.due(2.0, 10, []) == []


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"w.db is a store of version 99.* install the newer one"):
        SqliteStore(path)
    assert version_of(path) == 99


def test_a_store_without_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a path"):
        SqliteStore("")


def test_who_reads_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    store = SqliteStore(path, busy_seconds=60)
    assert store.create(RECORD)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = [
            threading.Thread(target=store.create, args=(replace(RECORD, workflow_id=f"w{number}"),))
            for number in range(10)
        ]
        for thread in writing:
            thread.start()
        try:
            assert store.load("w") == RECORD
            assert [record.workflow_id for record in store.live()] == ["w"]
            assert store.due(1.0, 1) == []
            assert all(thread.is_alive() for thread in writing)
        finally:
            other.execute("COMMIT")
            for thread in writing:
                thread.join(60)
    assert len(list(store.live())) == 11


OPEN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from stepmark import SqliteStore
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    SqliteStore(f"{sys.argv[2]}/{number}.db")
"""


@pytest.mark.timeout(120)
def test_many_processes_open_new_files_at_once(tmp_path: Path) -> None:
    library = str(Path(stepmark.__file__).parents[1])
    command = [sys.executable, "-c", OPEN, library, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    opening = [subprocess.Popen(command, text=True, **pipes) for _ in range(8)]  # type: ignore[call-overload] # noqa: S603
    for process in opening:
        process.stdout.readline()
    said = [process.communicate("go\n", timeout=60) for process in opening]
    assert [errors for _, errors in said] == [""] * 8


LOOK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from stepmark import Record, SqliteStore, Status, StoreError
os.setuid(65534)
store = SqliteStore(sys.argv[2])
print([record.workflow_id for record in store.live()], store.load("w").workflow)
try:
    store.create(Record("new", "order", 1, Status.WAITING, "{}", "{}", None, None, None))
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="who becomes somebody else must be root")
@pytest.mark.parametrize("folder", [0o755, 0o777])
@pytest.mark.parametrize("old", [False, True])
def test_a_file_that_may_only_be_read_can_be_looked_at(old: bool, folder: int) -> None:
    with tempfile.TemporaryDirectory() as name:  # all of pytest's folders are its user's alone
        path = Path(name) / "w.db"
        if old:
            old_file(path)
        else:
            store = SqliteStore(path)
            store.create(RECORD)
            store.close()
        path.chmod(0o444)
        Path(name).chmod(folder)
        library = str(Path(stepmark.__file__).parents[1])
        command = [sys.executable, "-c", LOOK, library, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        lines = done.stdout.splitlines()
        assert lines[:1] == ["['w'] order"], done.stderr
        assert lines[1].startswith("the store could not be written: ")


@pytest.mark.parametrize("keep", [60, timedelta(minutes=1)])
def test_what_is_over_leaves_once_it_was_kept_for_long_enough(
    keep: float | timedelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("stepmark.stores.sqlite.time.time", lambda: now)
    path = tmp_path / "w.db"
    without = SqliteStore(path)
    for name in ("over before", "waits"):
        without.create(replace(RECORD, workflow_id=name))
    without.commit(replace(OVER, workflow_id="over before", version=2), 1)

    def end(store: SqliteStore, name: str) -> None:
        store.create(replace(RECORD, workflow_id=name))
        store.commit(replace(OVER, workflow_id=name, version=2), 1)

    def left() -> set[str]:
        return {name for name in ("over before", "waits", "a", "b", "c") if without.load(name) is not None}

    store = SqliteStore(path, keep=keep)
    now += 30
    end(store, "a")
    now += 31
    end(store, "b")
    assert left() == {"waits", "a", "b"}
    now += 1_000
    end(without, "c")
    assert left() == {"waits", "a", "b", "c"}
    SqliteStore(path, keep=keep)
    now += 61
    end(store, "b2")
    assert left() == {"waits"}
