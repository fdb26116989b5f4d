"""Programs as plain data, how Hypothesis makes them, and the workflow class that runs one on stepmark.

A program is a list of the tuples below; `oracle.py` runs the same data without stepmark.
"""

from dataclasses import dataclass, field
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

VARIABLES = ("a", "b", "c")
RETRY = Retry(attempts=3, first_delay=2.0, factor=2.0, jitter=0.0)


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
    """A step: adds to a variable. It fails on its first `failures` attempts."""

    name: str
    variable: str
    amount: int
    failures: int = 0
    is_async: bool = False


@dataclass(frozen=True)
class Fetch:
    """A step with `into`: what it returns goes into a variable, by a callable or by the field's name."""

    name: str
    variable: str | None
    amount: int
    failures: int = 0
    is_async: bool = False


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


# -- how Hypothesis makes them ------------------------------------------------------------------------


class _Names:
    """Names that no other statement of the program has."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"


conditions = st.builds(Cond, st.sampled_from(VARIABLES), st.integers(-1, 6), st.booleans(), st.booleans())
variables = st.sampled_from(VARIABLES)
failures = st.sampled_from((0,) * 14 + (1, 2, 3))


@st.composite
def programs(draw: st.DrawFn, depth: int = 3) -> Program:
    """A whole program."""
    return draw(_bodies(_Names(), depth, loop=False, once=True, least=3, most=6))


@st.composite
def _bodies(
    draw: st.DrawFn, names: _Names, depth: int, *, loop: bool, once: bool, least: int = 1, most: int = 4
) -> Program:
    count = draw(st.integers(least, most))
    return tuple(draw(_nodes(names, depth, loop=loop, once=once)) for _ in range(count))


@st.composite
def _nodes(draw: st.DrawFn, names: _Names, depth: int, *, loop: bool, once: bool) -> Node:
    kinds = ["do"] * 6 + ["fetch"] * 3
    if depth > 0:
        kinds += ["choose"] * 4 + ["loop"] * 4 + ["await"] * 4 + ["thread"] * 4 + ["group"] * 2 + ["until"]
    if loop or depth == 0:
        kinds += ["jump"]
    kind = draw(st.sampled_from(kinds))
    make: dict[str, Any] = {
        "choose": _choices,
        "loop": _loops,
        "await": _awaits,
        "thread": _threads,
        "group": _groups,
    }
    if kind in make:
        made: Node = draw(make[kind](names, depth - 1, loop=loop, once=once))
        return made
    if kind == "do":
        return Do(names("do"), draw(variables), draw(st.integers(-1, 3)), draw(failures), draw(st.booleans()))
    if kind == "fetch":
        variable = draw(st.none() | variables)
        return Fetch(names("fetch"), variable, draw(st.integers(0, 5)), draw(failures), draw(st.booleans()))
    if kind == "until":
        return Until(names("until"), draw(conditions), draw(st.none() | variables))
    jumps = ("break", "break", "continue", "continue", "return", "finish") if loop else ("return", "finish")
    return Jump(draw(st.sampled_from(jumps)), draw(variables))


@st.composite
def _choices(draw: st.DrawFn, names: _Names, depth: int, *, loop: bool, once: bool) -> Choose:
    inner = _bodies(names, depth, loop=loop, once=once)
    branches: list[tuple[Cond | None, str, Program]] = [
        (draw(conditions), names("if"), draw(inner)) for _ in range(draw(st.integers(1, 3)))
    ]
    if draw(st.booleans()):
        branches.append((None, names("else"), draw(inner)))
    return Choose(tuple(branches), draw(st.booleans()))


@st.composite
def _loops(draw: st.DrawFn, names: _Names, depth: int, *, loop: bool, once: bool) -> Loop:
    del loop, once
    body = draw(_bodies(names, depth, loop=True, once=False))
    return Loop(names("loop"), draw(st.integers(0, 3)), draw(st.none() | st.none() | conditions), body)


@st.composite
def _awaits(draw: st.DrawFn, names: _Names, depth: int, *, loop: bool, once: bool) -> Await:
    events = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(("function", "handler", "timer")))
        body = draw(_bodies(names, depth, loop=loop, once=once, least=0, most=2))
        events.append(Event(names("event"), kind, draw(variables), draw(st.integers(0, 20)), body))
    return Await(names("wait"), tuple(events))


@st.composite
def _threads(draw: st.DrawFn, names: _Names, depth: int, *, loop: bool, once: bool) -> Thread:
    del loop
    ident = draw(st.sampled_from((None, "x"))) if once else None  # a thread with an id may run once at a time
    return Thread(names("thread"), ident, draw(_bodies(names, depth, loop=False, once=once)))


@st.composite
def _groups(draw: st.DrawFn, names: _Names, depth: int, *, loop: bool, once: bool) -> Group:
    prefix = names("scope") if draw(st.booleans()) else None
    return Group(prefix, draw(_bodies(names, depth, loop=loop, once=once)))


def events_of(program: Program, prefix: str = "") -> list[tuple[str, str]]:
    """The full names and kinds of all events of a program."""
    found: list[tuple[str, str]] = []
    for node in program:
        match node:
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

    @staticmethod
    def touch(what: str) -> None:
        """Every step and handler calls this where it has its effect; crash tests hook in here."""
        World.effects.append(what)


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
        if isinstance(node, Do):
            return Step(node.name, partial(self._do_async if node.is_async else self._do, node), retry=RETRY)
        action: Any = partial(self._fetch_async if node.is_async else self._fetch, node)
        into: Any = "field_value" if node.variable is None else partial(self._store, node)
        return Step(node.name, action, into=into, retry=RETRY)

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
        self.trace.append(current().statement)
        World.touch(current().statement)

    def _fail(self, node: Do | Fetch) -> None:
        if current().attempt <= node.failures:
            raise ConnectionError("as told")

    def _do(self, node: Do) -> None:
        self.values[node.variable] += node.amount
        self._note()
        self._fail(node)

    async def _do_async(self, node: Do) -> None:
        self._do(node)

    def _fetch(self, node: Fetch) -> int:
        World.touch(current().statement)
        self._fail(node)
        return node.amount

    async def _fetch_async(self, node: Fetch) -> int:
        return self._fetch(node)

    def _store(self, node: Fetch, result: int) -> None:
        assert node.variable is not None
        self.values[node.variable] += result
        self.trace.append(current().statement)

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
