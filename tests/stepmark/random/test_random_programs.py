"""Random programs: the engine does what plain Python does.

`make stepmark-fuzz` tries many more of them.
"""

import pytest
from hypothesis import given, note
from stepmark import Engine, MemoryStore
from stepmark.testing import VirtualClock

from tests.stepmark.random.programs import (
    Do,
    Fetch,
    Program,
    Random,
    Tape,
    Thread,
    make_program,
    short_tapes,
    tapes,
)
from tests.stepmark.random.run import START, WORKFLOW_ID, InTheAir, make_schedule, run
from tests.stepmark.random.settings import random_examples


@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(7200)  # the longer target tries 50,000
@random_examples()
@given(tapes, short_tapes)
def test_random_programs_do_what_plain_python_does(tape: Tape, schedule_tape: Tape) -> None:
    program = make_program(tape)
    schedule = make_schedule(schedule_tape, program)
    note(f"program = {program!r}\nschedule = {schedule!r}")
    clock = VirtualClock(START)
    run(Engine([Random], store=MemoryStore(), clock=clock), clock, program, schedule)


@pytest.mark.usefixtures("in_the_air")
@pytest.mark.timeout(7200)
@random_examples(share=0.25)
@given(tapes, short_tapes)
def test_random_programs_with_steps_in_the_air(tape: Tape, schedule_tape: Tape) -> None:
    program = make_program(tape)
    schedule = make_schedule(schedule_tape, program, in_the_air=True)
    note(f"program = {program!r}\nschedule = {schedule!r}")
    clock = VirtualClock(START)
    run(Engine([Random], store=MemoryStore(), clock=clock), clock, program, schedule, in_the_air=True)


def test_steps_are_in_the_air_together_and_others_run_meanwhile(in_the_air: InTheAir) -> None:
    threads = (
        Thread(f"thread {n}", None, (Fetch(f"fetch {n}", "a", n), Do(f"do {n}", "b", n))) for n in (1, 2)
    )
    program: Program = (*threads, Do("first", "c", 1), Do("second", "c", 1))
    clock = VirtualClock(START)
    engine = Engine([Random], store=MemoryStore(), clock=clock)
    run(engine, clock, program, [], in_the_air=True)
    assert in_the_air.most == 2
    assert engine.get(WORKFLOW_ID).state.trace == ["first", "second", "fetch 1", "do 1", "fetch 2", "do 2"]
