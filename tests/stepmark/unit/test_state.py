"""What a state may hold, and what happens to a state that can't be stored."""

import enum
from collections import defaultdict
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import Base64Bytes, BaseModel, Field, PrivateAttr
from stepmark import MemoryStore, Section, StateError, Status, Step, Workflow
from stepmark.core.state import codec_of
from stepmark.testing import LocalEngine

from tests.stepmark.support import engine_on


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Part:
    name: str
    price: Decimal
    made: date | None = None


class Owner(BaseModel):
    name: str = Field(alias="Name", default="")
    children: list["Owner"] = []


@dataclass
class Everything(Workflow):
    text: str = "é\n\u2028😀"
    number: int = 2**70
    ratio: float = 0.1
    flag: bool = True
    nothing: str | None = None
    color: Color = Color.BLUE
    colors: dict[Color, int] = field(default_factory=lambda: {Color.RED: 1})
    price: Decimal = Decimal("0.10")
    when: datetime = datetime(2026, 11, 21, 19, 34, 1, 123456, tzinfo=UTC)
    day: date = date(2026, 11, 21)
    at: time = time(19, 34)
    span: timedelta = timedelta(days=1, microseconds=5)
    uid: UUID = field(default_factory=lambda: UUID(int=7))
    raw: bytes = b"abc"
    part: Part = field(default_factory=lambda: Part("a", Decimal(1), date(2026, 1, 1)))
    parts: list[Part] = field(default_factory=lambda: [Part("a", Decimal(1)), Part("b", Decimal("2.5"))])
    by_name: dict[str, Part] = field(default_factory=lambda: {"a": Part("a", Decimal(1))})
    pair: tuple[int, str] = (1, "a")
    tags: set[str] = field(default_factory=lambda: {"x", "y"})
    literal: Literal["a", "b"] = "a"
    either: int | str | Part = field(default_factory=lambda: Part("c", Decimal(3)))
    owner: Owner = field(default_factory=lambda: Owner(Name="Ada", children=[Owner(Name="Bob")]))
    limited: Annotated[int, Field(gt=0)] = 1
    hidden: int = field(default=3, init=False)
    anything: Any = field(default_factory=lambda: {"a": [1, None, "x", 1.5]})

    def definition(self) -> Section:
        return Section(Step("nothing", self.nothing_at_all))

    def nothing_at_all(self) -> None:
        self.hidden += 1


def test_a_dataclass_of_everything_comes_back_as_it_was() -> None:
    state = LocalEngine(Everything).start(Everything()).state
    expected = Everything()
    expected.hidden = 4
    assert state == expected


class Model(Workflow, BaseModel, name="model"):
    when: datetime
    parts: list[Part] = []
    owner: Owner | None = None
    color: Color = Color.RED
    limited: int = Field(default=1, gt=0)

    def definition(self) -> Section:
        return Section(Step("add", self.add))

    def add(self) -> None:
        self.parts.append(Part("new", Decimal(1)))
        self.owner = Owner(Name="Ada")


def test_a_pydantic_model_comes_back_as_it_was() -> None:
    when = datetime(2026, 11, 21, tzinfo=UTC)
    snapshot = LocalEngine(Model).start(Model(when=when))
    assert snapshot.status is Status.FINISHED
    assert snapshot.workflow == "model"
    assert snapshot.state == Model(when=when, parts=[Part("new", Decimal(1))], owner=Owner(Name="Ada"))


@dataclass(slots=True)
class Slots(Workflow, name="slots"):
    count: int = 0

    def definition(self) -> Section:
        return Section(Step("add", self.add))

    def add(self) -> None:
        self.count += 1


def test_a_dataclass_with_slots_works_and_keeps_its_name() -> None:
    snapshot = LocalEngine(Slots).start(Slots())
    assert (snapshot.workflow, snapshot.state.count) == ("slots", 1)


class Plain:
    pass


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Hidden:
    shown: int = 0
    aside: int = field(default=0, init=False, compare=False)


def hidden(**attributes: int) -> Hidden:
    made = Hidden()
    vars(made).update(attributes)
    return made


class WithPrivate(Owner):
    _seen: int = PrivateAttr(default=0)


def private() -> WithPrivate:
    made = WithPrivate(Name="Ada")
    made._seen = 1
    return made


class Open(BaseModel, extra="allow"):
    name: str = ""


class Size(TypedDict):
    width: int
    height: int


PARIS = ZoneInfo("Europe/Paris")


@dataclass
class Spoiler(Workflow):
    how: str
    good: int = 0
    text: str = ""
    number: float = 0.0
    part: Part | None = None
    names: list[str] = field(default_factory=list)
    anything: Any = None
    limited: Annotated[int, Field(gt=0)] = 1
    numbers: list[float] = field(default_factory=list)
    when: datetime | None = None
    at: time | None = None
    hidden: Hidden | None = None
    owner: Owner | None = None
    counts: dict[str, int] = field(default_factory=dict)
    raw: bytes = b""
    more: Open | None = None
    by_number: dict[int, str] = field(default_factory=dict)

    def definition(self) -> Section:
        return Section(Step("good", self.do_good), Step("spoil", self.spoil))

    def do_good(self) -> None:
        self.good = 1

    @cached_property
    def cached(self) -> int:
        return 1

    def spoil(self) -> None:
        self.good = 2 + self.cached
        name, value = SPOILED[self.how]
        setattr(self, name, value)


SPOILED: dict[str, tuple[str, Any]] = {
    "an int in a str": ("text", 5),
    "not a number": ("number", float("nan")),
    "an object": ("anything", Plain()),
    "a dict for a dataclass": ("part", {"name": "a", "price": 1}),
    "an int among names": ("names", ["a", 1]),
    "a tuple in Any": ("anything", (1, 2)),
    "a dataclass in Any": ("anything", Part("a", Decimal(1))),
    "lone surrogate": ("text", "\ud800"),
    "out of bounds": ("limited", 0),
    "no field": ("other", 1),
    "wrong decimal": ("part", Part("a", 1.5)),  # type: ignore[arg-type]
    "deep": ("anything", [[]]),
    "a bool in an int": ("good", True),
    "a bool in a float": ("number", True),
    "a bool among floats": ("numbers", [1.0, True]),
    "an enum in an int": ("good", Level.LOW),
    "a time zone": ("when", datetime(2026, 10, 24, 12, tzinfo=PARIS)),
    "a time of a time zone": ("at", time(12, tzinfo=PARIS)),
    "the second time of an hour": ("when", datetime(2026, 10, 25, 2, 30, fold=1)),  # noqa: DTZ001 - it has none
    "a field that is not compared": ("hidden", hidden(aside=1)),
    "an attribute that is no field": ("hidden", hidden(other=1)),
    "a subclass": ("owner", private()),
    "a dict with a default": ("counts", defaultdict(int, a=1)),
    "a date beyond the fields": ("more", Open(other=date(2026, 1, 1))),
    "a bool for a number's key": ("by_number", {True: "x"}),
    "bytes that are no text": ("raw", b"\xff"),
}
SPOILED["deep"][1][0].append(SPOILED["deep"][1])


@pytest.mark.parametrize("how", SPOILED)
def test_state_that_cannot_be_stored_is_an_error_at_its_step_that_names_the_field(how: str) -> None:
    engine = LocalEngine(Spoiler)
    snapshot = engine.start(Spoiler(how), workflow_id="1")
    assert snapshot.status is Status.PARKED
    assert snapshot.threads["main"].at == "spoil"
    assert f"'{SPOILED[how][0]}" in str(snapshot.error)
    assert "spoil" in str(snapshot.error)
    assert snapshot.state == Spoiler(how, good=1)


def test_the_error_of_a_field_that_is_not_stored_says_which() -> None:
    with pytest.raises(StateError, match=r"'hidden' .* its 'aside': a field with init=False is not stored"):
        LocalEngine(Spoiler).start(Spoiler("", hidden=hidden(aside=1)))


def test_the_error_of_a_time_zone_says_what_to_do() -> None:
    message = r"'when'.* of the time zone Europe/Paris only the offset would come back: store the time in UTC"
    with pytest.raises(StateError, match=message):
        LocalEngine(Spoiler).start(Spoiler("", when=datetime(2026, 10, 24, 12, tzinfo=PARIS)))


@dataclass
class Exact(Workflow):
    """What differs in its type alone, and comes back all the same."""

    zone: ZoneInfo = PARIS
    utc: datetime = datetime(2026, 11, 21, 19, 34, tzinfo=ZoneInfo("UTC"))
    offset: datetime = datetime(2026, 11, 21, 19, 34, tzinfo=timezone(timedelta(hours=1)))
    ratio: float = 1
    ratios: list[float] = field(default_factory=lambda: [1, 2.5])
    flag: bool | int = True
    count: bool | int = 1
    level: Level = Level.LOW
    hidden: Hidden = field(default_factory=Hidden)
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int, a=1))
    raw: Base64Bytes = b"\xff\x00"
    size: Size = field(default_factory=lambda: Size(height=1, width=2))
    more: Open = field(default_factory=lambda: Open(name="x", other=[1]))

    def definition(self) -> Section:
        return Section(Step("use", self.use))

    def use(self) -> None:
        self.counts["new"] += 1
        self.hidden.shown += 1


def test_what_an_annotation_names_comes_back_with_its_type() -> None:
    state = LocalEngine(Exact).start(Exact()).state
    assert state == Exact(hidden=Hidden(1), counts=defaultdict(int, a=1, new=1))
    assert (state.flag, state.count) == (True, 1)
    assert (type(state.flag), type(state.count), type(state.counts)) == (bool, int, defaultdict)
    assert (state.utc + timedelta(days=200)).utcoffset() == timedelta(0)
    assert type(state.level) is Level


class PrivateState(Workflow, BaseModel, name="private"):
    _count: int = PrivateAttr(default=0)

    def definition(self) -> Section:
        return Section()


class Nested(Workflow, BaseModel, name="nested"):
    owner: WithPrivate = WithPrivate()

    def definition(self) -> Section:
        return Section(Step("see", self.see))

    def see(self) -> None:
        self.owner._seen = 1


def test_private_attributes_are_refused_and_not_lost() -> None:
    with pytest.raises(StateError, match="'_count' of PrivateState is a private attribute"):
        LocalEngine(PrivateState)
    snapshot = LocalEngine(Nested).start(Nested())
    assert snapshot.status is Status.PARKED
    assert "'owner'" in str(snapshot.error)
    assert "private attributes would be lost" in str(snapshot.error)


def test_a_start_with_state_that_cannot_be_stored_stores_nothing() -> None:
    engine = LocalEngine(Spoiler)
    with pytest.raises(StateError, match="'names'"):
        engine.start(Spoiler("", names=[1]), workflow_id="1")  # type: ignore[list-item]
    assert engine.store.load("1") is None


@dataclass
class Before(Workflow, name="person"):
    name: str = "Ada"
    age: int = 36
    gone: str = "x"

    def definition(self) -> Section:
        return Section(Step("first", self.fail))

    def fail(self) -> None:
        raise ConnectionError


@dataclass
class After(Workflow, name="person"):
    name: str = ""
    age: int = 0
    email: str | None = None
    tags: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(Step("first", self.finish))

    def finish(self) -> None:
        self.tags.append("done")


@dataclass
class Retyped(Workflow, name="person"):
    name: list[int] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(Step("first", self.name.clear))


@dataclass
class Demanding(Workflow, name="person"):
    name: str
    email: str

    def definition(self) -> Section:
        return Section()


def test_new_fields_get_their_defaults_and_old_ones_are_left_out() -> None:
    store = MemoryStore()
    engine_on(store, Before).start(Before(), workflow_id="1")
    snapshot = engine_on(store, After).retry("1")
    assert snapshot.state == After("Ada", 36, None, ["done"])


@pytest.mark.parametrize(("cls", "field_name"), [(Retyped, "name"), (Demanding, "email")])
def test_a_state_that_no_longer_fits_its_class_parks_the_workflow(
    cls: type[Workflow], field_name: str
) -> None:
    store = MemoryStore()
    engine_on(store, Before).start(Before(), workflow_id="1")
    engine = engine_on(store, cls)
    engine.runtime.clock.sleep(1_000)
    snapshot = engine.resume("1")
    assert snapshot.status is Status.PARKED
    assert f"'{field_name}" in str(snapshot.error)
    assert snapshot.state == {"name": "Ada", "age": 36, "gone": "x"}
    back = engine_on(store, After)
    assert back.retry("1").status is Status.FINISHED


@dataclass
class Unstorable(Workflow):
    plain: Plain | None = None

    def definition(self) -> Section:
        return Section()


@dataclass
class WithInitVar(Workflow):
    text: str = ""
    seed: InitVar[int] = 0

    def definition(self) -> Section:
        return Section()


class NoDataclass(Workflow):
    def definition(self) -> Section:
        return Section()


def test_classes_that_cannot_be_stored_are_refused_at_once() -> None:
    with pytest.raises(StateError, match="'plain'"):
        LocalEngine(Unstorable)
    with pytest.raises(StateError, match="@dataclass"):
        LocalEngine(NoDataclass)
    with pytest.raises(ValueError, match="'person'"):
        LocalEngine(Before, After)
    assert codec_of(WithInitVar).fields == ("text",)
