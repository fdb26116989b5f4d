"""Values that come back as what is equal to them, or nearly so: kept, or an error that names the field."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from types import new_class
from typing import Annotated, Any, NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, Field, PlainSerializer, RootModel
from stepmark import MemoryStore, On, Retry, Section, Snapshot, Status, Step, Wait, Workflow

from tests.stepmark.support import engine_on


class Color(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Pair(NamedTuple):
    left: str
    right: int = 0


@dataclass(frozen=True)
class Tag:
    name: str
    aside: str = field(default="", compare=False)


class Item(BaseModel, frozen=True):
    name: str = ""
    count: int = 0


class Items(RootModel[list[Item]]):
    pass


class Order(BaseModel):
    items: list[Item] = []
    first: Item | None = None


class Named(TypedDict):
    item: Item


PARIS = ZoneInfo("Europe/Paris")
AN_HOUR = datetime(2026, 10, 24, 12, tzinfo=PARIS)


def workflow(annotation: Any, value: Any) -> type[Workflow]:
    def definition(self: Any) -> Section:
        return Section(
            Step("s", lambda: setattr(self, "x", value), retry=Retry(attempts=1)), Wait("w", On("go", None))
        )

    body = {"__annotations__": {"x": annotation | None}, "__module__": __name__, "definition": definition}
    body["x"] = None
    return dataclass(new_class("Holder", (Workflow,), exec_body=lambda made: made.update(body)))


REFUSED: list[tuple[Any, Any]] = [
    (set[str], {Color.RED}),
    (set[str], {Color.RED, "blue"}),
    (frozenset[str], frozenset({Color.RED})),
    (set[int], {True}),
    (set[int], {Level.LOW}),
    (dict[str, set[str]], {"a": {Color.RED}}),
    (list[set[tuple[str, ...]]], [{("a", Color.RED)}]),
    (dict[str, int], {Color.RED: 1}),
    (dict[str, int], {Color.RED: 1, "red2": 2}),
    (dict[tuple[str, int], int] | dict[str, int], {Color.RED: 1}),
    (deque[int], deque([1, 2], maxlen=2)),
    (list[deque[int]], [deque([1], maxlen=2)]),
    (deque[str], deque([Color.RED])),
    (deque[int], deque([True])),
    (set[Tag], {Tag("a", aside=Color.RED)}),
    (dict[str, list[str]], {"a": [Color.RED]}),
    (tuple[str, ...], (Color.RED,)),
    (Pair, Pair("a", True)),
    (list[Pair], [Pair(Color.RED)]),
    (defaultdict[str, int], defaultdict(lambda: 5, a=1)),
    (dict[str, defaultdict[str, int]], {"a": defaultdict(lambda: 5)}),
    (dict[datetime, int], {AN_HOUR: 1}),
    (set[datetime], {AN_HOUR}),
    (datetime, datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET"))),
    (list[time], [time(12, tzinfo=timezone(timedelta(hours=1), "CET"))]),
    (Any, {1: 2}),
    (Any, {"a": {1, 2}}),
    (Annotated[Decimal, PlainSerializer(float)], Decimal("1.10")),
    (list[Annotated[Decimal, PlainSerializer(float)]], [Decimal("1.10")]),
]


@pytest.mark.parametrize(("annotation", "value"), REFUSED)
def test_what_would_come_back_as_its_kin_is_an_error_that_names_the_field(
    annotation: Any, value: Any
) -> None:
    store = MemoryStore()
    cls = workflow(annotation, value)
    snapshot = engine_on(store, cls).start(cls())
    assert snapshot.status is Status.PARKED
    assert "field 'x" in str(snapshot.error)


KEPT: list[tuple[Any, Any]] = [
    (set[Color], {Color.RED}),
    (set[str | int], {"1", 1}),
    (set[Tag], {Tag("a", aside="b"), Tag("b")}),
    (dict[Color, int], {Color.RED: 1}),
    (deque[int], deque([1, 2])),
    (Annotated[deque[int], Field(max_length=2)], deque([1, 2])),
    (defaultdict[str, int], defaultdict(int, a=1)),
    (OrderedDict[str, int], OrderedDict(b=1, a=2)),
    (Counter[str], Counter(a=0, b=1)),
    (Decimal, Decimal("1.10")),
    (set[Decimal], {Decimal("1.10")}),
    (float, -0.0),
    (set[frozenset[int]], {frozenset({1, 2})}),
    (Pair, Pair("a", 1)),
]

TIMES = [datetime(2026, 1, 1, tzinfo=zone) for zone in (UTC, timezone(timedelta(hours=1)))]


@pytest.mark.parametrize("value", TIMES)
def test_a_time_of_an_offset_is_kept(value: datetime) -> None:
    cls = workflow(datetime, value)
    snapshot: Snapshot = engine_on(MemoryStore(), cls).start(cls())
    assert (snapshot.error, snapshot.state.x) == (None, value)


@pytest.mark.parametrize(("annotation", "value"), KEPT)
def test_what_an_annotation_names_is_kept(annotation: Any, value: Any) -> None:
    store = MemoryStore()
    cls = workflow(annotation, value)
    snapshot = engine_on(store, cls).start(cls())
    assert snapshot.error is None
    again = engine_on(store, cls).get(snapshot.workflow_id).state.x
    assert (again, type(again)) == (value, type(value))
    assert shown(again) == shown(value)


def shown(value: Any) -> str:
    return repr(sorted(value, key=repr) if isinstance(value, set) else value)


def set_fields(value: Any) -> Any:
    """Which fields are set, of every model in a value."""
    if isinstance(value, BaseModel):
        held = {name: set_fields(getattr(value, name)) for name in type(value).model_fields}
        return (sorted(value.model_fields_set), held)
    if isinstance(value, dict):
        return {key: set_fields(each) for key, each in value.items()}
    if isinstance(value, list | tuple | deque):
        return [set_fields(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((repr(each), set_fields(each)) for each in value)
    return set_fields(vars(value)) if isinstance(value, Box) else value


@dataclass
class Box:
    item: Item
    items: tuple[Item, ...] = ()


MODELS: list[tuple[Any, Any]] = [
    (Item, Item(count=1)),
    (Item | None, Item()),
    (list[Item], [Item(), Item(name="a"), Item(name="a", count=0)]),
    (dict[str, Item], {"a": Item(), "b": Item(name="")}),
    (dict[int, Item], {5: Item(name=""), 3: Item()}),
    (dict[Color, list[Item]], {Color.RED: [Item()]}),
    (deque[Item], deque([Item(), Item(count=0)])),
    (set[Item], {Item(name="a"), Item(name="b", count=0), Item()}),
    (dict[str, frozenset[Item]], {"a": frozenset({Item(name="a")})}),
    (set[tuple[str, Item]], {("a", Item(name="a")), ("b", Item())}),
    (dict[str, RootModel[Item]], {"a": RootModel[Item](Item(name="a"))}),
    (Named, {"item": Item(name="")}),
    (Order, Order(first=Item(count=0))),
    (Items, Items([Item(), Item(count=0)])),
    (Box, Box(Item(name=""), (Item(), Item(count=0)))),
    (tuple[Item, Pair], (Item(), Pair("a"))),
]


@pytest.mark.parametrize(("annotation", "value"), MODELS)
def test_it_is_kept_which_fields_of_a_model_were_set(annotation: Any, value: Any) -> None:
    store = MemoryStore()
    cls = workflow(annotation, value)
    snapshot: Snapshot = engine_on(store, cls).start(cls(), "w")
    assert snapshot.error is None
    again = engine_on(store, cls).get("w")
    for state in (snapshot.state, again.state):
        assert state.x == value
        assert set_fields(state.x) == set_fields(value)
    assert set(again.to_dict()["state"]) == {"x"}


class Model(Workflow, BaseModel):
    name: str = ""
    item: Item = Item()
    more: int = 0

    def definition(self) -> Section:
        return Section(Step("s", self.step), Wait("w", On("go", None)))

    def step(self) -> None:
        self.more = 1


def test_it_is_kept_which_fields_of_the_state_were_set() -> None:
    store = MemoryStore()
    engine = engine_on(store, Model)
    snapshot = engine.start(Model(item=Item(name="a")), "w")
    for state in (snapshot.state, engine_on(store, Model).get("w").state):
        assert state.model_fields_set == {"item", "more"}
        assert state.item.model_fields_set == {"name"}
    engine.callback("w", "go")
    assert engine.get("w").state.model_dump(exclude_unset=True) == {"item": {"name": "a"}, "more": 1}
