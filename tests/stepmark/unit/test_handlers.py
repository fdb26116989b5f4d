"""Handlers of every kind, in a module whose annotations are strings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import pytest
from stepmark import Handler, HandlerFailed, LookAgain, On, PayloadRefused, Section, Wait, Workflow
from stepmark.testing import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from stepmark import Request


def loud(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        return f"{function(*arguments, **named)}!"

    return wrapped


class Callee:
    """An object that can be called."""

    def __init__(self, state: Heard) -> None:
        self.state = state

    def __call__(self, number: int) -> str:
        return self.state.hear("callee", number)


@dataclass
class Heard(Workflow):
    log: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        def closure(number: int) -> str:
            return self.hear("closure", number)

        return Section(
            Wait(
                "w",
                On("method", self.on_number),
                On("partial", partial(self.hear, "partial")),
                On("partial of partial", partial(partial(self.two, "a"), "b")),
                On("partial by name", partial(self.named, by="name")),
                On("partial without payload", partial(self.hear, "fixed", 7)),
                On("decorated", self.decorated),
                On("callee", Callee(self)),
                On("closure", closure),
            )
        )

    def hear(self, who: str, number: int) -> str:
        self.log.append(who)
        return f"{who} {number + 1}"

    def on_number(self, number: int) -> str:
        return self.hear("method", number)

    def two(self, one: str, other: str, number: int) -> str:
        return self.hear(one + other, number)

    def named(self, number: int, by: str) -> str:
        return self.hear(by, number)

    @loud
    def decorated(self, number: int) -> str:
        return self.hear("decorated", number)


@pytest.mark.parametrize(
    ("event", "output"),
    [
        ("method", "method 6"),
        ("partial", "partial 6"),
        ("partial of partial", "ab 6"),
        ("partial by name", "name 6"),
        ("decorated", "decorated 6!"),
        ("callee", "callee 6"),
        ("closure", "closure 6"),
    ],
)
def test_the_payloads_annotation_is_found_whatever_kind_of_callable_a_handler_is(
    event: str, output: str
) -> None:
    engine = LocalEngine(Heard)
    engine.start(Heard(), workflow_id="1")
    with pytest.raises(PayloadRefused, match="valid integer"):
        engine.callback("1", event, "5")
    assert engine.callback("1", event, 5) == output
    assert len(engine.get("1").state.log) == 1


def test_a_partial_that_gives_everything_takes_no_payload() -> None:
    engine = LocalEngine(Heard)
    engine.start(Heard(), workflow_id="1")
    with pytest.raises(PayloadRefused, match="takes no payload"):
        engine.callback("1", "partial without payload", 5)
    assert engine.callback("1", "partial without payload") == "fixed 8"


@pytest.mark.parametrize("at", [float("nan"), float("inf"), float("-inf")])
def test_a_look_can_only_be_asked_for_at_some_time(at: float) -> None:
    with pytest.raises(ValueError, match="must be a time"):
        LookAgain(at)


class Priced(Handler[int]):
    """The annotations that say nothing of the payload are for type checkers only."""

    def handle(self, request: Request[Any], payload: int) -> Decimal | None:
        assert request.event == "handler"
        raise LookupError(payload)


@dataclass
class ForTypeCheckers(Workflow):
    def definition(self) -> Section:
        return Section(
            Wait("w", On("method", self.on_method)),
            Wait("v", On("handler", Priced())),
        )

    def on_method(self, number: int) -> Decimal | None:
        raise LookupError(number)


def test_only_the_payloads_annotation_must_be_resolved() -> None:
    engine = LocalEngine(ForTypeCheckers)
    engine.start(ForTypeCheckers(), workflow_id="1")
    for event in ("method", "handler"):
        with pytest.raises(PayloadRefused, match="valid integer"):
            engine.callback("1", event, "three")
        with pytest.raises(HandlerFailed, match="LookupError: 3"):
            engine.callback("1", event, 3)
        engine.move("1", "main", "v")


@dataclass
class Defaults(Workflow):
    log: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        made_in_a_loop = [Wait(f"w{n}", On(f"e{n}", lambda n=n: self.log.append(f"n{n}"))) for n in (1, 2)]
        return Section(*made_in_a_loop, Wait("w", On("amount", self.on_amount)), Wait("v", On("signal")))

    def on_amount(self, amount: int = 4) -> None:
        self.log.append(f"amount {amount}")


@pytest.mark.parametrize(("payload", "amount"), [(None, 4), (5, 5)])
def test_without_a_payload_a_parameter_keeps_its_default(payload: int | None, amount: int) -> None:
    engine = LocalEngine(Defaults)
    engine.start(Defaults(), workflow_id="1")
    engine.callback("1", "e1")
    engine.callback("1", "e2")
    engine.callback("1", "amount", payload)
    assert engine.get("1").state.log == ["n1", "n2", f"amount {amount}"]


@pytest.mark.parametrize(("payload", "fits"), [(None, True), ({}, True), ({"x": 1}, False), ([], False)])
def test_an_event_without_payload_takes_nothing_or_an_empty_object(payload: object, *, fits: bool) -> None:
    engine = LocalEngine(Defaults)
    engine.start(Defaults(), workflow_id="1")
    for event in ("e1", "e2", "amount"):
        engine.callback("1", event)
    if not fits:
        with pytest.raises(PayloadRefused, match="takes no payload"):
            engine.callback("1", "signal", payload)
        return
    engine.callback("1", "signal", payload)
    assert engine.get("1").status == "FINISHED"
