"""What a step leaves to its or_else() when its retries are over, or it refuses them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from stepmark import (
    Break,
    DefinitionError,
    DoNotRetry,
    Failure,
    Finish,
    For,
    Go,
    If,
    MemoryStore,
    On,
    Retry,
    Scope,
    Section,
    Status,
    Step,
    Timeout,
    Wait,
    Workflow,
    check,
    current,
    describe,
    live_positions,
    to_mermaid,
)
from stepmark.testing import LocalEngine

from tests.stepmark.support import Noted, Task, engine_on, settle

TWICE = Retry(attempts=2, first_delay=1, jitter=0)


class NoRoom(DoNotRetry):
    pass


@dataclass
class Trip(Workflow):
    """Its statements are set by a test; a step called "fail" gives up at once, "try" after two attempts."""

    log: list[str] = field(default_factory=list)
    found: str = ""
    statements: ClassVar[Any] = None

    def definition(self) -> Section:
        return Section(*type(self).statements(self))

    def note(self) -> None:
        failure = current().failure
        self.log.append(current().statement + (f" after {failure.statement}" if failure else ""))

    def fail(self) -> None:
        self.log.append("this is dropped")
        raise NoRoom("no room")

    def unreachable(self) -> None:
        raise ConnectionError("no line")

    async def find(self) -> str:
        raise NoRoom("nothing found")


def run(make: Any, monkeypatch: pytest.MonkeyPatch) -> LocalEngine:
    monkeypatch.setattr(Trip, "statements", make)
    engine = LocalEngine(Trip)
    engine.start(Trip(), workflow_id="1")
    return engine


def test_a_step_that_refuses_retries_goes_on_in_its_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(
        lambda self: [
            Step("book", self.fail).or_else("no room", Step("apologize", self.note)),
            Step("last", self.note),
        ],
        monkeypatch,
    )
    snapshot = engine.get("1")
    assert (snapshot.status, snapshot.error) == (Status.FINISHED, None)
    assert snapshot.state.log == ["apologize after book", "last"]


def test_a_step_that_succeeds_passes_its_branch_by(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(
        lambda self: [Step("book", self.note).or_else("no room", Step("apologize", self.note), Finish(1))],
        monkeypatch,
    )
    assert engine.get("1").state.log == ["book"]
    assert engine.get("1").result is None


def test_the_branch_comes_after_the_last_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(
        lambda self: [Step("book", self.unreachable, retry=TWICE).or_else("no line", Finish("no line"))],
        monkeypatch,
    )
    assert engine.get("1").status is Status.RUNNING
    assert engine.get("1").threads["main"].attempt == 1
    engine.advance(seconds=1)
    assert engine.get("1").result == "no line"


def test_the_error_is_at_hand_for_all_statements_of_the_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Failure | None] = []
    keys: list[str] = []

    def fail() -> None:
        keys.append(current().idempotency_key)
        raise NoRoom("no room")

    def look() -> str:
        seen.append(current().failure)
        return ""

    engine = run(
        lambda _: [
            Step("book", fail).or_else(
                "no room",
                Step("look", look, into="found"),
                Wait("for a call", On("call", lambda: look(), Step("then", look, into="found"))),  # noqa: PLW0108
                Go("beside", Step("too", look, into="found")),
            ),
            Step("behind", look, into="found"),
        ],
        monkeypatch,
    )
    engine.callback("1", "call")
    assert engine.get("1").status is Status.FINISHED
    failure = Failure("book", "NoRoom", "no room", keys[0])
    assert sorted(map(str, seen)) == sorted(map(str, [failure] * 4 + [None]))


def test_each_branch_takes_its_kind_of_error_and_what_fits_none_parks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def branches(action: Any) -> Any:
        return lambda self: [
            Step("book", getattr(self, action), retry=Retry(attempts=1))
            .or_else("no room", Finish("no room"), on=NoRoom)
            .or_else("no line", Finish("no line"), on=(OSError, LookupError))
        ]

    assert run(branches("fail"), monkeypatch).get("1").result == "no room"
    assert run(branches("unreachable"), monkeypatch).get("1").result == "no line"
    monkeypatch.setattr(Trip, "unreachable", lambda _: 1 / 0)
    snapshot = run(branches("unreachable"), monkeypatch).get("1")
    assert (snapshot.status, snapshot.error) == (
        Status.PARKED,
        "book: ZeroDivisionError: division by zero",
    )


@pytest.mark.parametrize(
    ("group", "result"),
    [
        ([NoRoom("a"), NoRoom("b")], "no room"),
        ([NoRoom("a"), OSError("b")], "anything"),
    ],
)
def test_a_group_fits_when_all_in_it_do(
    group: list[Exception], result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ExceptionGroup("several", group)

    engine = run(
        lambda _: [
            Step("book", fail)
            .or_else("no room", Finish("no room"), on=NoRoom)
            .or_else("anything", Finish("anything"))
        ],
        monkeypatch,
    )
    assert engine.get("1").result == result


def test_a_step_that_calls_exit_gives_up_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave() -> None:
        raise SystemExit(3)

    engine = run(
        lambda _: [Step("book", leave, retry=Retry(attempts=1)).or_else("left", Finish("left"))], monkeypatch
    )
    assert engine.get("1").result == "left"


def test_a_step_with_into_has_a_branch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(
        lambda self: [Step("find", self.find, into="found").or_else("none", Step("note", self.note))],
        monkeypatch,
    )
    assert engine.get("1").state.log == ["note after find"]


def test_what_fails_in_a_branch_can_have_one_of_its_own_and_else_parks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = run(
        lambda self: [
            Step("book", self.fail).or_else(
                "no room",
                Step("ask again", self.fail).or_else("no answer", Step("inner", self.note)),
                Step("outer", self.note),
                Step("undo", self.fail),
            ),
        ],
        monkeypatch,
    )
    snapshot = engine.get("1")
    assert snapshot.state.log == ["inner after ask again", "outer after book"]
    assert (snapshot.status, snapshot.error) == (Status.PARKED, "undo: NoRoom: no room")
    monkeypatch.setattr(Trip, "fail", Trip.note)
    assert engine.retry("1").state.log[-1] == "undo after book"
    assert engine.get("1").status is Status.FINISHED


def test_a_branch_is_left_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(
        lambda self: [
            For("rooms", True, Step("book", self.fail).or_else("none", Break()), Step("never", self.note)),
            Scope(
                "later",
                Step("book", self.fail).or_else("nothing"),
                Step("again", self.fail).or_else("none", If(bool(self.log), "x", Step("no", self.note))),
            ),
            Go("beside", Step("b", self.fail).or_else("none", Step("c", self.note))),
            Step("end", self.note),
        ],
        monkeypatch,
    )
    assert engine.get("1").status is Status.FINISHED
    assert engine.get("1").state.log == ["end", "c after b"]


def test_the_branch_of_an_event_tears_down_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Noted.take()
    engine = run(
        lambda self: [
            Step("book", self.fail).or_else(
                "ask", Wait("for one", On("task", Task()), On("late", Timeout(minutes=1), Finish("late")))
            )
        ],
        monkeypatch,
    )
    assert engine.get("1").waiting_for == ["task", "late"]
    engine.advance(minutes=1)
    assert engine.get("1").result == "late"
    assert [line.split(" with")[0] for line in Noted.take()] == ["task set up", "task torn down"]


def test_a_branch_that_cannot_be_entered_parks_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(
        lambda self: [
            Step("book", self.fail).or_else("no room", If(lambda: 1 / 0 > 1, "never", Step("n", self.note))),
        ],
        monkeypatch,
    )
    snapshot = engine.get("1")
    assert snapshot.status is Status.PARKED
    assert snapshot.threads["main"].at == "book"
    assert "ZeroDivisionError" in (snapshot.error or "")
    assert snapshot.state.log == []


def test_the_error_is_stored_with_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Trip,
        "statements",
        lambda self: [
            Step("book", self.fail).or_else("no room", Step("undo", self.unreachable, retry=TWICE)),
        ],
    )
    store = MemoryStore()
    engine_on(store, Trip).start(Trip(), workflow_id="1")
    monkeypatch.setattr(Trip, "unreachable", Trip.note)
    settle(engine_on(store, Trip))  # another process goes on
    assert engine_on(store, Trip).get("1").state.log == ["undo after book"]


def test_a_move_out_of_the_branch_leaves_the_error_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(
        lambda self: [
            Step("book", self.fail).or_else("no room", Step("undo", self.fail)),
            Step("end", self.note),
        ],
        monkeypatch,
    )
    assert engine.get("1").threads["main"].at == "undo"
    assert engine.move("1", "main", "end").state.log == ["end"]


def test_a_renamed_step_keeps_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    monkeypatch.setattr(
        Trip, "statements", lambda self: [Step("book", self.fail).or_else("x", Step("undo", self.fail))]
    )
    engine_on(store, Trip).start(Trip(), workflow_id="1")
    monkeypatch.setattr(
        Trip,
        "statements",
        lambda self: [
            Step("reserve", self.note, aliases=("book",)).or_else(
                "x", Step("undo", self.note), Step("more", self.note)
            )
        ],
    )
    engine = engine_on(store, Trip)
    assert engine.retry("1").state.log == ["undo after book", "more after book"]


def test_a_deploy_that_drops_the_branch_is_told_of_who_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(
        lambda self: [Step("book", self.fail).or_else("no room", Step("undo", self.fail))], monkeypatch
    )
    assert check(Trip, live_positions(engine.store, "Trip")) == []
    monkeypatch.setattr(Trip, "statements", lambda self: [Step("book", self.fail)])
    (problem,) = check(Trip, live_positions(engine.store, "Trip"))
    assert "undo" in problem.message


def test_a_failure_with_a_branch_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stepmark"):
        run(lambda self: [Step("book", self.fail).or_else("no room")], monkeypatch)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no room" not in caplog.text


def test_describe_and_diagram_show_the_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Trip,
        "statements",
        lambda self: [
            Step("book", self.note)
            .or_else("no room", Step("undo", self.note), on=NoRoom)
            .or_else("else", Finish("end"))
        ],
    )
    (step,) = describe(Trip)["statements"]
    assert step["orElse"] == [
        {
            "name": "no room",
            "on": ["NoRoom"],
            "statements": [{"kind": "Step", "name": "undo", "action": "note"}],
        },
        {"name": "else", "on": ["Exception"], "statements": [{"kind": "Finish"}]},
    ]
    drawn = to_mermaid(Trip)
    assert 'n1 -- "no room" --> n2' in drawn
    assert 'n1 -- "else" --> n3' in drawn
    assert "n1 --> finish" in drawn
    assert "n2 --> finish" in drawn


def test_what_is_wrong_with_a_branch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step("book", print)
    with pytest.raises(ValueError, match="'late' comes after a branch for every error"):
        step.or_else("all").or_else("late")
    with pytest.raises(TypeError, match="as after `except`"):
        step.or_else("all", on="OSError")  # type: ignore[arg-type]
    for wrong, message in (
        (step.or_else(""), "empty name"),
        (step.or_else("a", on=OSError).or_else("a"), "duplicate name 'a'"),
        (step.or_else("a", Step("book", print)), "duplicate name 'book'"),
        (step.or_else("a", Break()), "outside a loop"),
    ):
        monkeypatch.setattr(Trip, "statements", lambda _, wrong=wrong: [wrong])
        with pytest.raises(DefinitionError, match=message):
            describe(Trip)
    assert step.body == ()  # it has stayed as it was
