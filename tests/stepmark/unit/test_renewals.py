"""Each lease is prolonged on its own, early enough for the slowest write that its store allows."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stepmark import (
    Engine,
    MemoryStore,
    Record,
    Section,
    SqliteStore,
    Status,
    Step,
    StoreUnavailable,
    Workflow,
    current,
)
from stepmark.dynamodb import CONFIG, DynamoDBStore
from stepmark.runtime.lease import Lease
from stepmark.testing import VirtualClock

from tests.stepmark.support import until

SECONDS = 60.0
LEASE = 1.0

RUNS: Counter[str] = Counter()
LEAVE = threading.Event()
MENDED = threading.Event()


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    RUNS.clear()
    LEAVE.clear()
    MENDED.clear()
    yield
    LEAVE.set()
    MENDED.set()


@dataclass
class Long(Workflow):
    """A step that takes many leases."""

    def definition(self) -> Section:
        return Section(Step("long", self.long))

    def long(self) -> None:
        RUNS[current().workflow_id] += 1
        assert LEAVE.wait(SECONDS)


class Watched(MemoryStore):
    """One of many machines; what it does before a write of a long step's lease is a test's."""

    on_one_machine = False

    def __init__(self, before: Callable[[Record], None]) -> None:
        super().__init__()
        self.before = before
        self.renewals: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def commit(self, record: Record, expected_version: int) -> None:
        name = record.workflow_id
        self.under_way[name] += 1
        self.most[name] = max(self.most[name], self.under_way[name])
        try:
            self.before(record)
            super().commit(record, expected_version)
        finally:
            self.under_way[name] -= 1
        self.renewals[name] += 1


def hang(record: Record) -> None:
    if record.workflow_id == "bad":
        assert MENDED.wait(SECONDS)


def fail(record: Record) -> None:
    if record.workflow_id == "bad" and not MENDED.is_set():
        raise StoreUnavailable("the disk is full")


def slow(record: Record) -> None:
    del record
    time.sleep(0.3 * LEASE)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("before", [hang, fail, slow])
def test_a_workflow_whose_writes_hang_or_fail_costs_no_other_its_lease(
    before: Callable[[Record], None],
) -> None:
    store = Watched(before)
    names = ["bad", *(f"good {number}" for number in range(6))]
    engines = [Engine([Long], store=store, lease_seconds=LEASE) for _ in names]
    other = Engine([Long], store=store, lease_seconds=LEASE)
    # some of one engine, some of others: the process keeps all of them
    threads = [
        threading.Thread(target=engines[number % 3].start, args=(Long(), name), daemon=True)
        for number, name in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(RUNS) == len(names))

    def all_renewed() -> bool:
        for name in names[1:]:
            assert other.resume(name).status is Status.RUNNING
        return all(store.renewals[name] > 4 for name in names[1:])

    until(all_renewed)
    assert {RUNS[name] for name in names[1:]} == {1}
    assert store.most["bad"] == 1  # nobody waits in a row for a write that hangs
    MENDED.set()
    LEAVE.set()
    for thread in threads:
        thread.join(SECONDS)
    assert {other.get(name).status for name in names[1:]} == {Status.FINISHED}


def test_a_renewal_that_fails_is_logged_and_the_others_are_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "stepmark")
    store, clock = Watched(fail), VirtualClock()
    engine = Engine([Long], store=store, clock=clock, lease_seconds=60)
    threads = [
        threading.Thread(target=engine.start, args=(Long(), name), daemon=True) for name in ("bad", "good")
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(RUNS) == 2)
    clock.sleep(40)
    engine.renew_leases()
    assert store.renewals == {"good": 1}
    assert "workflow bad: its lease could not be prolonged: StoreUnavailable" in caplog.text
    assert "disk" not in caplog.text
    MENDED.set()
    engine.renew_leases()
    assert store.renewals == {"good": 1, "bad": 1}
    LEAVE.set()
    for thread in threads:
        thread.join(SECONDS)


def test_a_lease_that_another_has_is_prolonged_no_more() -> None:
    loads: list[str] = []

    class Loaded(Watched):
        def load(self, workflow_id: str) -> Record | None:
            loads.append(workflow_id)
            return super().load(workflow_id)

    store, clock = Loaded(lambda _: None), VirtualClock()
    engine, other = (Engine([Long], store=store, clock=clock, lease_seconds=60) for _ in range(2))
    thread = threading.Thread(target=engine.start, args=(Long(), "w"), daemon=True)
    thread.start()
    until(lambda: len(RUNS) == 1)
    other.cancel("w")
    clock.sleep(50)
    engine.renew_leases()
    before = len(loads)
    engine.renew_leases()
    assert len(loads) == before
    LEAVE.set()
    thread.join(SECONDS)


@pytest.mark.parametrize(
    ("seconds", "slowest_write", "left"),
    [(15, 0, 6), (15, 5, 6.5), (15, 10, 11.5), (15, 60, 7.5), (60, 10, 24), (60, 40, 46), (0.4, 10, 0.2)],
)
def test_a_lease_is_prolonged_when_the_slowest_write_could_just_be_done(
    seconds: float, slowest_write: float, left: float
) -> None:
    clock = VirtualClock()
    lease = Lease(clock, seconds, slowest_write, None)
    lease.end = lease.prolonged()
    clock.sleep(seconds - left - 0.001)
    assert not lease.is_short(0.4)
    clock.sleep(0.002)
    assert lease.is_short(0.4)


def test_a_lease_is_measured_against_the_slowest_write_so_far() -> None:
    clock = VirtualClock()
    lease = Lease(clock, 15, 0, None)
    with lease.written():
        clock.sleep(4)
    lease.end = lease.prolonged()
    assert lease.end.until == clock.now() + 19  # 15 are left once such a write is done
    clock.sleep(9.4)
    assert not lease.is_short(0.4)
    clock.sleep(0.2)
    assert lease.is_short(0.4)


def test_a_store_says_how_long_a_write_may_take(tmp_path: Path) -> None:
    import botocore.session  # noqa: PLC0415 - only here
    from botocore.config import Config  # noqa: PLC0415

    assert SqliteStore(tmp_path / "w.db", busy_seconds=3).slowest_write == 3
    session = botocore.session.get_session()
    for config, seconds in [
        (CONFIG, 5.0),
        (Config(connect_timeout=1, read_timeout=2, retries={"max_attempts": 2}), 9.0),
    ]:
        client: Any = session.create_client("dynamodb", region_name="eu-west-1", config=config)
        assert DynamoDBStore("Workflows", client).slowest_write == seconds
