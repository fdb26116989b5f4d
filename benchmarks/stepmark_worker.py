"""How fast a worker wakes up what is due, beside a plain loop of resume(), over one SQLite file.

    PYTHONPATH=layers/stepmark .venvs/development/bin/python benchmarks/stepmark_worker.py

Each way has as many workflows due at once, which take one step each. The ways take turns within one run;
workflows per second and their ratio to the loop are printed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stepmark import Budget, Engine, Section, SqliteStore, Step, Workflow, run_worker

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE_SECONDS = 600


@dataclass
class Due(Workflow):
    """One step that adds one."""

    count: int = 0

    def definition(self) -> Section:
        return Section(Step("add", self.add))

    def add(self) -> None:
        self.count += 1


def fill(path: Path, count: int) -> None:
    """Start so many workflows and run none of them."""
    with Engine([Due], store=SqliteStore(path), budget=Budget(steps=0)) as engine:
        for number in range(count):
            engine.start(Due(), workflow_id=f"w{number}")


def seconds_until_empty(path: Path) -> float:
    """How long it takes from now until nothing is due."""
    store, began = SqliteStore(path), time.monotonic()
    while store.next_due() is not None:
        if time.monotonic() > began + DEADLINE_SECONDS:
            raise TimeoutError("the worker does not come to an end")
        time.sleep(0.01)
    return time.monotonic() - began


def loop(path: Path) -> float:
    """A plain loop of resume()."""
    store = SqliteStore(path)
    with Engine([Due], store=store) as engine:
        began = time.monotonic()
        while due := store.due(time.time(), 1000):
            for workflow_id in due:
                engine.resume(workflow_id)
        return time.monotonic() - began


def worker(path: Path) -> float:
    """run_worker() as it comes."""
    stop = threading.Event()
    with Engine([Due], store=SqliteStore(path)) as engine:
        thread = threading.Thread(target=run_worker, args=(engine,), kwargs={"stop": stop})
        thread.start()
        took = seconds_until_empty(path)
        stop.set()
        thread.join()
    return took


def processes(path: Path, count: int) -> float:
    """So many of them, each in a process of its own, from when all have started."""
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", str(path)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - itself
        for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None  # noqa: S101 - for the type alone
            process.stdout.readline()
        for process in started:
            assert process.stdin is not None  # noqa: S101
            process.stdin.write(b"go\n")
            process.stdin.flush()
        return seconds_until_empty(path)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def serve(path: Path) -> None:
    """What such a process does."""
    engine = Engine([Due], store=SqliteStore(path))
    print("ready", flush=True)
    sys.stdin.readline()
    run_worker(engine)


def main() -> None:
    """Let all take turns, and print what they did."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    ways: dict[str, Callable[[Path], float]] = {
        "loop of resume()": loop,
        "1 worker": worker,
        "2 processes": lambda path: processes(path, 2),
        "4 processes": lambda path: processes(path, 4),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "w.db"
                fill(path, given.count)
                rates[name].append(given.count / way(path))
    plain = statistics.median(rates["loop of resume()"])
    for name, found in rates.items():
        median = statistics.median(found)
        print(f"{name:<18} {median:8,.0f} workflows/s  {median / plain:5.2f}")


if __name__ == "__main__":
    main()
