"""The same workflow of 100 trivial steps on stepmark, DBOS and AWS's durable-execution testing runner.

    make benchmark-stepmark

stepmark and DBOS keep their state in SQLite; stepmark commits every step with `synchronous=FULL`. The testing
runner keeps it in memory. The engines take turns within one run; medians and ratios of that run are printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# DBOS needs a newer SQLite than many systems have; let all engines use the same.
if importlib.util.find_spec("pysqlite3"):
    sys.modules["sqlite3"] = importlib.import_module("pysqlite3")

from stepmark import Engine, Section, SqliteStore, Status, Step, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEPS = 100

type Run = Callable[[int], None]  # runs one workflow to its end; the number makes its id


@dataclass
class Hundred(Workflow):
    """100 steps, each of which adds one."""

    count: int = 0

    def definition(self) -> Section:
        return Section(*[Step(name, self.add) for name in NAMES])

    def add(self) -> None:
        self.count += 1


NAMES = [f"step {number}" for number in range(STEPS)]


@contextmanager
def stepmark(folder: Path) -> Iterator[Run]:
    store = SqliteStore(folder / "stepmark.db")
    with Engine([Hundred], store=store) as engine:

        def run(number: int) -> None:
            snapshot = engine.start(Hundred(), workflow_id=f"w{number}")
            if snapshot.status is not Status.FINISHED or snapshot.state.count != STEPS:
                raise AssertionError(snapshot)

        yield run
    store.close()


@contextmanager
def dbos(folder: Path) -> Iterator[Run]:
    engine = importlib.import_module("dbos").DBOS
    engine(
        config={
            "name": "benchmark",
            "system_database_url": f"sqlite:///{folder / 'dbos.db'}",
            "log_level": "ERROR",
        }
    )

    def add(count: int) -> int:
        return count + 1

    step = engine.step()(add)

    def hundred() -> int:
        count = 0
        for _ in range(STEPS):
            count = step(count)
        return count

    workflow = engine.workflow()(hundred)
    engine.launch()

    def run(_: int) -> None:
        if workflow() != STEPS:
            raise AssertionError

    yield run
    engine.destroy()


@contextmanager
def aws_testing_runner(_: Path) -> Iterator[Run]:
    context_module = importlib.import_module("aws_durable_execution_sdk_python.context")
    execution_module = importlib.import_module("aws_durable_execution_sdk_python.execution")
    runner_module = importlib.import_module("aws_durable_execution_sdk_python_testing.runner")

    def add(_: Any, count: int) -> int:
        return count + 1

    step = context_module.durable_step(add)

    def hundred(_: Any, context: Any) -> int:
        count = 0
        for _step in range(STEPS):
            count = context.step(step(count))
        return count

    with runner_module.DurableFunctionTestRunner(
        handler=execution_module.durable_execution(hundred)
    ) as runner:

        def run(_: int) -> None:
            result = runner.run(input="{}", execution_timeout=60)
            if result.result != str(STEPS):
                raise AssertionError(result)

        yield run


ENGINES = {
    "stepmark, SQLite, FULL": stepmark,
    "DBOS, SQLite": dbos,
    "AWS testing runner, memory": aws_testing_runner,
}


def measure(rounds: int, workflows: int) -> dict[str, list[float]]:
    """Steps per second by engine, round by round."""
    seen: dict[str, list[float]] = {name: [] for name in ENGINES}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        contexts = {name: engine(Path(folder)) for name, engine in ENGINES.items()}
        runs = {name: context.__enter__() for name, context in contexts.items()}
        number = 0
        for round_number in range(rounds + 1):
            for name, run in runs.items():
                began = time.perf_counter()
                for _ in range(workflows):
                    number += 1
                    run(number)
                if round_number:  # the first is for warming up
                    seen[name].append(STEPS * workflows / (time.perf_counter() - began))
        for context in contexts.values():
            context.__exit__(None, None, None)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--workflows", type=int, default=5, help="workflows of 100 steps per engine and round"
    )
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    seen = measure(given.rounds, given.workflows)
    ours = next(iter(seen.values()))
    print(f"steps/s over {given.rounds} rounds of {given.workflows} workflows of {STEPS} steps")
    print(f"{'':28}   median  stepmark's     best  stepmark's")
    for name, rates in seen.items():
        median, best = statistics.median(rates), max(rates)
        ratios = statistics.median(ours) / median, max(ours) / best
        print(f"{name:28} {median:8.0f} {ratios[0]:8.1f} x  {best:8.0f} {ratios[1]:8.1f} x")


if __name__ == "__main__":
    main()
