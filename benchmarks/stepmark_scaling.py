"""Whether a step of stepmark costs more after many steps, or in a long definition.

    make benchmark-stepmark

On SQLite with a durable commit per step: the cost of the steps around the 100th and the 100,000th of one
workflow, and the size of its record then; steps per second with definitions of 20 and of 200 statements,
taking turns. Medians and ratios of one run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from stepmark import Engine, For, Section, SqliteStore, Step, Workflow

if TYPE_CHECKING:
    from stepmark import Record, Store


class TimedStore(SqliteStore):
    """Notes when each commit was done, and the record it wrote."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.times: list[float] = []
        self.sizes: list[int] = []

    def commit(self, record: Record, expected_version: int) -> None:
        super().commit(record, expected_version)
        self.times.append(time.perf_counter())
        self.sizes.append(len(record.state) + len(record.progress))


@dataclass
class Loop(Workflow):
    """A loop over `names` steps until so many steps have run."""

    names: ClassVar[tuple[str, ...]] = tuple(f"step {number}" for number in range(10))
    count: int = 1_000_000  # so that the number of digits stays the same
    until: int = 0

    def definition(self) -> Section:
        return Section(For("loop", self.count < self.until, *[Step(name, self.add) for name in self.names]))

    def add(self) -> None:
        self.count += 1


class Short(Loop, name="short"):
    names = tuple(f"step {number}" for number in range(20))


class Long(Loop, name="long"):
    names = tuple(f"step {number}" for number in range(200))


for cls in (Short, Long):
    dataclass(cls)


def after_many_steps(folder: Path, steps: int) -> None:
    store = TimedStore(folder / "many.db")
    engine = Engine([Loop], store=store)
    state = Loop()
    state.until = state.count + steps + 600
    engine.start(state, workflow_id="w")
    costs = [after - before for before, after in zip(store.times, store.times[1:], strict=False)]
    early, late = (statistics.median(costs[at - 50 : at + 450]) for at in (100, steps))
    print(f"the 100th step:   {early * 1e6:7.0f} us, record of {store.sizes[100]} bytes")
    print(f"the {steps:,}th: {late * 1e6:7.0f} us, record of {store.sizes[steps]} bytes")
    print(f"the later costs {late / early:.2f} times the earlier (medians of 500 steps)")
    store.close()


def rate(store: Store, cls: type[Loop], number: int, steps: int) -> float:
    engine = Engine([cls], store=store)
    state = cls()
    state.until = state.count + steps
    began = time.perf_counter()
    engine.start(state, workflow_id=f"{cls.__name__} {number}")
    return steps / (time.perf_counter() - began)


def long_definitions(folder: Path, rounds: int, steps: int) -> None:
    store = SqliteStore(folder / "long.db")
    rates: dict[type[Loop], list[float]] = {Short: [], Long: []}
    for number in range(rounds):
        for cls, seen in rates.items():
            seen.append(rate(store, cls, number, steps))
    short, long = (statistics.median(seen) for seen in rates.values())
    print(f"20 statements:  {short:6.0f} steps/s")
    print(f"200 statements: {long:6.0f} steps/s, {long / short:.2f} of that (medians of {rounds} rounds)")
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        long_definitions(Path(folder), given.rounds, 1_000)
        after_many_steps(Path(folder), given.steps)


if __name__ == "__main__":
    main()
