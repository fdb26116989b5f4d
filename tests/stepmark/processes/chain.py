"""A workflow for real workers; `python -m tests.stepmark.processes.chain STORE LEASE_SECONDS` is one."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from stepmark import (
    Engine,
    For,
    Go,
    On,
    Section,
    SqliteStore,
    Step,
    Timeout,
    Wait,
    Workflow,
    current,
    run_worker,
)

STEPS = 40


@dataclass
class Chain(Workflow, name="chain"):
    """Steps one after the other, with a timer, a thread and a loop; each writes its effect to a file."""

    effects: str
    count: int = 0
    fetched: list[int] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Go("beside", *[Step(f"fetch {n}", self.fetch, into=self.fetched.append) for n in range(5)]),
            For("count", self.count < STEPS, Step("add", self.add)),
            Wait("a moment", On("over", Timeout(seconds=0.2))),
            Step("end", self.add),
        )

    def add(self) -> None:
        self.effect()
        self.count += 1

    def fetch(self) -> int:
        self.effect()
        return int(current().statement.split()[1])

    def effect(self) -> None:
        here = current()
        line = f"{os.getpid()} {here.workflow_id} {here.statement} {here.idempotency_key.replace(' ', '_')}\n"
        with Path(self.effects).open("a") as file:  # one short write with O_APPEND is not torn apart
            file.write(line)


if __name__ == "__main__":
    engine = Engine([Chain], store=SqliteStore(sys.argv[1]), lease_seconds=float(sys.argv[2]))
    print("ready", flush=True)
    run_worker(engine, poll_seconds=0.02, concurrency=2)
