"""What annotations say of fields and payloads: aliases, and the arguments of generic bases."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Generic, TypedDict, TypeVar

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from stepmark import (
    Handler,
    Happened,
    MemoryStore,
    Observation,
    On,
    PayloadRefused,
    Request,
    Section,
    Wait,
    Workflow,
)
from stepmark.testing import LocalEngine

from tests.stepmark.support import engine_on

T = TypeVar("T")
K = TypeVar("K")


class Inner(BaseModel):
    a: int = 1


class Box(BaseModel, Generic[T]):  # noqa: UP046 - that too
    held: T


# -- generic bases -------------------------------------------------------------------------------------


@dataclass
class Base(Workflow, Generic[K, T]):  # noqa: UP046 - that too
    one: T | None = None
    items: list[T] = field(default_factory=list)
    by_key: dict[K, list[T]] = field(default_factory=dict)
    boxed: Box[T] | None = None
    noted: Annotated[list[T], "note"] = field(default_factory=list)
    last: Any = None

    def definition(self) -> Section:
        named = partial(self.on_named, "ada")
        return Section(Wait("w", On("go", self.on_go), On("task", self.task()), On("named", named)))

    def on_go(self, payload: list[T]) -> None:
        self.last = [type(each).__name__ for each in payload]

    def on_named(self, name: str, payload: T) -> None:
        self.last = f"{name}: {type(payload).__name__}"

    def task(self) -> Handler[Any, None]:
        return InnerTask(self)


class Task(Handler[T, None], Generic[T]):  # noqa: UP046 - that too
    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def handle(self, request: Request[None], payload: T) -> None:  # noqa: ARG002
        self.owner.last = type(payload).__name__


class InnerTask(Task[Inner]):
    pass


@dataclass
class Middle(Base[str, T]):
    more: T | None = None


@dataclass
class Filled(Middle[Inner]):
    own: int = 0


@dataclass
class ByName(Base["str", "Inner"]):
    pass


@dataclass
class Modern[V](Workflow):
    items: list[V] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(Wait("w", On("go", None)))


@dataclass
class ModernFilled(Modern[Inner]):
    pass


@pytest.mark.parametrize("cls", [Filled, ByName])
def test_a_generic_base_gets_its_arguments(cls: type[Base[str, Inner]]) -> None:
    store = MemoryStore()
    state = cls(Inner(), [Inner()], {"a": [Inner(a=2)]}, Box[Inner](held=Inner()), [Inner()])
    engine_on(store, cls).start(state, "w")
    assert engine_on(store, cls).get("w").state == state


def test_so_does_one_of_the_newer_syntax() -> None:
    engine = LocalEngine(ModernFilled)
    assert engine.start(ModernFilled([Inner()])).state == ModernFilled([Inner()])


class ModelBase(Workflow, BaseModel, Generic[T]):  # noqa: UP046 - that too
    items: list[T] = []
    last: str = ""

    def definition(self) -> Section:
        return Section(Wait("w", On("go", self.on_go)))

    def on_go(self, payload: T) -> None:
        self.last = type(payload).__name__


class ModelFilled(ModelBase[Inner]):
    pass


def test_so_do_the_payloads_of_its_handlers() -> None:
    engine = LocalEngine(Filled, ModelFilled)
    engine.start(Filled(), "1")
    engine.callback("1", "go", [{"a": 5}])
    assert engine.get("1").state.last == ["Inner"]
    engine.start(Filled(), "2")
    engine.callback("2", "task", {"a": 5})
    assert engine.get("2").state.last == "Inner"
    engine.start(Filled(), "5")
    engine.callback("5", "named", {"a": 5})
    assert engine.get("5").state.last == "ada: Inner"
    engine.start(Filled(), "3")
    with pytest.raises(PayloadRefused):
        engine.callback("3", "task", {"a": "no"})
    engine.start(ModelFilled(items=[Inner()]), "4")
    engine.callback("4", "go", {"a": 5})
    assert engine.get("4").state == ModelFilled(items=[Inner()], last="Inner")


# -- aliases -------------------------------------------------------------------------------------------


class Aliased(BaseModel):
    first: int = Field(alias="firstName")


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    first: int


class TwoNames(BaseModel):
    first: int = Field(validation_alias="in", serialization_alias="out")


class Choices(BaseModel):
    first: int = Field(validation_alias=AliasChoices("in", "inside"), serialization_alias="out")


class ByNameOnly(BaseModel):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)
    first: int = Field(alias="firstName")


@dataclass
class Plain:
    first: Annotated[int, Field(alias="firstName")]


class Typed(TypedDict):
    first: Annotated[int, Field(alias="firstName")]


class Nested(BaseModel):
    all: list[TwoNames] = Field(alias="everything")


GIVEN: list[tuple[Any, Any]] = [
    (Aliased, Aliased(firstName=3)),
    (Camel, Camel.model_construct(first=3)),
    (TwoNames, TwoNames.model_construct(first=3)),
    (Choices, Choices.model_construct(first=3)),
    (ByNameOnly, ByNameOnly.model_construct(first=3)),
    (Plain, Plain(3)),
    (Typed, {"first": 3}),
    (list[TwoNames], [TwoNames.model_construct(first=3)]),
    (Nested, Nested(everything=[TwoNames.model_construct(first=3)])),
]


@pytest.mark.parametrize(("annotation", "payload"), GIVEN)
def test_a_payload_is_read_by_the_name_that_it_was_written_by(annotation: Any, payload: Any) -> None:
    got: list[Any] = []

    class Takes(Observation[Any]):
        def look(self, request: Request[None]) -> Happened | None:  # noqa: ARG002
            return Happened(payload) if got else None

        def handle(self, request: Request[None], payload: Any) -> None:  # noqa: ARG002
            got.append(payload)

    Takes.handle.__annotations__["payload"] = annotation

    @dataclass
    class W(Workflow):
        kept: Any = None

        def definition(self) -> Section:
            return Section(Wait("w", On("go", self.on_go)), Wait("looked", On("seen", Takes())))

        def on_go(self, sent: Any) -> None:
            got.append(sent)

    W.on_go.__annotations__["sent"] = annotation
    engine = LocalEngine(W)
    engine.start(W(), "w")
    engine.callback("w", "go", payload)
    assert got == [payload, payload]


def test_aliases_that_are_asked_for_are_still_taken() -> None:
    got: list[TwoNames] = []

    @dataclass
    class W(Workflow):
        def definition(self) -> Section:
            return Section(Wait("w", On("go", self.on_go)))

        def on_go(self, sent: TwoNames) -> None:
            got.append(sent)

    engine = LocalEngine(W)
    engine.start(W(), "w")
    with pytest.raises(PayloadRefused, match="in: Field required"):
        engine.callback("w", "go", {"other": 3})
    engine.callback("w", "go", {"in": 3})
    assert got[0].first == 3


class Renamed(Workflow, BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    own: int = Field(default=1, alias="ownNumber")
    inner: TwoNames | None = None
    plain: Plain | None = None

    def definition(self) -> Section:
        return Section(Wait("w", On("go", self.on_go)))

    def on_go(self) -> None:
        self.inner = TwoNames.model_construct(first=4)
        self.plain = Plain(5)


def test_a_state_with_aliases_is_stored_by_its_names() -> None:
    store = MemoryStore()
    engine = engine_on(store, Renamed)
    engine.start(Renamed(ownNumber=2), "w")
    engine.callback("w", "go")
    state = engine_on(store, Renamed).get("w").state
    assert (state.own, state.inner.first, state.plain) == (2, 4, Plain(5))
