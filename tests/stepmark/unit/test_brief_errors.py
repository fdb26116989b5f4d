"""An error by its place and its type: what is shown where the text of an exception may not be."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from stepmark import (
    DefinitionError,
    DoNotRetry,
    Engine,
    Go,
    Happened,
    If,
    MemoryStore,
    Observation,
    On,
    PayloadRefused,
    Request,
    Retry,
    Section,
    StateError,
    Status,
    Step,
    Wait,
    WaitFor,
    Workflow,
)
from stepmark.core.record import Progress
from stepmark.testing import LocalEngine, VirtualClock

from tests.stepmark.support import Task, until

QUOTED = "token s3cr3t of +4917139200"


ASKED: list[str] = []


class CrmUnavailable(Exception):
    pass


class Refused(DoNotRetry):
    pass


class BadTask(Task):
    retry = Retry(attempts=1)

    def setup(self, request: Request[str]) -> str:
        assert isinstance(request.state, Fails)
        if request.state.where == "setup":
            raise CrmUnavailable(QUOTED)
        return ""

    def teardown(self, request: Request[str], handled: bool) -> None:
        del request, handled
        raise CrmUnavailable(QUOTED)


class BadLook(Observation[str]):
    retry = Retry(attempts=1)

    def look(self, request: Request[None]) -> Happened | None:
        assert isinstance(request.state, Fails)
        if request.state.where == "look":
            raise CrmUnavailable(QUOTED)
        return None

    def handle(self, request: Request[None], payload: str) -> None: ...


@dataclass
class Fails(Workflow, name="fails"):
    where: str = ""

    def definition(self) -> Section:
        once = Retry(attempts=1)
        action = self.refuse if self.where == "parked" else self.fail
        return Section(
            Go("beside", If(self.where == "thread", "t", Step("note beside", self.fail, retry=once))),
            If(self.where in {"step", "parked"}, "s", Step("note in the CRM", action)),
            If(self.where == "into", "i", Step("look it up", self.fail, into="where", retry=once)),
            If(self.where == "cond", "c", WaitFor("for the CRM", self.asked_twice)),
            Wait("w", On("event", self.fail), On("task", BadTask()), On("seen", BadLook())),
        )

    def asked_twice(self) -> bool:
        ASKED.append("")
        return len(ASKED) > 1 and self.fail()

    def fail(self) -> Any:
        raise CrmUnavailable(QUOTED)

    def refuse(self) -> None:
        raise Refused(QUOTED)


@pytest.mark.parametrize(
    ("where", "brief"),
    [
        ("step", "note in the CRM: CrmUnavailable"),
        ("thread", "note beside: CrmUnavailable"),
        ("parked", "note in the CRM: Refused"),
        ("into", "look it up: CrmUnavailable"),
        ("cond", "for the CRM: CrmUnavailable"),
        ("setup", "setup of event 'task': CrmUnavailable"),
        ("look", "look for event 'seen': CrmUnavailable"),
        ("teardown", "teardown of event 'task': CrmUnavailable"),
    ],
)
def test_an_error_is_shown_by_its_place_and_its_type(where: str, brief: str) -> None:
    ASKED.clear()
    engine = LocalEngine(Fails)
    engine.start(Fails(where), workflow_id="w")
    if where == "teardown":
        engine.cancel("w")
    snapshot = engine.get("w")
    assert snapshot.brief == brief
    assert snapshot.error == f"{brief}: {QUOTED}"
    shown = json.dumps(snapshot.to_dict(brief=True))
    assert brief in shown
    assert "s3cr3t" not in shown
    assert "s3cr3t" in json.dumps(snapshot.to_dict())
    threads = [thread for thread in snapshot.threads.values() if thread.error]
    assert all(thread.brief == brief for thread in threads)
    assert len(threads) == (where not in {"setup", "look", "teardown"})


@dataclass
class Raises(Fails, name="fails"):
    def definition(self) -> Section:
        raise CrmUnavailable(QUOTED)


@dataclass
class RaisesOurs(Fails, name="fails"):
    def definition(self) -> Section:
        raise DefinitionError(QUOTED)


def refuse(value: str) -> str:
    raise ValueError(QUOTED + value)


def crash(value: str) -> str:
    raise CrmUnavailable(QUOTED + value)


@dataclass
class BadField(Fails, name="fails"):
    where: Annotated[str, AfterValidator(refuse)] = ""


@dataclass
class CrashingField(Fails, name="fails"):
    where: Annotated[str, AfterValidator(crash)] = ""


@dataclass
class BadKey(Fails, name="fails"):
    where: dict[str, int] = field(default_factory=dict)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("cls", "brief"),
    [
        (Raises, "definition() of Raises raised CrmUnavailable"),
        (RaisesOurs, "definition() of RaisesOurs raised DefinitionError"),
        (BadField, "field 'where' of BadField can't be restored"),
        (CrashingField, "the state of CrashingField can't be restored: CrmUnavailable"),
        (BadKey, "field 'where' of BadKey can't be restored"),
    ],
)
def test_what_parks_a_whole_workflow_is_shown_so_too(cls: type[Workflow], brief: str) -> None:
    clock, store = VirtualClock(), MemoryStore()
    Engine([Fails], store=store, clock=clock).start(Fails(), workflow_id="w")
    record = store.load("w")
    assert record is not None
    engine = Engine([cls], store=store, clock=clock)
    for snapshot in (engine.resume("w"), engine.get("w")):
        assert snapshot.status is Status.PARKED
        assert snapshot.brief == brief
        assert "s3cr3t" not in json.dumps(snapshot.to_dict(brief=True))
    assert str(engine.get("w").error).startswith(brief)


def test_the_librarys_own_words_are_shown_whole() -> None:
    @dataclass
    class Other(Workflow, name="fails"):
        def definition(self) -> Section:
            return Section(Wait("another", On("event", None)))

    @dataclass
    class First(Workflow, name="fails"):
        def definition(self) -> Section:
            return Section(Wait("w", On("event", None)))

    store = MemoryStore()
    Engine([First], store=store).start(First(), workflow_id="w")
    snapshot = Engine([Other], store=store).resume("w")
    assert snapshot.brief == snapshot.error == "the definition no longer has statement 'w'"


def test_of_what_the_release_before_has_stored_the_place_alone_is_shown() -> None:
    engine = LocalEngine(Fails)
    engine.start(Fails("parked"), workflow_id="w")
    record = engine.store.load("w")
    assert record is not None
    stored = json.loads(record.progress)
    (thread,) = [thread for thread in stored["threads"] if "trouble" in thread]
    del thread["trouble"][4]
    progress = Progress.from_json(json.dumps(stored))
    (place,) = [(at, trouble) for at, trouble in progress.places() if trouble.error]
    assert place[1].error == f"note in the CRM: Refused: {QUOTED}"
    assert place[1].brief_error(place[0]) == "note in the CRM"


def test_the_release_before_reads_what_this_one_stores() -> None:
    """It takes the first four of a trouble, and leaves fields out that it does not know."""
    engine = LocalEngine(Fails)
    engine.start(Fails("parked"), workflow_id="w")
    record = engine.store.load("w")
    assert record is not None
    (trouble,) = [t["trouble"] for t in json.loads(record.progress)["threads"] if "trouble" in t]
    assert trouble[:4] == [1, None, f"note in the CRM: Refused: {QUOTED}", 1]


# -- refused payloads -----------------------------------------------------------------------------------


def custom(value: str) -> str:
    raise PydanticCustomError("missing", "no {value}", {"value": QUOTED + value})  # a kind of pydantic's own


@dataclass
class Payload:
    name: str
    checked: Annotated[str, AfterValidator(refuse)] = ""
    own: Annotated[str, AfterValidator(custom)] = ""


@dataclass
class Takes(Workflow):
    def definition(self) -> Section:
        return Section(Wait("w", On("event", self.on_event), On("plain", None)))

    def on_event(self, payload: Payload) -> None:
        del payload
        raise PayloadRefused(QUOTED)


@pytest.mark.parametrize(
    ("event", "payload", "brief"),
    [
        (
            "event",
            {"name": 1},
            "the payload does not fit event 'event': name: Input should be a valid string",
        ),
        ("event", {}, "the payload does not fit event 'event': name: Field required"),
        (
            "event",
            {"name": "x", "checked": "y"},
            "the payload does not fit event 'event': checked: is not valid",
        ),
        ("event", {"name": "x", "own": "y"}, "the payload does not fit event 'event': own: is not valid"),
        ("plain", 1, "event 'plain' takes no payload"),
        ("event", {"name": "x" * 70_000}, "the payload of event 'event' is longer than 65536 bytes"),
        ("event", {"name": "x"}, None),  # the handler's own word
    ],
)
def test_a_refused_payload_is_explained_without_what_users_code_says(
    event: str, payload: object, brief: str | None
) -> None:
    engine = LocalEngine(Takes)
    engine.start(Takes(), workflow_id="w")
    with pytest.raises(PayloadRefused) as refused:
        engine.callback("w", event, payload)
    assert refused.value.brief == brief
    text = str(refused.value)
    assert ("s3cr3t" in text) == (brief is None or "is not valid" in brief)


HOLD, STARTED = threading.Event(), threading.Event()


@dataclass
class Busy(Workflow):
    """Takes other payloads once it has been told so, while a step runs beside."""

    strict: bool = False
    found: str = ""

    def definition(self) -> Section:
        takes = self.strictly if self.strict else self.loosely
        return Section(
            Go("beside", Step("slow", self.slow, into="found")),
            Wait("first", On("first", self.first)),
            Wait("for it", On("it", takes)),
        )

    def slow(self) -> str:
        STARTED.set()
        assert HOLD.wait(60)
        return ""

    def first(self) -> None:
        self.strict = True

    def strictly(self, payload: Payload) -> None: ...

    def loosely(self, payload: dict[str, str]) -> None: ...


@pytest.fixture
def busy() -> Iterator[Engine]:
    STARTED.clear()
    HOLD.clear()
    store = MemoryStore()
    thread = threading.Thread(target=Engine([Busy], store=store).start, args=(Busy(), "w"))
    thread.start()
    assert STARTED.wait(60)
    yield Engine([Busy], store=store, callback_seconds=30)
    HOLD.set()
    thread.join(60)


@pytest.mark.timeout(60)
def test_a_payload_that_another_worker_refuses_is_explained_the_same(busy: Engine) -> None:
    refused: list[PayloadRefused] = []

    def send() -> None:
        with pytest.raises(PayloadRefused) as raised:
            busy.callback("w", "it", {"name": "x", "checked": "y"})
        refused.append(raised.value)

    sender = threading.Thread(target=send)
    sender.start()
    until(lambda: bool(Progress.from_json(busy._load("w").progress).events))
    busy.callback("w", "first")
    sender.join(60)
    (error,) = refused
    assert error.brief == "the payload does not fit event 'it': checked: is not valid"
    assert "s3cr3t" not in str(error)


def test_a_state_error_that_names_a_field_names_no_key_of_the_data() -> None:
    @dataclass
    class Keys(Workflow):
        names: dict[str, int] = field(default_factory=dict)

        def definition(self) -> Section:
            return Section(Wait("w", On("event", None)))

    store = MemoryStore()
    Engine([Keys], store=store).start(Keys({"+49171": 1}), workflow_id="w")
    record = store.load("w")
    assert record is not None

    @dataclass
    class Changed(Workflow, name="Keys"):
        names: dict[str, bool] = field(default_factory=dict)

        def definition(self) -> Section:
            return Section(Step("never", lambda: None))

    store._records["w"] = type(record)(
        *(record.workflow_id, record.workflow, record.version, record.status, '{"names":{"+49171":7}}'),
        *(record.progress, None, None, None),
    )
    snapshot = Engine([Changed], store=store).get("w")
    assert snapshot.state == {"names": {"+49171": 7}}
    resumed = Engine([Changed], store=store).resume("w")
    assert "+49171" in str(resumed.error)
    assert resumed.brief == f"field 'names' of {Changed.__qualname__} can't be restored"
    assert issubclass(StateError, Exception)
