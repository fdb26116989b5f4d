"""Programs as plain data, how they are made, and the workflow class that runs one on stepmark.

A program is a list of the tuples below; `oracle.py` runs the same data without stepmark.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from hypothesis import strategies as st
from stepmark import (
    Break,
    Case,
    Continue,
    Default,
    Finish,
    For,
    Go,
    Handler,
    If,
    On,
    Request,
    Retry,
    Return,
    Scope,
    Section,
    Statement,
    Step,
    Switch,
    Timeout,
    Wait,
    WaitFor,
    Workflow,
    current,
)

TIMEOUT = 3600.0  # that nobody waits for: the tests see when a step hangs
VARIABLES = ("a", "b", "c")
ATTEMPTS = 3
RETRY = Retry(attempts=ATTEMPTS, first_delay=2.0, factor=2.0, jitter=0.0)


@dataclass(frozen=True)
class Cond:
    """Whether a variable is below (or not below) a bound; late conditions are given as callables."""

    variable: str
    bound: int
    below: bool
    late: bool

    def holds(self, values: dict[str, int]) -> bool:
        return (values[self.variable] < self.bound) is self.below


@dataclass(frozen=True)
class Do:
    """A step: adds to a variable. It fails on its first `failures` attempts; then comes `or_else`, if any.

    hangs: it does not raise then, but goes on until long after its time-out.
    """

    name: str
    variable: str
    amount: int
    failures: int = 0
    is_async: bool = False
    or_else: "Program | None" = None
    hangs: bool = False


@dataclass(frozen=True)
class Fetch:
    """A step with `into`: what it returns goes into a variable, by a callable or by the field's name."""

    name: str
    variable: str | None
    amount: int
    failures: int = 0
    is_async: bool = False
    or_else: "Program | None" = None
    hangs: bool = False


@dataclass(frozen=True)
class Choose:
    """An If or a Switch: branches of condition, name and body; the last may have no condition."""

    branches: tuple[tuple[Cond | None, str, "Program"], ...]
    switch: bool


@dataclass(frozen=True)
class Loop:
    """A For that counts its rounds in a variable of its own, so that it ends."""

    name: str
    rounds: int
    cond: Cond | None
    body: "Program"


@dataclass(frozen=True)
class Jump:
    """A Break, Continue, Return or Finish."""

    kind: str
    variable: str = "a"


@dataclass(frozen=True)
class Event:
    """What a Wait waits for: a function that adds its payload to a variable, a Handler, or a timer."""

    name: str
    kind: str
    variable: str
    seconds: int
    body: "Program"


@dataclass(frozen=True)
class Await:
    name: str
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Until:
    """A WaitFor, with a handler that adds to a variable or without."""

    name: str
    cond: Cond
    variable: str | None


@dataclass(frozen=True)
class Thread:
    name: str
    ident: str | None
    body: "Program"


@dataclass(frozen=True)
class Group:
    """A nested Section, or a Scope when it has a prefix."""

    prefix: str | None
    body: "Program"


type Node = Do | Fetch | Choose | Loop | Jump | Await | Until | Thread | Group
type Program = tuple[Node, ...]


@dataclass(frozen=True)
class Send:
    """An event of the schedule; `repeat` sends it a second time with the same event_id."""

    event: str
    payload: int
    repeat: bool = False


@dataclass(frozen=True)
class Pass:
    """Time goes by."""

    seconds: int


@dataclass(frozen=True)
class Mend:
    """A person retries what is parked."""


type Action = Send | Pass | Mend


# -- how they are made --------------------------------------------------------------------------------


class Tape:
    """Decisions read from bytes that Hypothesis has made; when they run out, the simplest is taken.

    One draw of bytes instead of one a decision: that is many times as fast, and shrinks as well.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self._names = 0

    def integer(self, least: int, most: int) -> int:
        byte = self._content[self._at] if self._at < len(self._content) else 0
        self._at += 1
        return least + byte % (most - least + 1)

    def pick[T](self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def flag(self) -> bool:
        return self.integer(0, 1) == 1

    def name(self, kind: str) -> str:
        """A name that no other statement of the program has."""
        self._names += 1
        return f"{kind}{self._names}"


tapes = st.binary(min_size=100, max_size=400).map(Tape)  # long enough for most programs
short_tapes = st.binary(min_size=40, max_size=60).map(Tape)


def make_program(tape: Tape) -> Program:
    """A whole program."""
    return _body(tape, 3, loop=False, once=True, least=3, most=6)


def _body(tape: Tape, depth: int, *, loop: bool, once: bool, least: int = 1, most: int = 4) -> Program:
    return tuple(_node(tape, depth, loop=loop, once=once) for _ in range(tape.integer(least, most)))


def _node(tape: Tape, depth: int, *, loop: bool, once: bool) -> Node:
    kinds: list[Callable[..., Node]] = [_do] * 6 + [_fetch] * 3
    if depth > 0:
        kinds += [_choose] * 4 + [_loop] * 4 + [_await] * 4 + [_thread] * 4 + [_group] * 2 + [_until]
    if loop or depth == 0:
        kinds.append(_jump)
    return tape.pick(kinds)(tape, depth - 1, loop=loop, once=once)


def _cond(tape: Tape) -> Cond:
    return Cond(tape.pick(VARIABLES), tape.integer(-1, 6), tape.flag(), tape.flag())


def _failures(tape: Tape) -> int:
    return tape.pick((0,) * 14 + (1, 2, 3))


def _or_else(tape: Tape, depth: int, failures: int, **around: bool) -> tuple[int, Program | None]:
    """Now and then a step's failures, more often all its attempts, and what comes when it has given up."""
    if depth < 0 or tape.integer(0, 3):
        return failures, None
    body = _body(tape, depth, least=0, most=2, loop=around["loop"], once=around["once"])
    return tape.pick((failures, ATTEMPTS, ATTEMPTS)), body


def _do(tape: Tape, depth: int, **around: bool) -> Do:
    step = Do(tape.name("do"), tape.pick(VARIABLES), tape.integer(-1, 3), _failures(tape), tape.flag())
    failures, or_else = _or_else(tape, depth, step.failures, **around)
    return replace(step, failures=failures, or_else=or_else, hangs=failures > 0 and tape.integer(0, 3) == 1)


def _fetch(tape: Tape, depth: int, **around: bool) -> Fetch:
    variable = tape.pick((None, *VARIABLES))
    step = Fetch(tape.name("fetch"), variable, tape.integer(0, 5), _failures(tape), tape.flag())
    failures, or_else = _or_else(tape, depth, step.failures, **around)
    return replace(step, failures=failures, or_else=or_else, hangs=failures > 0 and tape.integer(0, 3) == 1)


def _until(tape: Tape, _depth: int, **_: bool) -> Until:
    return Until(tape.name("until"), _cond(tape), tape.pick((None, *VARIABLES)))


def _jump(tape: Tape, _depth: int, *, loop: bool, once: bool) -> Jump:
    del once
    jumps = ("break", "break", "continue", "continue", "return", "finish") if loop else ("return", "finish")
    return Jump(tape.pick(jumps), tape.pick(VARIABLES))


def _choose(tape: Tape, depth: int, *, loop: bool, once: bool) -> Choose:
    count, last = tape.integer(1, 3), tape.flag()
    branches: list[tuple[Cond | None, str, Program]] = [
        (_cond(tape), tape.name("if"), _body(tape, depth, loop=loop, once=once)) for _ in range(count)
    ]
    if last:
        branches.append((None, tape.name("else"), _body(tape, depth, loop=loop, once=once)))
    return Choose(tuple(branches), tape.flag())


def _loop(tape: Tape, depth: int, **_: bool) -> Loop:
    cond = _cond(tape) if tape.integer(0, 2) == 0 else None
    return Loop(tape.name("loop"), tape.integer(0, 3), cond, _body(tape, depth, loop=True, once=False))


def _await(tape: Tape, depth: int, *, loop: bool, once: bool) -> Await:
    events = []
    for _ in range(tape.integer(1, 3)):
        kind, variable, seconds = (
            tape.pick(("function", "handler", "timer")),
            tape.pick(VARIABLES),
            tape.integer(0, 20),
        )
        body = _body(tape, depth, loop=loop, once=once, least=0, most=2)
        events.append(Event(tape.name("event"), kind, variable, seconds, body))
    return Await(tape.name("wait"), tuple(events))


def _thread(tape: Tape, depth: int, *, loop: bool, once: bool) -> Thread:
    del loop
    ident = tape.pick((None, "x")) if once else None  # a thread with an id may run once at a time
    return Thread(tape.name("thread"), ident, _body(tape, depth, loop=False, once=once))


def _group(tape: Tape, depth: int, *, loop: bool, once: bool) -> Group:
    prefix = tape.name("scope") if tape.flag() else None
    return Group(prefix, _body(tape, depth, loop=loop, once=once))


def events_of(program: Program, prefix: str = "") -> list[tuple[str, str]]:
    """The full names and kinds of all events of a program."""
    found: list[tuple[str, str]] = []
    for node in program:
        match node:
            case Do() | Fetch():
                found += events_of(node.or_else or (), prefix)
            case Choose():
                for _, _, body in node.branches:
                    found += events_of(body, prefix)
            case Loop() | Thread():
                found += events_of(node.body, prefix)
            case Group():
                found += events_of(node.body, f"{prefix}{node.prefix}." if node.prefix else prefix)
            case Await():
                for event in node.events:
                    found.append((prefix + event.name, event.kind))
                    found += events_of(event.body, prefix)
            case _:
                pass
    return found


def sendable(program: Program) -> list[str]:
    """The events of a program that somebody may send."""
    return [name for name, kind in events_of(program) if kind != "timer"]


# -- on stepmark --------------------------------------------------------------------------------------


class World:
    """What outlives a crash: the program, and the effects that steps and handlers had."""

    program: ClassVar[Program] = ()
    effects: ClassVar[list[str]] = []
    hung: ClassVar[threading.Event] = threading.Event()  # a step hangs that nobody has given up on yet
    let_go: ClassVar[threading.Event] = threading.Event()
    hanging: ClassVar[list[threading.Thread]] = []

    @staticmethod
    def touch(what: str) -> None:
        """Every step and handler calls this where it has its effect; crash tests hook in here."""
        World.effects.append(what)

    @staticmethod
    def hang() -> None:
        """Go on only after the time-out, when the workflow has gone on too."""
        let_go = World.let_go
        World.hanging.append(threading.current_thread())
        World.hung.set()
        let_go.wait()

    @staticmethod
    def end_hanging() -> None:
        """Let the steps that hang do what they do after their time-out."""
        World.let_go.set()
        for thread in World.hanging:
            thread.join()
        World.let_go, World.hanging = threading.Event(), []


class Ticket(Handler[int, str]):
    """The Handler of a program."""

    def __init__(self, workflow: "Random", event: Event) -> None:
        self._workflow = workflow
        self._event = event

    def setup(self, request: Request[str]) -> str:
        World.touch(f"setup {request.event}")
        return f"ticket for {request.event}"

    def handle(self, request: Request[str], payload: int) -> int:
        assert request.setup_data == f"ticket for {request.event}"
        return self._workflow.receive(self._event, payload)

    def teardown(self, request: Request[str], handled: bool) -> None:
        assert request.setup_data in {None, f"ticket for {request.event}"}
        World.touch(f"teardown {request.event} {handled}")


@dataclass
class Random(Workflow):
    """Runs the program of World."""

    values: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VARIABLES, 0))
    field_value: int = 0
    trace: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(*self._body(World.program))

    def _body(self, program: Program) -> list[Statement]:
        return [statement for node in program for statement in self._statements(node)]

    def _cond(self, cond: Cond) -> Any:
        return partial(cond.holds, self.values) if cond.late else cond.holds(self.values)

    def _statements(self, node: Node) -> list[Statement]:
        match node:
            case Loop():
                return self._loop(node)
            case Do() | Fetch():
                return [self._step(node)]
            case Jump():
                bare: dict[str, Statement] = {"break": Break(), "continue": Continue(), "return": Return()}
                return [bare[node.kind] if node.kind in bare else Finish(self.values[node.variable])]
            case Until():
                handler = None if node.variable is None else partial(self._met, node)
                return [WaitFor(node.name, self._cond(node.cond), handler)]
            case _:
                return [self._block(node)]

    def _step(self, node: Do | Fetch) -> Statement:
        step = self._bare_step(node)
        return step if node.or_else is None else step.or_else("gave up", *self._body(node.or_else))

    def _bare_step(self, node: Do | Fetch) -> Step:
        timeout = TIMEOUT if node.hangs else None
        if isinstance(node, Do):
            run = self._do_async if node.is_async else self._do
            return Step(node.name, partial(run, node), retry=RETRY, timeout=timeout)
        action: Any = partial(self._fetch_async if node.is_async else self._fetch, node)
        into: Any = "field_value" if node.variable is None else partial(self._store, node)
        return Step(node.name, action, into=into, retry=RETRY, timeout=timeout)

    def _block(self, node: Choose | Await | Thread | Group) -> Statement:
        match node:
            case Choose():
                return self._choose(node)
            case Await():
                return Wait(node.name, *[self._on(event) for event in node.events])
            case Thread():
                return Go(node.name, *self._body(node.body), id=node.ident)
            case Group():
                body = self._body(node.body)
                return Section(*body) if node.prefix is None else Scope(node.prefix, *body)

    def _choose(self, node: Choose) -> Statement:
        first, *others = node.branches
        if node.switch:
            cases = [
                Default(name, *self._body(body))
                if cond is None
                else Case(self._cond(cond), name, *self._body(body))
                for cond, name, body in node.branches
            ]
            return Switch(*cases)
        cond, name, body = first
        assert cond is not None
        chosen = If(self._cond(cond), name, *self._body(body))
        for cond, name, body in others:
            if cond is None:
                chosen = chosen.else_(name, *self._body(body))
            else:
                chosen = chosen.elif_(self._cond(cond), name, *self._body(body))
        return chosen

    def _loop(self, node: Loop) -> list[Statement]:
        counter = f"rounds of {node.name}"
        going = self.values.get(counter, 0) < node.rounds and (
            node.cond is None or node.cond.holds(self.values)
        )
        return [
            Step(f"reset {node.name}", partial(self._set, counter, 0)),
            For(
                node.name,
                going,
                Step(f"count {node.name}", partial(self._count, counter)),
                *self._body(node.body),
            ),
        ]

    def _on(self, event: Event) -> On:
        if event.kind == "timer":
            return On(event.name, Timeout(seconds=event.seconds), *self._body(event.body))
        handler: Any = Ticket(self, event) if event.kind == "handler" else partial(self.receive, event)
        return On(event.name, handler, *self._body(event.body))

    def _note(self) -> None:
        self._trace()
        World.touch(current().statement)

    def _trace(self) -> None:
        """Note what runs, and for whose failure."""
        failure = current().failure
        after = "" if failure is None else f" after {failure.statement} {failure.type} {failure.message}"
        self.trace.append(current().statement + after)

    def _fail(self, node: Do | Fetch) -> None:
        if current().attempt > node.failures:
            return
        if not node.hangs:
            raise ConnectionError("as told")
        World.hang()
        self.values["a"] += 1000
        self.trace.append("too late")

    async def _fail_async(self, node: Do | Fetch) -> None:
        if node.hangs and current().attempt <= node.failures:
            World.hung.set()
            await asyncio.Event().wait()
        self._fail(node)

    def _do(self, node: Do) -> None:
        self._add(node)
        self._fail(node)

    async def _do_async(self, node: Do) -> None:
        self._add(node)
        await self._fail_async(node)

    def _add(self, node: Do) -> None:
        self.values[node.variable] += node.amount
        self._note()

    def _fetch(self, node: Fetch) -> int:
        World.touch(current().statement)
        self._fail(node)
        return node.amount

    async def _fetch_async(self, node: Fetch) -> int:
        World.touch(current().statement)
        await self._fail_async(node)
        return node.amount

    def _store(self, node: Fetch, result: int) -> None:
        assert node.variable is not None
        self.values[node.variable] += result
        self._trace()

    def _set(self, counter: str, value: int) -> None:
        self.values[counter] = value

    def _count(self, counter: str) -> None:
        self.values[counter] += 1

    def _met(self, node: Until) -> None:
        assert node.variable is not None
        self.values[node.variable] += 1
        self._note()

    def receive(self, event: Event, payload: int) -> int:
        self.values[event.variable] += payload
        self._note()
        return self.values[event.variable]
