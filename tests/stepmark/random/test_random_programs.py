"""Random programs: the engine does what plain Python does.

STEPMARK_EXAMPLES says how many are tried; `make stepmark-fuzz` tries 50,000.
"""

import os

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from stepmark import Engine, MemoryStore
from stepmark.testing import VirtualClock

from tests.stepmark.random.programs import Random, programs
from tests.stepmark.random.run import START, _deterministic, run, schedules

EXAMPLES = int(os.environ.get("STEPMARK_EXAMPLES", "2000"))

__all__ = ["_deterministic"]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
@given(st.data())
def test_random_programs_do_what_plain_python_does(data: st.DataObject) -> None:
    program = data.draw(programs(), label="program")
    schedule = data.draw(schedules(program), label="schedule")
    note(f"program = {program!r}\nschedule = {schedule!r}")
    clock = VirtualClock(START)
    run(Engine([Random], store=MemoryStore(), clock=clock), clock, program, schedule)
