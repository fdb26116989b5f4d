"""What becomes of stored state when a deploy changes the fields that it was stored for."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import new_class
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FutureDate,
    FutureDatetime,
    PlainSerializer,
    field_validator,
    model_validator,
)
from stepmark import (
    Handler,
    MemoryStore,
    Observation,
    On,
    Request,
    Section,
    Status,
    Step,
    Wait,
    Workflow,
    check,
    check_store,
)

from tests.stepmark.support import CountingStore, engine_on, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Waits(Workflow, name="base"):
    """The definition of all classes here: an event, a step that does nothing, an event."""

    def definition(self) -> Section:
        return Section(Wait("w", On("go", self.on_go)), Step("s", self.step), Wait("w2", On("on", None)))

    def on_go(self) -> None: ...

    def step(self) -> None: ...


def cls_of(fields: Mapping[str, tuple[Any, Any]], base: type[Workflow] = Waits, **methods: Any) -> Any:
    """A dataclass workflow called "w" with these fields: (annotation, default or field())."""
    annotations = {name: annotation for name, (annotation, _) in fields.items()}
    defaults = {name: default for name, (_, default) in fields.items()}
    body = {"__annotations__": annotations, "__module__": __name__, **defaults, **methods}
    return dataclass(new_class("W", (base,), {"name": "w"}, lambda made: made.update(body)))


def started(state: Workflow) -> MemoryStore:
    store = MemoryStore()
    engine_on(store, type(state)).start(state, "w")
    return store


# -- the defaults of new fields ------------------------------------------------------------------------

TOKENS: list[str] = []


def token() -> str:
    return uuid.uuid4().hex


class Announce(Handler[None, None]):
    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def setup(self, request: Request[None]) -> None:  # noqa: ARG002
        TOKENS.append(self.owner.token)
        if len(TOKENS) < 3:
            raise ConnectionError

    def handle(self, request: Request[None], payload: None) -> None: ...


class Seen(Waits, name="w"):
    token: str

    def step(self) -> None:
        TOKENS.append(self.token)
        if len(TOKENS) < 3:
            raise ConnectionError


class SetsUp(Waits, name="w"):
    def definition(self) -> Section:
        return Section(Wait("w", On("go", Announce(self))))


class Fails(Waits, name="w"):
    token: str

    def on_go(self) -> None:
        TOKENS.append(self.token)
        raise ConnectionError


@pytest.mark.parametrize("base", [Seen, SetsUp])
def test_the_default_of_a_new_field_is_made_once(base: type[Workflow]) -> None:
    TOKENS.clear()
    store = started(cls_of({})())
    engine = engine_on(store, cls_of({"token": (str, field(default_factory=token))}, base))
    if base is Seen:
        engine.callback("w", "go")
    engine.resume("w")
    settle(engine)
    assert len(TOKENS) >= 3
    assert set(TOKENS) == {engine.get("w").state.token}


def test_a_handler_that_fails_sees_the_default_that_the_next_attempt_sees() -> None:
    TOKENS.clear()
    store = started(cls_of({})())
    cls = cls_of({"token": (str, field(default_factory=token))}, Fails)
    for engine in [engine_on(store, cls) for _ in range(3)]:
        with pytest.raises(Exception, match="ConnectionError"):
            engine.callback("w", "go")
    assert set(TOKENS) == {engine_on(store, cls).get("w").state.token}
    assert len(TOKENS) == 3


class Looks(Observation[None]):
    def look(self, request: Request[None]) -> None:
        TOKENS.append(request.state.token)  # type: ignore[attr-defined]

    def handle(self, request: Request[None], payload: None) -> None: ...


class Sees(Looks):
    def look(self, request: Request[None]) -> None: ...


class Watches(Waits, name="w"):
    def definition(self) -> Section:
        return Section(Wait("w", On("seen", Sees())))


class Observes(Waits, name="w"):
    def definition(self) -> Section:
        return Section(Wait("w", On("seen", Looks())))


def test_so_do_looks() -> None:
    TOKENS.clear()
    store = started(cls_of({}, Watches)())
    engine = engine_on(store, cls_of({"token": (str, field(default_factory=token))}, Observes))
    for _ in range(3):
        assert engine.look("w").status is Status.WAITING
    assert set(TOKENS) == {engine.get("w").state.token}
    assert len(TOKENS) == 3


@dataclass
class Part:
    name: str = "a"


@dataclass
class PartWithToken(Part):
    token: str = field(default_factory=token)


def test_so_is_the_default_of_a_new_field_within_what_a_field_holds() -> None:
    store = started(cls_of({"parts": (list[Part], field(default_factory=lambda: [Part()]))})())
    parts: dict[str, Any] = {"parts": (list[PartWithToken], field(default_factory=list))}

    def step(self: Any) -> None:
        TOKENS.append(self.parts[0].token)
        if len(TOKENS) < 3:
            raise ConnectionError

    TOKENS.clear()
    engine = engine_on(store, cls_of(parts, step=step))
    engine.callback("w", "go")
    settle(engine)
    assert len(TOKENS) == 3
    assert set(TOKENS) == {engine.get("w").state.parts[0].token}


def test_a_default_that_is_always_the_same_costs_no_write() -> None:
    store = started(cls_of({})())
    counted = CountingStore(store)
    engine_on(counted, cls_of({"more": (int, 3)})).callback("w", "go")
    plain = CountingStore(started(cls_of({})()))
    engine_on(plain, cls_of({})).callback("w", "go")
    assert counted.calls == plain.calls


def no() -> str:
    raise RuntimeError("no")


class TakesData(Waits, BaseModel, name="w"):
    first: int = 0
    token: str = Field(default_factory=lambda data: str(data["first"]))


@pytest.mark.parametrize(
    "cls", [cls_of({"token": (str, field(default_factory=no))}), TakesData], ids=["raises", "takes data"]
)
def test_a_default_that_cannot_be_made_parks_and_names_the_field(cls: type[Workflow]) -> None:
    store = started(cls_of({})())
    engine = engine_on(store, cls)
    before = engine.get("w")
    assert before.status is Status.WAITING
    assert ["token" in problem.message for problem in check_store(cls, store)] == [True]
    assert ["token" in problem.message for problem in check(cls, [before])] == [True]
    snapshot = engine.resume("w")
    assert snapshot.status is Status.PARKED
    assert "'token'" in str(snapshot.error)
    assert engine.cancel("w").status is Status.CANCELLED


# -- another type --------------------------------------------------------------------------------------

RETYPED: list[tuple[Any, Any, Any]] = [
    (str, "00123", int),
    (str, "00123", Decimal),
    (str, "00123", datetime),
    (str, "00123", timedelta),
    (str, "1.50", float),
    (str, "yes", bool),
    (int, 1, bool),
    (bool, True, int),
    (int, 2**60 + 1, float),
    (list[str], ["00123"], list[int]),
    (dict[str, int], {"00123": 1}, dict[int, int]),
    (dict[str, list[str]], {"a": ["007"]}, dict[str, list[Decimal]]),
    (set[str], {"007"}, set[Decimal]),
    (str | None, None, str),
]


@pytest.mark.parametrize(("old", "value", "new"), RETYPED)
def test_a_field_of_another_type_parks_and_keeps_what_is_stored(old: Any, value: Any, new: Any) -> None:
    store = started(cls_of({"code": (old, field(default_factory=lambda: value))})())
    stored = store.load("w")
    cls = cls_of({"code": (new, field(default_factory=new))})
    assert [("'code" in each.message, each.parks) for each in check_store(cls, store)] == [(True, True)]
    engine = engine_on(store, cls)
    assert "'code" in check(cls, [engine.get("w")])[0].message
    snapshot = engine.resume("w")
    assert (snapshot.status, "'code" in str(snapshot.error)) == (Status.PARKED, True)
    now = store.load("w")
    assert stored is not None
    assert now is not None
    assert now.state == stored.state


def as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


READ_ANEW: list[tuple[Any, Any, Any, Any]] = [
    (int, 5, float, 5.0),
    (int, 5, int | None, 5),
    (str, "2026-11-27", date, date(2026, 11, 27)),
    (str, "2026-11-27 10:00:00+00:00", datetime, datetime(2026, 11, 27, 10, tzinfo=UTC)),
    (list[int], [1, 2], set[int], {1, 2}),
    (str, "a", Annotated[list[str], BeforeValidator(as_list)], ["a"]),
    (Annotated[int, PlainSerializer(str)], 5, Annotated[int, PlainSerializer(str)], 5),
]


@pytest.mark.parametrize(("old", "value", "new", "expected"), READ_ANEW)
def test_a_type_that_loses_nothing_is_taken(old: Any, value: Any, new: Any, expected: Any) -> None:
    store = started(cls_of({"code": (old, field(default_factory=lambda: value))})())
    cls = cls_of({"code": (new, field(default_factory=list))})
    assert check_store(cls, store) == []
    engine = engine_on(store, cls)
    engine.callback("w", "go")
    state = engine.get("w").state
    assert (state.code, type(state.code)) == (expected, type(expected))


# -- validators that have had their say ----------------------------------------------------------------


def in_future(value: datetime) -> datetime:
    if value < Clock.now:
        raise ValueError("too late")
    return value


class Clock:
    """The time of validators that a test can move."""

    now = datetime(2026, 1, 1, tzinfo=UTC)


class Booking(BaseModel):
    at: datetime
    seat: int = 0

    @field_validator("at")
    @classmethod
    def is_ahead(cls, at: datetime) -> datetime:
        return in_future(at)


class Trip(BaseModel):
    at: datetime

    @model_validator(mode="after")
    def is_ahead(self) -> Trip:
        in_future(self.at)
        return self


@dataclass
class Meeting:
    at: datetime

    def __post_init__(self) -> None:
        in_future(self.at)


SOON = datetime(2026, 1, 2, tzinfo=UTC)
MOMENTS: list[tuple[Any, Callable[[], Any]]] = [
    (Annotated[datetime, AfterValidator(in_future)], lambda: SOON),
    (Booking, lambda: Booking(at=SOON)),
    (list[Booking], lambda: [Booking(at=SOON)]),
    (dict[str, Trip], lambda: {"a": Trip(at=SOON)}),
    (Meeting | None, lambda: Meeting(SOON)),
]


@pytest.mark.parametrize(("annotation", "make"), MOMENTS)
def test_what_was_stored_is_not_judged_by_a_later_moment(annotation: Any, make: Callable[[], Any]) -> None:
    Clock.now = datetime(2026, 1, 1, tzinfo=UTC)
    cls = cls_of({"what": (annotation, field(default_factory=make)), "more": (int, 0)})
    store = started(cls())
    Clock.now = datetime(2026, 1, 3, tzinfo=UTC)
    engine = engine_on(store, cls)
    assert check_store(cls, store) == []
    engine.callback("w", "go")
    snapshot = engine.callback("w", "on") or engine.get("w")
    assert snapshot.status is Status.FINISHED
    Clock.now = datetime(2026, 1, 1, tzinfo=UTC)
    assert snapshot.state.what == make()


def test_a_list_of_such_may_grow() -> None:
    Clock.now = datetime(2026, 1, 1, tzinfo=UTC)

    def step(self: Any) -> None:
        self.what.append(Booking.model_construct(at=datetime(2026, 1, 5, tzinfo=UTC), seat=1))

    cls = cls_of({"what": (list[Booking], field(default_factory=lambda: [Booking(at=SOON)]))}, step=step)
    store = started(cls())
    Clock.now = datetime(2026, 1, 3, tzinfo=UTC)
    engine = engine_on(store, cls)
    engine.callback("w", "go")
    assert [each.at.day for each in engine.get("w").state.what] == [2, 5]


def test_what_a_step_makes_is_judged() -> None:
    Clock.now = datetime(2026, 1, 1, tzinfo=UTC)

    def step(self: Any) -> None:
        self.what.at = datetime(2025, 1, 1, tzinfo=UTC)

    cls = cls_of({"what": (Booking, field(default_factory=lambda: Booking(at=SOON)))}, step=step)
    engine = engine_on(started(cls()), cls)
    engine.callback("w", "go")
    settle(engine)
    assert engine.get("w").status is Status.PARKED
    assert "'what" in str(engine.get("w").error)


class Appointment(BaseModel):
    at: FutureDatetime
    day: FutureDate | None = None


class Future(Waits, BaseModel, name="w"):
    at: FutureDatetime
    appointments: list[Appointment] = []


def test_neither_are_the_future_and_past_types_of_pydantic() -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    state = Future(at=datetime.now(UTC) + timedelta(days=1))
    store = started(state)
    record = store.load("w")
    assert record is not None
    text = record.state.replace(str(state.at.date()), "2020-01-01")
    day = '"appointments":[{"at":"2020-01-01T00:00:00Z","day":"2020-01-01"}]'
    text = text.replace('"appointments":[]', day)
    store.commit(replace(record, state=text, version=record.version + 1), record.version)
    engine = engine_on(store, Future)
    assert check_store(Future, store) == []
    assert engine.get("w").state.at.date() == past.date()
    engine.callback("w", "go")
    engine.callback("w", "on")
    snapshot = engine.get("w")
    assert snapshot.status is Status.FINISHED
    assert snapshot.state.appointments[0].at == past


# -- fields that a definition does not have ------------------------------------------------------------


class Address(BaseModel):
    model_config = ConfigDict(frozen=True)
    street: str = ""


class NewAddress(Address):
    city: str = ""


@dataclass
class Customer:
    name: str = ""
    address: Address = field(default_factory=Address)


@dataclass
class NewCustomer:
    name: str = ""
    address: NewAddress = field(default_factory=NewAddress)
    vip: bool = False


OLD = {"count": (int, 0), "customers": (list[Customer], field(default_factory=list)), "one": (Any, None)}
NEW = {
    "count": (int, 0),
    "customers": (list[NewCustomer], field(default_factory=list)),
    "note": (str, ""),
    "tags": (set[str], field(default_factory=set)),
    "one": (Any, None),
}


def add(self: Any) -> None:
    self.count += 1


def test_an_older_definition_keeps_what_it_does_not_know() -> None:
    new, old = cls_of(NEW), cls_of(OLD, step=add)
    state = new(note="new", tags={"a", "b"})
    state.customers = [NewCustomer("ada", NewAddress(street="x", city="Rome"), vip=True), NewCustomer("bob")]
    store = started(state)
    engine = engine_on(store, old)
    engine.callback("w", "go")
    assert engine.get("w").state.count == 1
    now: Any = engine_on(store, new).get("w").state
    assert now == replace(state, count=1)


def test_it_belongs_to_its_object_wherever_that_goes() -> None:
    def step(self: Any) -> None:
        del self.customers[0]
        self.customers.append(Customer("eve"))
        self.customers.reverse()
        last = self.customers[-1]
        last.name = "BOB"

    store = started(cls_of(NEW)(customers=[NewCustomer("ada", vip=False), NewCustomer("bob", vip=True)]))
    engine = engine_on(store, cls_of(OLD, step=step))
    engine.callback("w", "go")
    now: Any = engine_on(store, cls_of(NEW)).get("w").state
    assert [(each.name, each.vip) for each in now.customers] == [("eve", False), ("BOB", True)]


def test_a_copy_in_its_place_keeps_it() -> None:
    def step(self: Any) -> None:
        self.where = self.where.model_copy(update={"street": "y"})

    store = started(cls_of({"where": (NewAddress, NewAddress(street="x", city="Rome"))})())
    engine = engine_on(store, cls_of({"where": (Address, Address())}, step=step))
    engine.callback("w", "go")
    now: Any = engine_on(store, cls_of({"where": (NewAddress, NewAddress())})).get("w").state
    assert now.where == NewAddress(street="y", city="Rome")


def test_check_tells_of_data_that_would_have_no_field() -> None:
    store = started(cls_of(NEW)(note="new", customers=[NewCustomer("ada", vip=True)]))
    problems = check_store(cls_of(OLD), store)
    assert [(each.workflow_id, each.thread, each.parks) for each in problems] == [("w", None, False)]
    assert "'note', 'customers.0.vip'" in problems[0].message
    assert "tags" not in problems[0].message  # there is nothing in it
    assert check(cls_of(OLD), [engine_on(store, cls_of(OLD)).get("w")]) == problems


class Closed(BaseModel, extra="forbid", frozen=True):
    street: str = ""


class NewClosed(Closed):
    city: str = ""


def test_a_model_that_forbids_what_it_does_not_know_keeps_it_too() -> None:
    def step(self: Any) -> None:
        self.where = self.where.model_copy(update={"street": "y"})

    new = cls_of({"where": (NewClosed, NewClosed(street="x", city="Rome"))})
    store = started(new())
    old = cls_of({"where": (Closed, Closed())}, step=step)
    assert [each.parks for each in check_store(old, store)] == [False]
    engine_on(store, old).callback("w", "go")
    assert engine_on(store, new).get("w").state.where == NewClosed(street="y", city="Rome")
