"""Random programs: the engine does what plain Python does.

`make stepmark-fuzz` tries many more of them.
"""

import pytest
from hypothesis import given, note
from stepmark import Engine, MemoryStore
from stepmark.testing import VirtualClock

from tests.stepmark.random.programs import Random, Tape, make_program, short_tapes, tapes
from tests.stepmark.random.run import START, InTheAir, make_schedule, run
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


@pytest.mark.timeout(7200)
def test_random_programs_with_steps_in_the_air(in_the_air: InTheAir) -> None:
    @random_examples(share=0.25)
    @given(tapes, short_tapes)
    def programs(tape: Tape, schedule_tape: Tape) -> None:
        program = make_program(tape)
        schedule = make_schedule(schedule_tape, program, in_the_air=True)
        note(f"program = {program!r}\nschedule = {schedule!r}")
        clock = VirtualClock(START)
        engine = Engine([Random], store=MemoryStore(), clock=clock)
        run(engine, clock, program, schedule, in_the_air=True)

    programs()
    assert in_the_air.most > 1
