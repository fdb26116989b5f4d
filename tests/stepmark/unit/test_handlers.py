"""Handlers of every kind, in a module whose annotations are strings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import pytest
from stepmark import LookAgain, On, PayloadRefused, Section, Wait, Workflow
from stepmark.testing import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Callable


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
