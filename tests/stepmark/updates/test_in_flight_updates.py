"""Guarantees 9 and 10: a deploy over running workflows, stopped at every position, with every kind of change.

Definitions are written as plain data first, so that what must happen is found without the engine: a thread
goes on when the new definition has its statement in the same thread, and what was set up can be torn down.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import ClassVar

import pytest
from stepmark import (
    Budget,
    DoNotRetry,
    Engine,
    For,
    Go,
    If,
    LivePosition,
    MemoryStore,
    On,
    Record,
    Scope,
    Section,
    Statement,
    Status,
    Step,
    Timeout,
    Wait,
    WaitFor,
    Workflow,
    check,
    check_store,
    current,
    live_positions,
)
from stepmark.testing import VirtualClock, run_due

from tests.stepmark.support import Noted, Task


@dataclass(frozen=True)
class Line:
    """One statement: its kind, name, old names, and what is inside."""

    kind: str
    name: str
    body: tuple["Line", ...] = ()
    aliases: tuple[str, ...] = ()


BASE = (
    Line("step", "a"),
    Line("if", "choice", (Line("step", "b"), Line("task", "person"))),
    Line("for", "rounds", (Line("step", "c"), Line("timer", "pause"))),
    Line("go", "beside", (Line("step", "d"), Line("task", "other person"), Line("fetch", "d2"))),
    Line("event", "answer"),
    Line("scope", "part", (Line("step", "e"), Line("until", "until"))),
    Line("gives up", "booking", (Line("step", "undo"), Line("task", "apology"))),
    Line("step", "f"),
)


@dataclass
class Lines(Workflow, name="lines"):
    """Runs whatever `lines` says."""

    lines: ClassVar[tuple[Line, ...]] = ()
    rounds: int = 0
    fetched: str = ""
    seen: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(*map(self.statement, type(self).lines))

    def statement(self, line: Line) -> Statement:
        name, aliases = line.name, line.aliases
        body = [self.statement(inner) for inner in line.body]
        match line.kind:
            case "if":
                return If(True, name, *body, aliases=aliases)
            case "for":
                return For(
                    name, self.rounds < 2, Step(f"count {_event(line)}", self.count), *body, aliases=aliases
                )
            case "go":
                return Go(name, *body, aliases=aliases)
            case "scope":
                return Scope(name, *body, aliases=aliases)
            case "gives up":
                return Step(name, self.give_up, aliases=aliases).or_else("it gave up", *body)
            case _:
                return self.leaf(line)

    def leaf(self, line: Line) -> Statement:
        name, aliases = line.name, line.aliases
        match line.kind:
            case "step":
                return Step(name, self.note, aliases=aliases)
            case "fetch":
                return Step(name, self.fetch, into="fetched", aliases=aliases)
            case "task":
                return Wait(name, On(f"task of {_event(line)}", Task()), aliases=aliases)
            case "timer":
                return Wait(name, On(f"time of {_event(line)}", Timeout(seconds=5)), aliases=aliases)
            case "until":
                return WaitFor(name, len(self.seen) > 0, aliases=aliases)
            case _:
                return Wait(name, On(f"event of {_event(line)}", None), aliases=aliases)

    def count(self) -> None:
        self.rounds += 1

    def note(self) -> None:
        self.seen.append(current().statement)

    def give_up(self) -> None:
        raise DoNotRetry

    def fetch(self) -> str:
        return "x"


def _event(line: Line) -> str:
    """What was named after a statement keeps its name when the statement is renamed."""
    return line.aliases[0] if line.aliases else line.name.removeprefix("new ")


def version(lines: tuple[Line, ...]) -> type[Lines]:
    return type("Lines", (Lines,), {"lines": lines, "__workflow_name__": "lines", **_DATACLASS})


_DATACLASS = {name: vars(Lines)[name] for name in ("__dataclass_params__", "__dataclass_fields__")}


# -- the changes --------------------------------------------------------------------------------------


def paths(lines: tuple[Line, ...], before: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    for index, line in enumerate(lines):
        yield (*before, index)
        yield from paths(line.body, (*before, index))


def edit(lines: tuple[Line, ...], path: tuple[int, ...], *, how: str) -> tuple[Line, ...]:
    """The definition with one change at one place."""
    index, *deeper = path
    before, line, after = lines[:index], lines[index], lines[index + 1 :]
    if deeper:
        return (*before, replace(line, body=edit(line.body, tuple(deeper), how=how)), *after)
    new = Line("step", "new")
    changes: dict[str, tuple[Line, ...]] = {
        "insert before": (*before, new, line, *after),
        "insert after": (*before, line, new, *after),
        "remove": (*before, *after),
        "rename with an alias": (
            *before,
            replace(line, name=f"new {line.name}", aliases=(line.name,)),
            *after,
        ),
        "rename without an alias": (*before, replace(line, name=f"new {line.name}"), *after),
        "swap with the next": (*before, *after[:1], line, *after[1:]),
        "make a step": (*before, replace(line, kind="step", body=()), *after),
        "make a fetch": (*before, replace(line, kind="fetch", body=()), *after),
        "make a wait": (*before, replace(line, kind="event", body=()), *after),
        "make a task": (*before, replace(line, kind="task", body=()), *after),
        "make a loop": (*before, replace(line, kind="for", body=(new,)), *after),
        "put into a branch": (*before, Line("if", "new branch", (line,)), *after),
        "put into an or_else": (*before, Line("gives up", "new booking", (line,)), *after),
        "put into a thread": (*before, Line("go", "new thread", (line,)), *after),
    }
    return changes[how]


CHANGES = (
    "insert before",
    "insert after",
    "remove",
    "rename with an alias",
    "rename without an alias",
    "swap with the next",
    "make a step",
    "make a fetch",
    "make a wait",
    "make a task",
    "make a loop",
    "put into a branch",
    "put into an or_else",
    "put into a thread",
)


# -- what must happen ---------------------------------------------------------------------------------

type Stops = dict[tuple[str | None, str], Line]


def stops(lines: tuple[Line, ...], thread: str | None = None, prefixes: tuple[str, ...] = ("",)) -> Stops:
    """Every statement at which a thread can be, by thread and by name, old names included."""
    found: Stops = {}
    for line in lines:
        names = (line.name, *line.aliases)
        match line.kind:
            case "if":
                found |= stops(line.body, thread, prefixes)
            case "for":
                found |= {(thread, f"{p}count {_event(line)}"): Line("step", "") for p in prefixes}
                found |= stops(line.body, thread, prefixes)
            case "scope":
                found |= stops(line.body, thread, tuple(f"{p}{name}." for p in prefixes for name in names))
            case "go":
                for name in names:
                    found |= stops(line.body, name, prefixes)
            case _:
                found |= {(thread, prefix + name): line for prefix in prefixes for name in names}
                found |= stops(line.body, thread, prefixes)
    return found


def missing(position: LivePosition, new: Stops) -> str | None:
    """The name that the message must say when this thread can't go on."""
    line = new.get((position.go, position.at))
    if line is None:
        return position.at
    events = {f"task of {_event(line)}"} if line.kind == "task" else set()
    return next((event for event in position.set_up if event not in events), None)


def run_to_the_end(engine: Engine, clock: VirtualClock) -> None:
    for _ in range(40):
        run_due(engine, clock, clock.now() + 10)
        snapshot = engine.get("w")
        if snapshot.status.closed:
            return
        for event in snapshot.waiting_for:
            if not event.startswith("time of") and not engine.get("w").status.closed:
                engine.callback("w", event, "yes" if "task of" in event else None)


@cache
def _stops_of_the_old() -> list[tuple[Record, float, list[str]]]:
    """The record after every commit of the old definition, with the time and the effects until then."""
    store, clock = MemoryStore(), VirtualClock()
    old = version(BASE)
    engine = Engine([old], store=store, clock=clock, budget=Budget(steps=0))
    Noted.take()
    engine.start(old(), workflow_id="w")
    found: list[tuple[Record, float, list[str]]] = []
    while True:
        record = store.load("w")
        assert record is not None
        if record.status.closed:
            return found
        found.append((record, clock.now(), list(Noted.log)))
        assert len(found) < 100
        snapshot = engine.resume("w", Budget(steps=1))
        if snapshot.version == record.version:
            clock.sleep(5)
            events = [event for event in snapshot.waiting_for if not event.startswith("time of")]
            if events:
                engine.callback("w", events[0], "yes" if "task of" in events[0] else None)


def stopped_at(steps: int) -> tuple[MemoryStore, VirtualClock]:
    """A workflow of the old definition that has made so many commits."""
    record, now, noted = _stops_of_the_old()[steps]
    Noted.log = list(noted)
    store = MemoryStore()
    store.create(record)
    return store, VirtualClock(now)


@pytest.mark.parametrize("how", CHANGES)
def test_guarantee_09_and_10_each_instance_goes_on_or_is_parked_and_check_had_said_so(how: str) -> None:
    outcomes = {"went on": 0, "parked": 0}
    for path in paths(BASE):
        lines = edit(BASE, path, how=how)
        new_stops = stops(lines)
        new = version(lines)
        for steps in range(len(_stops_of_the_old())):
            store, clock = stopped_at(steps)
            names = [name for position in live_positions(store) if (name := missing(position, new_stops))]
            problems = check_store(new, store)
            assert len(problems) == len(names)
            assert all(repr(name) in problem.message for name, problem in zip(names, problems, strict=True))
            assert check(new, live_positions(store)) == problems

            engine = Engine([new], store=store, clock=clock)
            assert check(new, [engine.get("w")]) == problems
            snapshot = engine.resume("w")
            seen = list(snapshot.state.seen)
            if names:
                assert snapshot.status is Status.PARKED
                assert any(repr(name) in str(snapshot.error) for name in names)
                outcomes["parked"] += 1
            else:
                run_to_the_end(engine, clock)
                assert engine.get("w").status is Status.FINISHED, (how, path, steps)
                assert engine.get("w").state.seen[: len(seen)] == seen  # never again from the top
                effects = [" ".join(line.split()[:2]) for line in Noted.take()]
                assert effects.count("task set") == effects.count("task torn")
                outcomes["went on"] += 1
    assert outcomes["went on"] > 50
    assert bool(outcomes["parked"]) is not how.startswith(
        ("insert", "swap", "rename with an ", "put into a branch", "put into an or_else")
    )


def test_guarantee_09_a_parked_thread_can_be_moved() -> None:
    store, clock = stopped_at(1)
    lines = edit(BASE, (1, 0), how="remove")
    engine = Engine([version(lines)], store=store, clock=clock)
    assert engine.resume("w").status is Status.PARKED
    assert engine.move("w", "main", "person").threads["main"].at == "person"
    run_to_the_end(engine, clock)
    assert engine.get("w").status is Status.FINISHED


def test_guarantee_10_positions_can_be_given_by_hand() -> None:
    problems = check(
        Section(Go("t", Step("a", print)), Step("b", print)),
        [
            LivePosition("1", "b"),
            LivePosition("2", "a"),
            LivePosition("3", "a", thread="t", go="t"),
            LivePosition("4", "b", thread="t", go="t"),
            LivePosition("5", "x", thread="u[1]", go="u", thread_id="1"),
        ],
    )
    assert [problem.workflow_id for problem in problems] == ["2", "4", "5"]
    assert re.search("'a'", problems[0].message)


def test_guarantee_09_the_whole_definition_may_raise_and_come_back() -> None:
    store, clock = stopped_at(2)
    record = store.load("w")
    assert record is not None
    broken = version((Line("step", "same"), Line("step", "same")))
    engine = Engine([broken], store=store, clock=clock)
    snapshot = engine.resume("w")
    assert snapshot.status is Status.PARKED
    assert "duplicate name 'same'" in str(snapshot.error)
    assert [problem.message for problem in check_store(broken, store)] == [snapshot.error]
    after = store.load("w")
    assert after is not None
    assert after.state == record.state
    mended = Engine([version(BASE)], store=store, clock=clock)
    mended.retry("w")
    run_to_the_end(mended, clock)
    assert mended.get("w").status is Status.FINISHED
