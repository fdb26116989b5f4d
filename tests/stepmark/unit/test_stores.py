"""What every store must do; a new one is added to the fixture."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from stepmark import MemoryStore, Record, SqliteStore, Status, Store, StoreUnavailable, VersionConflict

RECORD = Record("w", "order", 1, Status.WAITING, '{"é": "\\n"}', '{"threads":[]}', 5.5, None, None)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "w.db")


def test_a_record_is_created_once(store: Store) -> None:
    assert store.load("w") is None
    assert store.create(RECORD)
    assert not store.create(replace(RECORD, state="{}"))
    assert store.load("w") == RECORD


def test_a_commit_is_conditional_on_the_version(store: Store) -> None:
    store.create(RECORD)
    held = replace(RECORD, version=2, status=Status.RUNNING, due_at=9.0, lease_owner="me", lease_until=9.0)
    store.commit(held, 1)
    assert store.load("w") == held
    step = replace(held, version=3, state="{}")
    store.commit(step, 2)
    assert store.load("w") == step
    for late in (replace(held, version=3), replace(RECORD, version=3)):
        with pytest.raises(VersionConflict):
            store.commit(late, 1)
    with pytest.raises(VersionConflict):
        store.commit(replace(RECORD, workflow_id="nobody"), 1)
    assert store.load("w") == step
    assert store.load("nobody") is None


def test_of_many_commits_at_once_one_wins(store: Store) -> None:
    store.create(RECORD)
    won: list[int] = []
    ready = threading.Barrier(8, timeout=20)

    def commit(number: int) -> None:
        ready.wait()
        try:
            store.commit(replace(RECORD, version=2, state=str(number)), 1)
        except VersionConflict:
            return
        won.append(number)

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(won) == 1
    record = store.load("w")
    assert record is not None
    assert record.state == str(won[0])


def test_due_work_comes_most_overdue_first(store: Store) -> None:
    for name, due_at in (("late", 3.0), ("later", 2.0), ("never", None), ("future", 10.0), ("now", 5.0)):
        store.create(replace(RECORD, workflow_id=name, due_at=due_at))
    assert store.due(5.0, 10) == ["later", "late", "now"]
    assert store.due(5.0, 1) == ["later"]
    assert store.next_due() == 2.0
    assert MemoryStore().next_due() is None


def test_live_records_are_listed_by_name(store: Store) -> None:
    for number in range(450):
        status = (Status.WAITING, Status.FINISHED, Status.CANCELLED)[number % 3]
        name = ("order", "refund")[number % 2]
        store.create(replace(RECORD, workflow_id=f"{number:03}", workflow=name, status=status))
    every = [record.workflow_id for record in store.live()]
    assert every == [f"{number:03}" for number in range(0, 450, 3)]
    assert [record.workflow_id for record in store.live("order")] == every[::2]
    assert list(store.live("nothing")) == []


def test_two_connections_see_the_same_file(tmp_path: Path) -> None:
    one, two = SqliteStore(tmp_path / "w.db"), SqliteStore(tmp_path / "w.db")
    assert one.create(RECORD)
    assert not two.create(RECORD)
    two.commit(replace(RECORD, version=2), 1)
    with pytest.raises(VersionConflict):
        one.commit(replace(RECORD, version=2), 1)


def test_commits_are_on_disk_before_they_count(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "w.db")
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_due_work_is_found_by_an_index(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "w.db")
    query = "EXPLAIN QUERY PLAN SELECT workflow_id FROM workflows WHERE due_at <= 1 ORDER BY due_at LIMIT 1"
    plan = " ".join(row[3] for row in store._connection.execute(query))
    assert "workflows_due" in plan
    assert "SCAN" not in plan


def test_a_file_that_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "w.db").write_text("not a database, and long enough to be told from an empty file" * 20)
    with pytest.raises(StoreUnavailable, match=r"w\.db"):
        SqliteStore(tmp_path / "w.db")
    with pytest.raises(StoreUnavailable):
        SqliteStore(tmp_path / "no such folder" / "w.db")
    store = SqliteStore(tmp_path / "closed.db")
    store.close()
    with pytest.raises(StoreUnavailable):
        store.load("w")
    with pytest.raises(StoreUnavailable):
        store.create(RECORD)
