"""What several of stepmark's tests need."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from stepmark import Engine, Handler, MemoryStore, Request
from stepmark.testing import VirtualClock, run_due

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepmark import Record, Store, Workflow


# For lease_seconds: too short to be added to any time, so such a lease has run out as soon as it is taken.
RUN_OUT = 1e-12


class Noted:
    """Effects that outlive a workflow's state: what its steps did outside."""

    log: ClassVar[list[str]] = []

    @classmethod
    def take(cls) -> list[str]:
        taken, cls.log = cls.log, []
        return taken


class Task(Handler[str, str]):
    """An event that notes what is done with it."""

    def __init__(self, name: str = "task") -> None:
        self.name = name

    def setup(self, request: Request[str]) -> str:
        Noted.log.append(f"{self.name} set up")
        return f"ticket of {request.thread}"

    def handle(self, request: Request[str], payload: str) -> str:
        Noted.log.append(f"{self.name} handled with {request.setup_data}")
        return payload.upper()

    def teardown(self, request: Request[str], handled: bool) -> None:
        Noted.log.append(f"{self.name} torn down with {request.setup_data}, handled: {handled}")


class CountingStore:
    """A store that counts what it is asked, and can be told to fail."""

    on_one_machine = False

    def __init__(self, inner: Store | None = None) -> None:
        self.inner = inner or MemoryStore()
        self.calls: list[str] = []
        self.records: list[Record] = []

    def create(self, record: Record) -> bool:
        self.calls.append("create")
        self.records.append(record)
        return self.inner.create(record)

    def load(self, workflow_id: str) -> Record | None:
        self.calls.append("load")
        return self.inner.load(workflow_id)

    def commit(self, record: Record, expected_version: int) -> None:
        self.calls.append("commit")
        self.inner.commit(record, expected_version)
        self.records.append(record)

    def due(self, now: float, limit: int) -> list[str]:
        return self.inner.due(now, limit)

    def next_due(self) -> float | None:
        return self.inner.next_due()

    def live(self, workflow: str | None = None) -> Iterator[Record]:
        return self.inner.live(workflow)


def engine_on(store: Store, *classes: type[Workflow], clock: VirtualClock | None = None) -> Engine:
    """An engine with a virtual clock over a given store."""
    return Engine(classes, store=store, clock=clock or VirtualClock())


def settle(engine: Engine, seconds: float = 100_000.0) -> None:
    """Let time pass until nothing is due any more."""
    clock = engine.runtime.clock
    assert isinstance(clock, VirtualClock)
    run_due(engine, clock, clock.now() + seconds)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
