"""Whether a step of stepmark costs more after many steps, or in a long definition.

    make benchmark-stepmark

On SQLite with a durable commit per step: the cost of steps of a workflow that has run 100 of them, and of one
that has run 100,000, and the size of their records; steps per second with definitions of 20 and of 200
statements. What is compared takes turns; medians and ratios of one run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from stepmark import Budget, Engine, For, MemoryStore, Section, SqliteStore, Step, Workflow

if TYPE_CHECKING:
    from stepmark import Store


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


def after_many_steps(folder: Path, steps: int, rounds: int, batch: int = 100) -> None:
    """Batches of a young workflow and of an old one take turns, so that both meet the same machine."""
    memory = MemoryStore()  # to get old quickly: the record is all there is of a workflow
    state = Loop(until=10**9)
    Engine([Loop], store=memory, budget=Budget(steps=steps)).start(state, workflow_id="old")
    old = memory.load("old")
    store = SqliteStore(folder / "many.db")
    if old is None or not store.create(old):
        raise AssertionError
    engine = Engine([Loop], store=store, budget=Budget(steps=100))
    costs: dict[str, list[float]] = {"young": [], "old": []}
    for number in range(rounds):
        engine.start(state, workflow_id=f"young {number:03}")  # 100 steps
        for kind, workflow_id in (("young", f"young {number:03}"), ("old", "old")):
            began = time.perf_counter()
            engine.resume(workflow_id, Budget(steps=batch))
            costs[kind].append((time.perf_counter() - began) / batch)
    sizes = [len(record.state + record.progress) for record in store.live()]
    young_cost, old_cost = statistics.median(costs["young"]), statistics.median(costs["old"])
    print(f"steps after the 100th:     {young_cost * 1e6:6.0f} us each, record of {sizes[-1]} bytes")
    print(f"steps after the {steps:,}th: {old_cost * 1e6:6.0f} us each, record of {sizes[0]} bytes")
    print(f"{old_cost / young_cost:.2f} times as much (medians of {rounds} rounds of {batch} steps)")
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
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        long_definitions(Path(folder), given.rounds, 200)
        after_many_steps(Path(folder), given.steps, given.rounds)


if __name__ == "__main__":
    main()
