"""Guarantees 11 and 12: definitions are checked, described and drawn."""

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Required, TypedDict
from uuid import UUID

import pytest
from pydantic import BaseModel, Field
from stepmark import (
    Break,
    Case,
    Continue,
    Default,
    DefinitionError,
    Engine,
    Finish,
    For,
    Go,
    Handler,
    If,
    MemoryStore,
    On,
    Request,
    Retry,
    Return,
    Scope,
    Section,
    Statement,
    Status,
    Step,
    Switch,
    Timeout,
    Wait,
    WaitFor,
    Workflow,
    check,
    describe,
    to_mermaid,
)
from stepmark.core.sample_state import sample_state
from stepmark.testing import LocalEngine

from tests.stepmark.support import Task, engine_on


def do() -> None:
    """Stands for a step's action."""


class Odd:
    pass


def on_odd(payload: Odd) -> None: ...


def step(name: str) -> Step:
    return Step(name, do)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "two steps of one name": (lambda: Section(step("a"), step("a")), "duplicate name 'a'"),
    "a step and a wait of one name": (
        lambda: Section(step("a"), Wait("a", On("e", None))),
        "duplicate name 'a'",
    ),
    "one name in two threads": (lambda: Section(step("a"), Go("t", step("a"))), "duplicate name 'a'"),
    "two branches of one name": (
        lambda: Section(If(True, "b", step("x")).elif_(True, "b", step("y"))),
        "duplicate name 'b'",
    ),
    "two threads of one name": (
        lambda: Section(Go("t", step("x")), Go("t", step("y"))),
        "duplicate name 't'",
    ),
    "one name twice in a thread written twice": (
        lambda: Section(Go("t", step("x"), id=1), Go("t", step("x"), step("x"), id=2)),
        "duplicate name 'x'",
    ),
    "two events of one name": (
        lambda: Section(Wait("w", On("e", None), On("e", None))),
        "duplicate name 'e'",
    ),
    "an alias that is another's name": (
        lambda: Section(step("a"), Step("b", do, aliases=("a",))),
        "duplicate name 'a'",
    ),
    "a scope used twice with one prefix": (
        lambda: Section(Scope("s", step("a")), Scope("s", step("a"))),
        "duplicate name 's.a'",
    ),
    "an event that is waited for nowhere": (
        lambda: Section(step("a"), On("e", None)),
        "'e' is waited for nowhere",
    ),
    "a wait for nothing": (lambda: Section(Wait("w")), "'w' waits for no event"),
    "a loop that can never change": (lambda: Section(For("l", True)), "'l' can never change"),
    "a loop with only a thread": (
        lambda: Section(For("l", True, Go("t", step("a")))),
        "'l' can never change",
    ),
    "a loop with only conditions": (
        lambda: Section(For("l", True, If(True, "b", Continue()))),
        "'l' can never change",
    ),
    "a break outside a loop": (lambda: Section(If(True, "here", Break())), "Break outside a loop in 'here'"),
    "a continue outside a loop": (lambda: Section(Continue()), "Continue outside a loop"),
    "a break out of a thread": (
        lambda: Section(For("l", True, step("a"), Go("t", step("b"), Break()))),
        "Break outside a loop in 't'",
    ),
    "a case alone": (lambda: Section(Case(True, "c", step("a"))), "'c' stands alone"),
    "a default that is not last": (
        lambda: Section(Switch(Default("d"), Case(True, "c", step("a")))),
        "Default 'd' must be the last",
    ),
    "a switch without a case": (
        lambda: Section(For("f", True, Switch(), step("a"))),
        "a Switch in 'f' has no case",
    ),
    "a thread and a step beside it": (lambda: Section(Go("t", step("x")), step("t")), "duplicate name 't'"),
    "an empty name": (lambda: Section(step("")), "a Step has an empty name"),
    "a thread called main": (lambda: Section(Go("main", step("a"))), "'main'"),
    "a step that was called": (lambda: Section(Step("a", do())), "'a'"),  # type: ignore[func-returns-value,call-overload]
    "a handler class": (lambda: Section(Wait("w", On("e", Task))), "'e'"),
    "a handler with two parameters": (
        lambda: Section(Wait("w", On("e", operator.add))),  # type: ignore[arg-type]
        "one payload",
    ),
    "a payload nobody can check": (lambda: Section(Wait("w", On("e", on_odd))), "Odd"),
    "no statement": (lambda: Section(None), "Section takes statements, not None"),  # type: ignore[arg-type]
    "something after else": (
        lambda: Section(If(True, "a").else_("b").elif_(True, "c")),
        "'c' comes after .else_()",
    ),
    "no section": (lambda: step("a"), "Section"),
    "a name that is no string": (lambda: Section(Step(5, do)), "strings"),  # type: ignore[call-overload]
    "a name that is half a surrogate pair": (lambda: Section(step("\ud83d")), "strings"),
    "aliases that are a list": (lambda: Section(Step("a", do, aliases=["b"])), "tuple"),  # type: ignore[call-overload]
}


@dataclass
class Given(Workflow):
    how: str = ""

    def definition(self) -> Section:
        section: Section = WRONG[self.how][0]()
        return section


@pytest.mark.parametrize("how", WRONG)
def test_guarantee_11_a_wrong_definition_is_refused_with_the_statement_named(how: str) -> None:
    engine = LocalEngine(Given)
    with pytest.raises(DefinitionError) as raised:
        engine.start(Given(how), workflow_id="1")
    assert WRONG[how][1] in str(raised.value)
    assert engine.store.load("1") is None


class OneArgument(Handler[str, None]):
    def handle(self, request: Request[None]) -> None: ...  # type: ignore[override] # what is wrong with it


class BadRetry(Task):
    retry = 3  # type: ignore[assignment] # what is wrong with it


# each stands for a good statement of the same name in the definition below
SPOILED: dict[str, tuple[dict[str, Any], str]] = {
    "a step that was called": ({"action": None}, "its action must be callable"),
    "a field that is not there": ({"into": "nope"}, "into='nope' is no field of the state; it has: 'found'"),
    "a result that goes nowhere": ({"into": 5}, "into must be a field's name or a callable"),
    "a number for a Retry": ({"retry": 3}, "retry must be a Retry"),
    "a number for a handler": ({"handler": 5}, "event 'e': its handler must be a callable"),
    "a handler with two parameters": ({"handler": operator.add}, "one payload"),
    "a Handler that takes no payload": (
        {"handler": OneArgument()},
        "OneArgument.handle must take a request and a payload",
    ),
    "a Handler with a number for a Retry": ({"handler": BadRetry()}, "retry must be a Retry"),
    "a payload nobody can check": ({"handler": on_odd}, "Odd"),
    "a condition's handler that was called": ({"met": 5}, "its handler must be callable"),
}


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("good_first", [True, False])
def test_guarantee_11_what_is_wrong_is_found_whatever_was_built_before(how: str, good_first: bool) -> None:
    wrong: dict[str, Any] = {}

    @dataclass
    class Fields(Workflow):
        found: str = ""

        def definition(self) -> Section:
            given: Any = {
                "action": str,
                "into": "found",
                "retry": Retry(),
                "handler": None,
                "met": None,
            } | wrong
            return Section(
                Step("s", given["action"], into=given["into"], retry=given["retry"]),
                Wait("w", On("e", given["handler"])),
                WaitFor("f", self.found == "", given["met"]),
            )

    if good_first:
        assert LocalEngine(Fields).start(Fields()).status is Status.WAITING
    wrong.update(SPOILED[how][0])
    with pytest.raises(DefinitionError) as raised:
        LocalEngine(Fields).start(Fields())
    assert SPOILED[how][1] in str(raised.value)


def test_guarantee_11_the_fields_of_one_class_say_nothing_of_another_with_the_same_statements() -> None:
    @dataclass
    class Has(Workflow):
        found: str = ""

        def definition(self) -> Section:
            return Section(Step("s", str, into="found"))

    @dataclass
    class HasNot(Workflow):
        definition = Has.definition

    assert LocalEngine(Has).start(Has()).status is Status.FINISHED
    with pytest.raises(DefinitionError, match="it has: none"):
        LocalEngine(HasNot).start(HasNot())


def test_branches_of_one_name_may_stand_in_several_places_for_no_thread_is_ever_there() -> None:
    tree = Section(
        If(True, "yes", step("a")).else_("otherwise", step("b")),
        If(True, "yes", step("c")).else_("otherwise", step("otherwise")),
    )
    assert check(tree, []) == []
    with pytest.raises(DefinitionError, match="one Switch has two branches"):
        check(Section(Switch(Case(True, "c"), Default("c"))), [])


@dataclass
class Stuck(Workflow):
    going: bool = True

    def definition(self) -> Section:
        return Section(
            step("first"), For("for ever", self.going, If(not self.going, "never", step("inside")))
        )


def test_guarantee_11_a_loop_that_goes_round_without_a_step_is_named_when_it_happens() -> None:
    snapshot = LocalEngine(Stuck).start(Stuck())
    assert snapshot.status is Status.PARKED
    assert "loop 'for ever' went round without running a step" in str(snapshot.error)


@dataclass
class Raising(Workflow):
    count: int = 0

    def definition(self) -> Section:
        if self.count == 1:
            raise LookupError("no such thing")
        return Section(Step("add", self.add), Step("after", self.add))

    def add(self) -> None:
        self.count += 1


def test_guarantee_11_a_definition_that_raises_parks_with_the_exception_and_changes_nothing() -> None:
    snapshot = LocalEngine(Raising).start(Raising())
    assert snapshot.status is Status.PARKED
    assert snapshot.state.count == 0
    assert snapshot.threads["main"].at == "add"
    assert "LookupError: no such thing" in str(snapshot.error)
    with pytest.raises(DefinitionError, match="no such thing"):
        LocalEngine(Raising).start(Raising(count=1))


@dataclass
class LateCondition(Workflow):
    customer: dict[str, str] | None = None
    greeted: bool = False

    def definition(self) -> Section:
        return Section(
            Step("look up", self.look_up),
            If(lambda: self.known()["vip"] == "yes", "vip", Step("greet", self.greet)),
        )

    def known(self) -> dict[str, str]:
        assert self.customer is not None
        return self.customer

    def look_up(self) -> None:
        self.customer = {"vip": "yes"}

    def greet(self) -> None:
        self.greeted = True


def test_a_condition_may_be_a_callable_for_what_an_earlier_step_provides() -> None:
    assert LocalEngine(LateCondition).start(LateCondition()).state.greeted


def test_a_definition_that_raises_after_a_deploy_parks_when_an_event_comes() -> None:
    @dataclass
    class Sound(Workflow, name="deployed"):
        def definition(self) -> Section:
            return Section(Wait("w", On("e", None)))

    @dataclass
    class Raising(Workflow, name="deployed"):
        def definition(self) -> Section:
            raise ValueError("kaput")

    old = LocalEngine(Sound)
    old.start(Sound(), workflow_id="1")
    new = Engine([Raising], store=old.store, clock=old.clock)
    with pytest.raises(DefinitionError, match="kaput"):
        new.callback("1", "e")
    snapshot = new.get("1")
    assert snapshot.status is Status.PARKED
    assert "ValueError: kaput" in str(snapshot.error)
    assert old.retry("1").waiting_for == ["e"]  # nothing has changed but that


def test_a_thread_may_be_called_what_a_statement_of_its_own_is_called() -> None:
    @dataclass
    class Alike(Workflow):
        alpha: int = 0
        beta: int = 0

        def definition(self) -> Section:
            return Section(
                Go("alpha", Step("alpha", lambda: 1, into="alpha"), Wait("hold", On("go", None))),
                Go("beta", Step("beta", lambda: 2, into="beta")),
            )

    engine = LocalEngine(Alike)
    snapshot = engine.start(Alike(), workflow_id="1")
    assert (snapshot.state.alpha, snapshot.state.beta) == (1, 2)
    assert check(Alike, [snapshot]) == []
    assert "alpha" in to_mermaid(Alike, snapshot)
    assert engine.move("1", "alpha", "alpha").threads["alpha"].at == "hold"
    engine.callback("1", "go", thread="alpha")
    assert engine.get("1").status is Status.FINISHED


def test_a_condition_that_raises_parks_with_the_exception() -> None:
    @dataclass
    class BadCondition(Workflow):
        def definition(self) -> Section:
            return Section(step("first"), If(lambda: bool(1 / 0), "never", step("inside")))

    snapshot = LocalEngine(BadCondition).start(BadCondition())
    assert snapshot.status is Status.PARKED
    assert "ZeroDivisionError" in str(snapshot.error)


class Kind(Enum):
    A = "a"


class Address(BaseModel):
    city: str = "Paris"


@dataclass
class Answer:
    approved: bool
    until: date | None = None


@dataclass
class Full(Workflow, name="full"):
    """Every statement, with fields that have no default."""

    user: str
    kind: Kind
    address: Address
    maybe: int | None
    either: int | str
    since: date
    level: Literal["low", "high"]
    answer: "Answer"
    when: date = date(2026, 11, 21)
    tags: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Step("a", self.do, into="user", aliases=("old a",)),
            If(self.user == "", "nobody", Finish("no user")).else_("somebody", step("b")),
            Switch(Case(True, "one", step("c")), Default("others", Return())),
            For("loop", self.user != "", step("d"), If(True, "out", Break()), Continue()),
            Wait(
                "wait",
                On("answer", self.on_answer, step("e")),
                On("late", Timeout(hours=1), Finish()),
                On("task", Task()),
                On("nothing", None),
            ),
            WaitFor("state", self.user != ""),
            Go("thread", step("f"), id="x"),
            Scope("scope", step("g"), Wait("h", On("again", self.on_answer))),
        )

    def do(self) -> str:
        return ""

    def on_answer(self, answer: Answer) -> None: ...


def test_guarantee_12_describe_gives_the_tree_with_each_events_json_schema() -> None:
    described = json.loads(json.dumps(describe(Full)))
    assert described["workflow"] == "full"
    fields = "user kind address maybe either since level answer when tags"
    assert set(described["state"]["properties"]) == set(fields.split())
    kinds = [statement["kind"] for statement in described["statements"]]
    assert kinds == ["Step", "If", "Switch", "For", "Wait", "WaitFor", "Go", "Scope"]
    answer, late, task, nothing = described["statements"][4]["events"]
    assert answer["name"] == "answer"
    assert answer["payload"]["required"] == ["approved"]
    assert answer["payload"]["properties"]["approved"]["type"] == "boolean"
    assert late["timeoutSeconds"] == 3600
    assert task["handler"] == "Task"
    assert task["payload"] == {"type": "string"}
    assert nothing["payload"] == {"type": "null"}
    assert described["statements"][0]["into"] == "user"
    assert described["statements"][0]["aliases"] == ["old a"]
    inner = described["statements"][7]["statements"]
    assert [statement["name"] for statement in inner] == ["scope.g", "scope.h"]
    assert inner[1]["events"][0]["name"] == "scope.again"


def test_guarantee_12_describe_tells_the_branch_that_is_taken_when_no_other_is() -> None:
    described = describe(
        Section(
            If(True, "a").elif_(True, "b"),
            If(True, "c").else_("d"),
            Switch(Case(True, "e"), Default("f")),
            Switch(Case(True, "g"), Case(True, "h")),
        )
    )
    branches = [(each["name"], each["kind"]) for one in described["statements"] for each in one["branches"]]
    assert branches == [
        *[("a", "Case"), ("b", "Case")],
        *[("c", "Case"), ("d", "Default")],
        *[("e", "Case"), ("f", "Default")],
        *[("g", "Case"), ("h", "Case")],
    ]


def test_guarantee_12_describe_takes_an_object_or_a_section_too() -> None:
    state = Full("x", Kind.A, Address(), None, 1, date.min, "low", Answer(approved=True))
    assert describe(state) == describe(Full)
    assert describe(Section(step("a"))) == {"statements": [{"kind": "Step", "name": "a", "action": "do"}]}


@dataclass
class Line:
    item: str
    price: Decimal
    until: datetime
    size: tuple[int, str]
    back: "Line"
    count: int = 3

    def __post_init__(self) -> None:
        raise AssertionError("blank values are not for it")


class Place(BaseModel):
    city: str
    lines: list[Line]
    line: Line
    zip: int = 75000


class Point(NamedTuple):
    x: int
    y: float


class Size(TypedDict):
    width: Required[int]
    height: NotRequired[int]


type Ident = UUID
Number = NewType("Number", int)


@dataclass
class Demanding(Workflow):
    """Conditions on everything that a field without a default may hold."""

    place: Place
    line: Line
    point: Point
    size: Size
    when: datetime
    at: time
    day: date
    ident: Ident
    number: Number
    limited: Annotated[int, Field(gt=5)]
    level: Literal["low", "high"]
    maybe: Line | None
    either: Line | int
    counts: dict[str, int]
    seconds: timedelta = timedelta(1)

    def definition(self) -> Section:
        same = (
            (self.place.city, self.place.zip, self.place.lines, self.place.line.price, self.line.back),
            (self.line.until.year, self.line.size, self.line.count, self.either, self.maybe),
            (self.point, self.size, self.when.tzinfo, self.at.hour, self.day, self.ident, self.number),
        )
        if self.counts:
            return Section()
        return Section(
            If(same[0][1] == 75000 and self.limited < 5 and self.when > Y1999, self.level, step("a"))
        )


Y1999 = datetime(1999, 1, 1, tzinfo=UTC)


def test_guarantee_12_fields_without_a_default_are_blank_in_depth_and_always_the_same() -> None:
    state: Any = sample_state(Demanding)
    assert (state.place.city, state.place.zip, state.place.lines) == ("", 75000, [])
    assert (state.line.item, state.line.price, state.line.count) == ("", Decimal(0), 3)
    assert state.line.back is None
    assert state.line.until == state.when == datetime(2000, 1, 1, tzinfo=UTC)
    assert (state.line.size, state.point, state.size) == ((0, ""), (0, 0.0), {"width": 0})
    assert (state.ident, state.number, state.limited, state.level) == (UUID(int=0), 0, 0, "low")
    assert (state.maybe, state.either.item, state.counts, state.at) == (None, "", {}, time())
    assert describe(Demanding)["statements"][0]["branches"][0]["name"] == "low"
    assert '"low"' in to_mermaid(Demanding)
    assert check(Demanding, []) == []


def test_guarantee_12_the_diagram_has_every_statement_and_marks_the_live_position() -> None:
    drawn = to_mermaid(Full)
    assert drawn.startswith("flowchart TD\n")
    for name in ("a", "b", "c", "d", "wait", "e", "state", "scope.g", "scope.h", "loop", "finish: no user"):
        assert f'"{name}"' in drawn
    for label in (
        "nobody",
        "somebody",
        "one",
        "others",
        "answer",
        "late (3600 s)",
        "out",
        "again",
        "in parallel",
    ):
        assert f'"{label}"' in drawn
    assert " live" not in drawn

    @dataclass
    class Live(Workflow):
        def definition(self) -> Section:
            return Section(Go("t", Wait("there", On("x", None))), Wait('the "here" & <now>', On("y", None)))

    engine = LocalEngine(Live)
    drawn = to_mermaid(Live, engine.start(Live(), workflow_id="1"))
    assert drawn.count(" live\n") == 2
    assert "the &quot;here&quot; &amp; &lt;now&gt;" in drawn


def test_guarantee_12_the_diagram_of_a_snapshot_is_that_of_its_state() -> None:
    @dataclass
    class Grows(Workflow):
        names: list[str] = field(default_factory=list)
        broken: bool = False

        def definition(self) -> Section:
            if self.broken:
                raise LookupError("no tree for this state")
            return Section(
                *[Go(f"for {name}", Wait(f"for {name}'s answer", On("answer", None))) for name in self.names],
                Wait("for the end", On("end", None)),
            )

    engine = LocalEngine(Grows)
    snapshot = engine.start(Grows(["ada"]), workflow_id="1")
    drawn = to_mermaid(Grows, snapshot)
    assert drawn.count(" live\n") == 2
    assert '"for ada\'s answer"' in drawn
    assert drawn == to_mermaid(snapshot.state, snapshot)
    snapshot.state.broken = True
    assert to_mermaid(Grows, snapshot).count(" live\n") == 1  # as far as the class alone goes


def test_guarantee_12_no_name_can_break_a_diagram() -> None:
    name = 'a "b"\n<c> & d'
    drawn = to_mermaid(Section(step(name), If(True, name, Wait("w", On(name, None, step("next"))))))
    assert drawn.count('"a &quot;b&quot;<br>&lt;c&gt; &amp; d"') == 3
    assert len(drawn.splitlines()) == len(
        to_mermaid(Section(step("n"), If(True, "b", Wait("w", On("e", None, step("next")))))).splitlines()
    )


def _dangling(drawn: str) -> set[str]:
    """The ends of arrows, of either side, that are no node."""
    lines = drawn.splitlines()[1:]
    nodes = {re.split(r"[\[{(]", line.strip())[0] for line in lines if "--" not in line}
    arrows = [line.strip() for line in lines if "-->" in line]
    ends = {arrow.split("--")[0].strip() for arrow in arrows} | {
        arrow.split("-->")[-1].strip() for arrow in arrows
    }
    assert len(ends) > 2
    return ends - nodes


def test_guarantee_12_every_arrow_of_the_diagram_joins_two_nodes_() -> None:
    drawn = to_mermaid(Full)
    assert _dangling(drawn) == set()
    (label,) = re.findall(r"    (n\d+)\[.*\n", drawn)[:1]
    assert _dangling(drawn.replace(f"    {label}[", "    gone[", 1)) == {label}
    assert _dangling(drawn.replace(f"    {label} -->", "    gone -->", 1)) == {"gone"}


def reused() -> tuple[Statement, ...]:
    return (step("read"), Wait("decide", On("approve", None)))


def test_guarantee_09_an_alias_of_a_scope_renames_all_inside_it() -> None:
    @dataclass
    class Old(Workflow, name="scoped"):
        def definition(self) -> Section:
            return Section(Scope("old", *reused()))

    @dataclass
    class New(Workflow, name="scoped"):
        def definition(self) -> Section:
            return Section(Scope("new", *reused(), aliases=("old",)))

    store = MemoryStore()
    engine_on(store, Old).start(Old(), workflow_id="1")
    engine = engine_on(store, New)
    assert engine.resume("1").status is Status.WAITING
    assert engine.get("1").waiting_for == ["new.approve"]
    engine.callback("1", "old.approve")
    assert engine.get("1").status is Status.FINISHED


def test_check_of_a_definition_that_is_not_valid_raises() -> None:
    with pytest.raises(DefinitionError, match="duplicate"):
        check(Section(step("a"), step("a")), [])
