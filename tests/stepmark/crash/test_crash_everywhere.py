"""Random programs whose process stops before and after every single call, and is replaced by another."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note
from stepmark import Engine, MemoryStore, SqliteStore, Store
from stepmark.testing import VirtualClock, run_due

from tests.stepmark.crash.bombs import Bomb, Crash, CrashingScheduler, CrashingStore, plant
from tests.stepmark.random.oracle import Oracle
from tests.stepmark.random.programs import (
    Action,
    Mend,
    Program,
    Random,
    Tape,
    World,
    make_program,
    short_tapes,
    tapes,
)
from tests.stepmark.random.run import (
    START,
    WORKFLOW_ID,
    act,
    compare,
    handler_effects,
    make_schedule,
)
from tests.stepmark.random.settings import random_examples
from tests.stepmark.support import RUN_OUT


class Survivor:
    """Calls an engine; when the process stops, another picks up what is due and the caller calls again."""

    def __init__(self, store: Store, bomb: Bomb) -> None:
        self.clock = VirtualClock(START)
        self._store = CrashingStore(store, bomb)
        self._scheduler = CrashingScheduler(bomb)
        self.engine = self._new()

    def _new(self) -> Engine:
        # a lease of no time: the next engine need not wait, and no timer changes its order with another
        return Engine(
            [Random], store=self._store, scheduler=self._scheduler, clock=self.clock, lease_seconds=RUN_OUT
        )

    def call(self, function: Callable[[Engine], Any]) -> Any:
        while True:
            try:
                return function(self.engine)
            except Crash:
                self._pick_up()

    def _pick_up(self) -> None:
        while True:
            self.engine = self._new()
            try:
                run_due(self.engine, self.clock, self.clock.now())
            except Crash:
                continue
            return


def run(
    store: Store, bomb: Bomb, program: Program, schedule: list[Action], *, in_the_air: bool = False
) -> None:
    """The program on the oracle, and on stepmark with the bomb: the same after every action."""
    World.program = program
    plant(bomb)
    survivor = Survivor(store, bomb)
    oracle = Oracle(program, now=START, in_the_air=in_the_air)
    survivor.call(lambda engine: engine.start(Random(), workflow_id=WORKFLOW_ID))
    oracle.start()
    for number, action in enumerate(schedule):
        until = survivor.clock.now() + getattr(action, "seconds", 0)

        def do(engine: Engine, action: Action = action, number: int = number, until: float = until) -> Any:
            if hasattr(action, "seconds"):
                return run_due(engine, survivor.clock, until)
            return act(engine, survivor.clock, action, number)

        assert survivor.call(do) == oracle.do(action, number)
        compare(survivor.call(lambda engine: engine.get(WORKFLOW_ID)), oracle)
    compare(survivor.call(lambda engine: engine.get(WORKFLOW_ID)), oracle)  # the trace has every commit once
    wanted, had = Counter(oracle.handlers), Counter(handler_effects())
    assert wanted <= had  # an effect happens at least once
    assert {effect.split()[1] for effect in had if effect.startswith("setup")} <= {
        effect.split()[1] for effect in [*had, *waiting_of(oracle)] if not effect.startswith("setup")
    }  # nothing that was set up is left behind


def waiting_of(oracle: Oracle) -> list[str]:
    waits = [strand.turn.waits for strand in oracle.strands if strand.turn and strand.turn.waits]
    return [f"waiting {name}" for each in waits for name in each.set_up]


def without_mend(schedule: list[Action]) -> list[Action]:
    """A person's retry that is repeated after a crash gives more attempts, as it should: leave it out."""
    return [action for action in schedule if not isinstance(action, Mend)]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(7200)
@random_examples(share=0.03)
@given(tapes, short_tapes)
def test_stopped_at_every_call_and_picked_up_in_memory(tape: Tape, schedule_tape: Tape) -> None:
    program = make_program(tape)
    schedule = without_mend(make_schedule(schedule_tape, program, most=5))
    calm = Bomb()
    run(MemoryStore(), calm, program, schedule)
    for at in range(1, calm.count + 1):
        note(f"program = {program!r}\nschedule = {schedule!r}\nstopped at call {at} of {calm.count}")
        run(MemoryStore(), Bomb(at), program, schedule)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(7200)
@random_examples(share=0.2)
@given(tapes, short_tapes, tapes)
def test_stopped_again_and_again_in_memory(tape: Tape, schedule_tape: Tape, bomb_tape: Tape) -> None:
    program = make_program(tape)
    schedule = without_mend(make_schedule(schedule_tape, program, most=5))
    at: set[int] = set()
    while len(at) < 20:
        at.add(max(at, default=0) + bomb_tape.integer(1, 12))
    note(f"program = {program!r}\nschedule = {schedule!r}\nstopped at calls {sorted(at)}")
    run(MemoryStore(), Bomb(*at), program, schedule)


@pytest.mark.usefixtures("in_the_air")
@pytest.mark.timeout(7200)
@random_examples(share=0.012)
@given(tapes, short_tapes)
def test_stopped_at_every_call_with_steps_in_the_air(tape: Tape, schedule_tape: Tape) -> None:
    program = make_program(tape)
    schedule = without_mend(make_schedule(schedule_tape, program, most=5, in_the_air=True))
    calm = Bomb()
    run(MemoryStore(), calm, program, schedule, in_the_air=True)
    for at in range(1, calm.count + 1):
        note(f"program = {program!r}\nschedule = {schedule!r}\nstopped at call {at} of {calm.count}")
        run(MemoryStore(), Bomb(at), program, schedule, in_the_air=True)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(7200)
def test_stopped_at_every_call_and_picked_up_on_sqlite(tmp_path: Path) -> None:
    count = 0
    store = SqliteStore(tmp_path / "w.db")

    @random_examples(share=0.002)
    @given(tapes, short_tapes)
    def every_call(tape: Tape, schedule_tape: Tape) -> None:
        nonlocal count
        program = make_program(tape)
        schedule = without_mend(make_schedule(schedule_tape, program, most=4))
        calm = Bomb()
        run(MemoryStore(), calm, program, schedule)
        for at in range(1, calm.count + 1):
            count += 1
            run(store, Bomb(at), program, schedule)
            store._connection.execute(
                "DELETE FROM workflows"
            )  # a new file for each would cost most of the time

    every_call()
    assert count
