"""Real worker processes over one SQLite file: killed, stopped politely, several at once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from stepmark import (
    Budget,
    Engine,
    LocalScheduler,
    On,
    Section,
    SqliteStore,
    Status,
    Step,
    Timeout,
    Wait,
    Workflow,
    run_worker,
)

from tests.stepmark.processes.chain import STEPS, Chain
from tests.stepmark.random.settings import SEED
from tests.stepmark.support import until

ROOT = Path(__file__).parents[3]


@contextmanager
def worker(store: Path, lease_seconds: float = 0.5) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'layers' / 'stepmark'}"}
    command = [sys.executable, "-m", "tests.stepmark.processes.chain", str(store), str(lease_seconds)]
    process = subprocess.Popen(  # noqa: S603 - our own module
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def start(path: Path, *names: str) -> Engine:
    """Start workflows without running any of them here."""
    engine = Engine([Chain], store=SqliteStore(path), budget=Budget(steps=0))
    for name in names:
        engine.start(Chain(str(path.with_suffix(".effects"))), workflow_id=name)
    return engine


def effects(path: Path) -> list[list[str]]:
    file = path.with_suffix(".effects")
    return [line.split(" ") for line in file.read_text().splitlines()] if file.exists() else []


def test_guarantee_05_a_worker_killed_at_any_moment_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    names = [f"w{number}" for number in range(3)]
    engine = start(path, *names)
    chance = random.Random(SEED)  # noqa: S311 - when to kill
    kills = 0

    def over() -> bool:
        return all(engine.get(name).status is Status.FINISHED for name in names)

    deadline = time.monotonic() + 90
    while not over():
        assert time.monotonic() < deadline
        with worker(path) as process:
            before = len(effects(path))
            goal = before + chance.randint(1, 30)
            until(lambda goal=goal: over() or len(effects(path)) >= goal)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            kills += 1
    assert kills > 1
    for name in names:
        state = engine.get(name).state
        assert state.count == STEPS + 1  # each commit exactly once
        assert sorted(state.fetched) == [0, 1, 2, 3, 4]
    keys = Counter(line[-1] for line in effects(path))
    assert len(keys) == len(names) * (STEPS + 6)  # each step at least once, with a key of its own
    assert sum(keys.values()) <= len(keys) + kills * 2 * 2  # again only what a kill had cut off


def test_guarantee_05_what_a_killed_worker_has_left_anybody_on_the_machine_may_take_at_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "w.db"
    start(path, "w")
    with worker(path, lease_seconds=3600) as process:
        until(lambda: len(effects(path)) > 3)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    engine = Engine([Chain], store=SqliteStore(path))
    record = engine.runtime.store.load("w")
    assert record is not None
    assert record.leased(time.time() + 60)
    assert engine.resume("w").state.count == STEPS  # up to the timer


def test_several_processes_share_one_file_and_none_runs_what_another_runs(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    names = [f"w{number}" for number in range(6)]
    start(path)
    # A lease that no slow disk outlasts: it ends when a worker stops, and here none does.
    with worker(path, lease_seconds=60) as one, worker(path, lease_seconds=60) as two:
        engine = start(path, *names)
        until(lambda: all(engine.get(name).status is Status.FINISHED for name in names))
        pids = {str(one.pid), str(two.pid)}
    lines = effects(path)
    assert {line[0] for line in lines} == pids
    assert len(lines) == len(names) * (STEPS + 6)  # nothing was run twice
    assert len({line[-1] for line in lines}) == len(lines)


def test_a_worker_that_is_told_to_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    engine = start(path, "w")
    with worker(path) as process:
        until(lambda: len(effects(path)) > 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    record = engine.runtime.store.load("w")
    assert record is not None
    assert record.lease_owner is None
    keys = [line[-1] for line in effects(path)]
    assert len(keys) == len(set(keys))


@dataclass
class Slow(Workflow):
    """A step that takes longer than the lease, and a timer."""

    runs: int = 0

    def definition(self) -> Section:
        return Section(Step("slow", self.slow), Wait("pause", On("over", Timeout(seconds=0.1))))

    def slow(self) -> None:
        RUNS.append(threading.get_ident())
        time.sleep(1)
        self.runs += 1


RUNS: list[int] = []


@pytest.mark.parametrize("scheduler", [None, LocalScheduler()])
def test_a_heartbeat_keeps_the_lease_of_a_long_step(tmp_path: Path, scheduler: LocalScheduler | None) -> None:
    RUNS.clear()
    path = tmp_path / "w.db"
    stop = threading.Event()
    engines = [
        Engine([Slow], store=SqliteStore(path), scheduler=scheduler, lease_seconds=0.3) for _ in range(2)
    ]
    workers = [
        threading.Thread(target=run_worker, args=(engine,), kwargs={"stop": stop, "poll_seconds": 0.02})
        for engine in engines
    ]
    for thread in workers:
        thread.start()
    try:
        Engine([Slow], store=SqliteStore(path), scheduler=scheduler, budget=Budget(steps=0)).start(
            Slow(), "w"
        )
        until(lambda: engines[0].get("w").status is Status.FINISHED)
    finally:
        stop.set()
        for thread in workers:
            thread.join(10)
    assert len(RUNS) == 1
    assert engines[0].get("w").state.runs == 1
