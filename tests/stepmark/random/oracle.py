"""What a program must do, in plain Python: one generator per thread, and a list for whose turn it is.

Shares nothing with the engine: no trees, no positions, no commits. A generator runs on until it must be
given a turn; `yield` says what it waits for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.stepmark.random.programs import (
    ATTEMPTS,
    Action,
    Await,
    Choose,
    Cond,
    Do,
    Event,
    Fetch,
    Group,
    Jump,
    Loop,
    Mend,
    Node,
    Pass,
    Program,
    Send,
    Thread,
    Until,
)

DELAYS = (2, 4)  # seconds before the second and the third attempt


class BreakLoop(Exception):
    pass


class ContinueLoop(Exception):
    pass


class EndThread(Exception):
    pass


class EndWorkflow(Exception):
    def __init__(self, result: int) -> None:
        self.result = result


@dataclass(frozen=True)
class Around:
    """What a statement stands in: the prefixes of its Scopes, and what it comes after."""

    prefix: str = ""
    after: str = ""

    def within(self, prefix: str) -> "Around":
        return replace(self, prefix=f"{self.prefix}{prefix}.")

    def traced(self, name: str) -> str:
        """What a statement notes that runs here."""
        return self.prefix + name + (f" after {self.after}" if self.after else "")


@dataclass
class Turn:
    """What a thread needs to go on: whether it can now, what it then does, how often that fails first.

    or_else: where it goes when all attempts have failed; gave_up: they have.
    """

    name: str
    ready: Callable[[], bool]
    act: Callable[[], None]
    failures: int = 0
    waits: "Waiting | None" = None
    alongside: bool = False
    or_else: Program | None = None
    gave_up: bool = False


@dataclass
class Waiting:
    """The events a thread waits for, in the order of its Wait."""

    events: list[tuple[str, Event]]
    deadlines: dict[str, float]
    set_up: dict[str, bool]
    winner: tuple[str, int] | None = None


@dataclass
class Strand:
    """One thread."""

    name: str
    run: Iterator[Turn]
    turn: Turn | None = None
    failures: int = 0
    retry_at: float = 0.0
    parked: bool = False


@dataclass
class Oracle:
    """Runs a program against a schedule.

    in_the_air: a Fetch ends when nothing else can go on; of several, the one of the first thread by name.
    """

    program: Program
    now: float = 0.0
    in_the_air: bool = False
    values: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0, "c": 0})
    field_value: int = 0
    trace: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)
    mailbox: list[tuple[str, int, float, str]] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)
    strands: list[Strand] = field(default_factory=list)
    finished: bool = False
    result: int | None = None

    # -- what comes from outside ----------------------------------------------------------------------

    def start(self) -> None:
        try:
            self._spawn("main", self.program, Around())
        except EndWorkflow as end:
            self.finished, self.result = True, end.result
            self.strands.clear()
            return
        self.finished = not self.strands
        self._settle()

    def do(self, action: Action, number: int) -> Any:
        """One action of the schedule; the output of a Send, or "closed"."""
        match action:
            case Send():
                if self.finished:
                    return "closed"
                self.mailbox.append((action.event, action.payload, self.now, f"e{number}"))
                self._settle()
                return self.outputs.get(f"e{number}")
            case Pass():
                self._advance(self.now + action.seconds)
            case Mend():
                for strand in self.strands:
                    strand.failures, strand.retry_at, strand.parked = 0, 0.0, False
                self._settle()
        return None

    def _advance(self, until: float) -> None:
        while True:
            times = [
                time for strand in self.strands for time in self._times(strand) if self.now < time <= until
            ]
            if not times or self.finished:
                break
            self.now = min(times)
            self._settle()
        self.now = until

    def _times(self, strand: Strand) -> list[float]:
        if strand.parked:
            return []
        waits = strand.turn.waits if strand.turn else None
        return [strand.retry_at, *(waits.deadlines.values() if waits else ())]

    @property
    def status(self) -> str:
        if self.finished:
            return "FINISHED"
        if any(strand.parked for strand in self.strands):
            return "PARKED"
        return "RUNNING" if any(strand.retry_at > self.now for strand in self.strands) else "WAITING"

    def positions(self) -> dict[str, str]:
        return {strand.name: strand.turn.name for strand in self.strands if strand.turn}

    def awaited(self) -> list[str]:
        """The events that would be handled at once."""
        waits = [strand.turn.waits for strand in self.strands if strand.turn and strand.turn.waits]
        return [name for each in waits for name, event in each.events if event.kind != "timer"]

    # -- whose turn it is -----------------------------------------------------------------------------

    def _settle(self) -> None:
        while not self.finished:
            able = [each for each in self.strands if self._can_go(each)]
            flying = [each for each in able if self.in_the_air and each.turn and each.turn.alongside]
            on_the_ground = [each for each in able if each not in flying]
            if not able:
                return
            self._serve(on_the_ground[0] if on_the_ground else min(flying, key=lambda each: each.name))

    def _can_go(self, strand: Strand) -> bool:
        assert strand.turn is not None
        return not strand.parked and strand.retry_at <= self.now and strand.turn.ready()

    def _serve(self, strand: Strand) -> None:
        assert strand.turn is not None
        self.strands.remove(strand)
        self.strands.append(strand)
        if strand.failures < strand.turn.failures:
            strand.failures += 1
            if strand.failures < ATTEMPTS:
                strand.retry_at = self.now + DELAYS[strand.failures - 1]
                return
            if strand.turn.or_else is None:
                strand.parked = True
                return
            strand.turn.gave_up = True
        else:
            strand.turn.act()
        strand.failures, strand.retry_at = 0, 0.0
        over = strand.turn.waits if strand.turn.waits and strand.turn.waits.winner else None
        try:
            self._go_on(strand)
        except EndWorkflow as end:
            self._tear_down(over)
            for other in self.strands:
                if other is not strand and other.turn:
                    self._tear_down(other.turn.waits)
            self.finished, self.result = True, end.result
            self.strands.clear()
            return
        self._tear_down(over)
        if not self.strands:
            self.finished = True

    def _go_on(self, strand: Strand) -> None:
        try:
            strand.turn = next(strand.run)
        except (StopIteration, EndThread):
            strand.turn = None
            self.strands.remove(strand)

    def _tear_down(self, waits: Waiting | None) -> None:
        if waits is not None:
            for name, done in waits.set_up.items():
                if done:
                    self.handlers.append(f"teardown {name} {bool(waits.winner and waits.winner[0] == name)}")

    def _spawn(self, name: str, program: Program, around: Around) -> None:
        taken = {strand.name for strand in self.strands}
        chosen, number = name, 1
        while chosen in taken:
            number += 1
            chosen = f"{name}#{number}"
        strand = Strand(chosen, self._body(program, around))
        self.strands.append(strand)
        self._go_on(strand)

    # -- what the statements do -----------------------------------------------------------------------

    def _body(self, program: Program, around: Around) -> Iterator[Turn]:
        for node in program:
            if isinstance(node, Thread):
                name = around.prefix + node.name
                self._spawn(name if node.ident is None else f"{name}[{node.ident}]", node.body, around)
            else:
                yield from self._statement(node, around)

    def _statement(self, node: Node, around: Around) -> Iterator[Turn]:
        match node:
            case Do() | Fetch():
                turn = self._step(around, node) if isinstance(node, Do) else self._fetch(around, node)
                turn.or_else = node.or_else
                yield turn
                if turn.gave_up:
                    error = (
                        "StepTimedOut it took longer than 3600 s" if node.hangs else "ConnectionError as told"
                    )
                    yield from self._body(turn.or_else or (), replace(around, after=f"{turn.name} {error}"))
            case Choose():
                chosen = (body for cond, _, body in node.branches if cond is None or self._holds(cond))
                yield from self._body(next(chosen, ()), around)
            case Loop():
                yield from self._loop(node, around)
            case Await():
                yield from self._await(node, around)
            case Until():
                if node.variable is not None or not self._holds(node.cond):
                    yield self._until(around, node)
            case Group():
                yield from self._body(node.body, around.within(node.prefix) if node.prefix else around)
            case Jump():
                self._jump(node)

    def _jump(self, node: Jump) -> None:
        match node.kind:
            case "break":
                raise BreakLoop
            case "continue":
                raise ContinueLoop
            case "return":
                raise EndThread
            case _:
                raise EndWorkflow(self.values[node.variable])

    def _holds(self, cond: Cond) -> bool:
        return (self.values[cond.variable] < cond.bound) is cond.below

    def _step(self, around: Around, node: Do) -> Turn:
        def act() -> None:
            self.values[node.variable] += node.amount
            self.trace.append(around.traced(node.name))

        return Turn(around.prefix + node.name, lambda: True, act, node.failures)

    def _fetch(self, around: Around, node: Fetch) -> Turn:
        def act() -> None:
            if node.variable is None:
                self.field_value = node.amount
            else:
                self.values[node.variable] += node.amount
                self.trace.append(around.traced(node.name))

        return Turn(around.prefix + node.name, lambda: True, act, node.failures, alongside=True)

    def _loop(self, node: Loop, around: Around) -> Iterator[Turn]:
        counter = f"rounds of {node.name}"

        def reset() -> None:
            self.values[counter] = 0

        def count() -> None:
            self.values[counter] += 1

        yield Turn(f"{around.prefix}reset {node.name}", lambda: True, reset)
        while self.values[counter] < node.rounds and (node.cond is None or self._holds(node.cond)):
            yield Turn(f"{around.prefix}count {node.name}", lambda: True, count)
            try:
                yield from self._body(node.body, around)
            except BreakLoop:
                break
            except ContinueLoop:
                continue

    def _until(self, around: Around, node: Until) -> Turn:
        def act() -> None:
            if node.variable is not None:
                self.values[node.variable] += 1
                self.trace.append(around.traced(node.name))

        return Turn(around.prefix + node.name, lambda: self._holds(node.cond), act)

    def _await(self, node: Await, around: Around) -> Iterator[Turn]:
        events = [(around.prefix + event.name, event) for event in node.events]
        deadlines = {name: self.now + event.seconds for name, event in events if event.kind == "timer"}
        waits = Waiting(events, deadlines, {name: False for name, event in events if event.kind == "handler"})
        for name in waits.set_up:

            def set_up(name: str = name) -> None:
                self.handlers.append(f"setup {name}")
                waits.set_up[name] = True

            yield Turn(around.prefix + node.name, lambda: True, set_up, waits=waits)
        yield Turn(
            around.prefix + node.name,
            lambda: self._winner(waits) is not None,
            lambda: self._win(waits, around),
            waits=waits,
        )
        assert waits.winner is not None
        won = next(event for name, event in events if name == waits.winner[0])
        yield from self._body(won.body, around)

    def _winner(self, waits: Waiting) -> tuple[str, int] | None:
        """The name of what came first, and its place in the mailbox (-1 for a timer)."""
        came: list[tuple[float, int, int, str]] = []
        for order, (name, event) in enumerate(waits.events):
            if event.kind == "timer":
                if waits.deadlines[name] <= self.now:
                    came.append((waits.deadlines[name], 1_000_000, order, name))
            else:
                came += [
                    (at, place, 0, name)
                    for place, (sent, _, at, _) in enumerate(self.mailbox)
                    if sent == name
                ]
        if not came:
            return None
        _, place, _, name = min(came)
        return name, -1 if place == 1_000_000 else place

    def _win(self, waits: Waiting, around: Around) -> None:
        waits.winner = self._winner(waits)
        assert waits.winner is not None
        name, place = waits.winner
        if place >= 0:
            event = next(event for known, event in waits.events if known == name)
            _, payload, _, event_id = self.mailbox.pop(place)
            self.values[event.variable] += payload
            self.trace.append(around.traced(event.name))
            self.outputs[event_id] = self.values[event.variable]
