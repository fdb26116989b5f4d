"""A worker goes on as long as there is work, and sees what nobody runs."""

import json
import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from stepmark import (
    Budget,
    Engine,
    LocalScheduler,
    MemoryStore,
    Record,
    Section,
    SqliteStore,
    Status,
    Step,
    Store,
    Workflow,
    run_worker,
)

from tests.stepmark.support import until

LONG = 600.0  # seconds that no test waits


@dataclass
class Own(Workflow):
    """Twenty steps, or more than one slice has time for."""

    count: int = 0

    def definition(self) -> Section:
        return Section(*[Step(f"add {number}", self.add) for number in range(20)])

    def add(self) -> None:
        self.count += 1


@dataclass
class Foreign(Workflow, name="foreign\nclass"):
    """Of a class that the worker was not given."""

    def definition(self) -> Section:
        return Section(Step("do", self.do))

    def do(self) -> None: ...


@contextmanager
def working(engine: Engine, concurrency: int = 2, poll_seconds: float = LONG) -> Iterator[None]:
    stop = threading.Event()
    options = {"stop": stop, "poll_seconds": poll_seconds, "concurrency": concurrency}
    thread = threading.Thread(target=run_worker, args=(engine,), kwargs=options)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        if isinstance(engine.runtime.scheduler, LocalScheduler):
            engine.runtime.scheduler.interrupt()
        thread.join(60)
    assert not thread.is_alive()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "w.db")


def fill(store: Store, *workflows: tuple[type[Own | Foreign], str]) -> None:
    engine = Engine([Own, Foreign], store=store, budget=Budget(steps=0))
    for cls, workflow_id in workflows:
        engine.start(cls(), workflow_id)


@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize("scheduler", [None, LocalScheduler()])
def test_it_does_not_pause_while_there_is_work(
    concurrency: int, scheduler: LocalScheduler | None, store: Store
) -> None:
    names = [f"w{number:03}" for number in range(150)]
    fill(store, *[(Own, name) for name in names])
    engine = Engine([Own], store=store, scheduler=scheduler)
    with working(engine, concurrency):
        until(lambda: store.next_due() is None)
    assert {engine.get(name).status for name in names} == {Status.FINISHED}
    assert {engine.get(name).state.count for name in names} == {20}


def test_what_is_left_beyond_a_slice_goes_on_without_a_pause(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepmark.runtime.worker.SLICE", Budget(steps=3))
    fill(store, (Own, "w"))
    engine = Engine([Own], store=store)
    with working(engine):
        until(lambda: engine.get("w").status is Status.FINISHED)


def test_work_of_another_class_keeps_nothing_from_running(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, *[(Foreign, f"foreign {number}") for number in range(500)])
    fill(store, *[(Own, f"w{number}") for number in range(20)])
    engine = Engine([Own], store=store)
    with working(engine):
        until(lambda: all(engine.get(f"w{number}").status is Status.FINISHED for number in range(20)))
        until(lambda: "foreign" in caplog.text)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [r"500 workflows of class 'foreign\nclass' are due, which this worker was not given"]


def test_a_class_that_nobody_has_is_said_once(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepmark.runtime.worker.FOREIGN_SECONDS", 0.0)
    looked: list[str] = []
    load = store.load

    def watched(workflow_id: str) -> Record | None:
        looked.append(workflow_id)
        return load(workflow_id)

    monkeypatch.setattr(store, "load", watched)
    fill(store, (Foreign, "foreign"))
    with working(Engine([Own], store=store), poll_seconds=0.01):
        until(lambda: len(looked) > 5)
    assert caplog.text.count("which this worker was not given") == 1


def test_what_should_have_been_over_for_long_ends_though_nobody_has_the_class(store: Store) -> None:
    long_ago = time.time() - 7200
    engine = Engine([Foreign], store=store, budget=Budget(steps=0))
    engine.start(Foreign(), "over", ends_at=time.time() + 3600)
    record = store.load("over")
    assert record is not None
    progress = record.progress.replace(str(json.loads(record.progress)["endsAt"]), str(long_ago))
    store.commit(replace(record, version=2, progress=progress, due_at=long_ago), record.version)
    with working(Engine([Own], store=store)):
        until(lambda: engine.get("over").status is Status.CANCELLED)


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"poll_seconds": 0.0}, {"poll_seconds": math.nan}])
def test_what_could_never_work_is_refused(options: dict[str, Any], store: Store) -> None:
    with pytest.raises(ValueError, match="above zero"):
        run_worker(Engine([Own], store=store), stop=threading.Event(), **options)
