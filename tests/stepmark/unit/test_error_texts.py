"""Whatever a user's error says, the engine stores it and goes on."""

from dataclasses import dataclass

import pytest
from stepmark import (
    HandlerFailed,
    If,
    MemoryStore,
    On,
    Request,
    Retry,
    Section,
    SqliteStore,
    Status,
    Step,
    Wait,
    Workflow,
)
from stepmark.errors import text_of
from stepmark.testing import LocalEngine

from tests.stepmark.support import Task, engine_on


class Mute(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class NoText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value] # noqa: PLE0307 - what is wrong with it


ERRORS: dict[str, tuple[Exception, str]] = {
    "a file name that is no UTF-8": (OSError("no file /tmp/\udcff"), "OSError: no file /tmp/\\udcff"),
    "a text that raises": (Mute(), "Mute: (its text can't be read: ZeroDivisionError)"),
    "a text that is none": (NoText(), "NoText: (its text can't be read: TypeError)"),
    "a long text": (ValueError("é" * 5_000_000), f"ValueError: {'é' * 900}"),
}


@dataclass
class Fails(Workflow):
    how: str
    where: str

    def definition(self) -> Section:
        return Section(
            Step("step", self.run, retry=Retry(attempts=1)),
            If(self.fails_here, "never"),
            Wait("w", On("event", self.fail), On("task", BadTask(self))),
        )

    def run(self) -> None:
        if self.where == "step":
            self.fail()

    def fails_here(self) -> bool:
        if self.where == "condition":
            self.fail()
        return False

    def fail(self) -> None:
        raise ERRORS[self.how][0]


class BadTask(Task):
    def __init__(self, state: Fails) -> None:
        super().__init__()
        self.state = state
        self.retry = Retry(attempts=1)

    def setup(self, request: Request[str]) -> str:
        if self.state.where == "setup":
            self.state.fail()
        return super().setup(request)


@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("where", ["step", "condition", "setup"])
def test_an_error_is_stored_and_shown_whatever_its_text(how: str, where: str) -> None:
    store = SqliteStore(":memory:")
    snapshot = engine_on(store, Fails).start(Fails(how, where), workflow_id="1")
    assert snapshot.status in {Status.PARKED, Status.RUNNING}
    assert ERRORS[how][1] in str(snapshot.error)
    record = store.load("1")
    assert record is not None
    assert len(record.progress) < 5_000


@pytest.mark.parametrize("how", ERRORS)
def test_the_error_of_an_events_handler_reaches_its_sender(how: str) -> None:
    engine = LocalEngine(Fails)
    engine.start(Fails(how, ""), workflow_id="1")
    with pytest.raises(HandlerFailed) as raised:
        engine.callback("1", "event")
    assert ERRORS[how][1] in str(raised.value)
    assert raised.value.__cause__ is ERRORS[how][0]


@pytest.mark.parametrize("how", ERRORS)
def test_a_definition_that_no_longer_works_is_shown_with_its_error(how: str) -> None:
    @dataclass
    class Good(Workflow, name="w"):
        def definition(self) -> Section:
            return Section(Wait("w", On("event", None)))

    @dataclass
    class Bad(Workflow, name="w"):
        def definition(self) -> Section:
            raise ERRORS[how][0]

    store = MemoryStore()
    engine_on(store, Good).start(Good(), workflow_id="1")
    engine = engine_on(store, Bad)
    assert ERRORS[how][1] in str(engine.resume("1").error)


def test_a_text_is_cut_between_characters() -> None:
    assert text_of(ValueError("x" * 2_000)) == "x" * 2_000
    assert text_of(ValueError("x" * 2_001)) == f"{'x' * 2_000}... (2,001 characters)"
    assert text_of(ValueError("x" + "é" * 1_000)) == f"x{'é' * 999}... (1,001 characters)"
