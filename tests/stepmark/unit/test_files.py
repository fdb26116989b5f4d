"""A store's file holds what people have said: it is its owner's alone."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from stepmark import Record, SqliteStore, Status, StoreUnavailable

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


@pytest.mark.parametrize("path", [":memory:", "", "file::memory:", "file:x?mode=memory"])
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
