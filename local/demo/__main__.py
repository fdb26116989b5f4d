"""`make demo`: the whole system on this machine, its story, and what the caller would wait otherwise."""

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table
from rich.text import Text

from local import ivr, processes, system
from local.companies import SOURCES, Behaviour, invented_customer
from local.console import console, heading, step
from local.demo import second_act, story
from local.demo.comparison.ways import QUESTION_SECONDS, Call, four_ways
from local.emulator.warm_up import warm_up
from local.errors import LocalError
from local.system import System

_CALLER = "+33639980500"
_REHEARSAL = "+33639980501"
_BAR_WIDTH = 32
_SILENCE = "█"
_VOICE = "░"


def main() -> int:
    processes.interruptible()
    try:
        with processes.run_directory("demo") as directory:
            _demonstrate(directory)
    except KeyboardInterrupt:
        console.print("\ninterrupted; everything that was started has ended")
        return processes.INTERRUPTED
    except LocalError as error:
        console.print(f"\n[red]{type(error).__name__}[/]", error)
        return 1
    return 0


def _demonstrate(directory: Path) -> None:
    heading("Starting everything on this machine")
    with system.running(directory, progress=step) as everything, ivr.calling(everything.stack) as caller:
        with step("warming up: the first call of a function takes a second or more"):
            warm_up(everything.stack, everything.companies, caller, at_once=2)
        story.tell(everything, caller)
        second_act.tell(everything, caller)
        _compare(everything, directory)
        heading("Ending everything")
    console.print("  nothing is left running; `make up` keeps the stack for playing with")


def _compare(everything: System, directory: Path) -> None:
    heading("What the caller waits, with four ways of doing it")
    for number in (_CALLER, _REHEARSAL):
        everything.companies.know("gamma", {number: invented_customer("gamma", number)})
    for source in SOURCES:
        everything.companies.behave(source, by_number={_REHEARSAL: Behaviour()})
    calls: dict[str, Call] = {}
    with four_ways(everything, directory) as ways:
        with step("warming up all four"):
            for way in ways:
                way.take_call(_REHEARSAL)
        for way in ways:
            with step(way.name):
                calls[way.name] = way.take_call(_CALLER)
    latencies = ", ".join(f"{source} {seconds:g} s" for source, seconds in story.LATENCIES.items())
    console.print(
        f"\n  One call each, just now, from a caller whom only gamma knows ({latencies})."
        f"\n  [red]{_SILENCE}[/] the caller hears nothing"
        f"   [green]{_VOICE}[/] the IVR asks a question of {QUESTION_SECONDS:g} s\n"
    )
    console.print(_table(calls))


def _table(calls: Mapping[str, Call]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("silence", justify="right")
    table.add_column("known after", justify="right")
    table.add_column("", no_wrap=True)
    longest = max(call.seconds for call in calls.values())
    for name, call in calls.items():
        bar = Text()
        for span in call.heard:
            length = max(1, round(span.seconds / longest * _BAR_WIDTH))
            silent = span.what == "silence"
            bar.append((_SILENCE if silent else _VOICE) * length, "red" if silent else "green")
        table.add_row(name, f"{call.silent_seconds:.2f} s", f"{call.seconds:.2f} s", bar)
    return table


if __name__ == "__main__":
    sys.exit(main())
