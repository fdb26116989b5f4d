"""Timers for a time: a datetime with its zone, or a function that says one when the Wait is reached."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from stepmark import (
    DefinitionError,
    Engine,
    Finish,
    MemoryStore,
    On,
    Section,
    Status,
    Step,
    Timeout,
    Wait,
    Workflow,
    WorkflowClosed,
    describe,
    to_mermaid,
)
from stepmark.testing import LocalEngine, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

BEGIN = datetime.fromtimestamp(VirtualClock().now(), UTC)
PARIS = ZoneInfo("Europe/Paris")


@dataclass
class Offer(Workflow):
    """An offer that ends at some time."""

    ends: datetime
    asked: int = 0

    def definition(self) -> Section:
        return Section(
            Step("ask", self.ask),
            Wait("for an answer", On("answer", None), On("too late", Timeout(at=self.ends), Finish("over"))),
        )

    def ask(self) -> None:
        self.asked += 1


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-11))], ids=str)
def test_it_fires_at_that_time_in_whatever_zone(zone: Any) -> None:
    engine = LocalEngine(Offer)
    engine.start(Offer(BEGIN.astimezone(zone) + timedelta(hours=3)), workflow_id="1")
    assert engine.get("1").threads["main"].due_at == BEGIN.timestamp() + 3 * 3600
    engine.advance(hours=2, minutes=59, seconds=59)
    assert engine.get("1").status is Status.WAITING
    engine.advance(seconds=1)
    assert engine.get("1").result == "over"


@pytest.mark.parametrize("ago", [timedelta(), timedelta(microseconds=1), timedelta(days=20_000)])
def test_a_time_that_has_passed_fires_at_once(ago: timedelta) -> None:
    snapshot = LocalEngine(Offer).start(Offer(BEGIN - ago))
    assert (snapshot.status, snapshot.result) == (Status.FINISHED, "over")


def test_an_event_comes_too_late_though_nobody_had_looked() -> None:
    store, clock = MemoryStore(), VirtualClock()
    engine = Engine([Offer], store=store, clock=clock)
    engine.start(Offer(BEGIN + timedelta(seconds=10)), workflow_id="1")
    clock.sleep(20)
    with pytest.raises(WorkflowClosed):
        engine.callback("1", "answer")
    assert engine.get("1").result == "over"


def test_the_hour_that_comes_twice_is_the_one_that_it_says() -> None:
    twice = datetime(2026, 10, 25, 2, 30, tzinfo=PARIS)
    first, second = Timeout(at=twice).fire_at(0), Timeout(at=twice.replace(fold=1)).fire_at(0)
    assert second - first == 3600


@dataclass
class Opening(Workflow):
    """Waits for a time that a function tells."""

    how: str
    told: int = 0

    def definition(self) -> Section:
        return Section(
            Step("count", self.count),
            Wait("for the opening", On("open", Timeout(at=self.opening))),
            Finish(5),
        )

    def count(self) -> None:
        self.told = 2

    def opening(self) -> Any:
        if self.how == "raises":
            raise LookupError("no such day")
        answers: dict[str, Any] = {
            "right": BEGIN + timedelta(hours=self.told),
            "without zone": datetime(2026, 1, 1),  # noqa: DTZ001 - that is what is refused
            "a number": 5.0,
        }
        return answers[self.how]


def test_a_function_tells_it_when_the_wait_is_reached() -> None:
    engine = LocalEngine(Opening)
    engine.start(Opening("right"), workflow_id="1")
    assert engine.get("1").threads["main"].due_at == BEGIN.timestamp() + 7200
    engine.advance(hours=2)
    assert engine.get("1").result == 5


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "LookupError: no such day"),
        ("without zone", "needs a time zone"),
        ("a number", "takes a dat"),
    ],
)
def test_a_function_that_tells_no_time_parks(how: str, said: str) -> None:
    snapshot = LocalEngine(Opening).start(Opening(how))
    assert (snapshot.status, snapshot.threads["main"].at) == (Status.PARKED, "count")
    assert "the time of event 'open' can't be told" in (snapshot.error or "")
    assert said in (snapshot.error or "")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Timeout(at=datetime(2026, 1, 1)), "needs a time zone"),  # noqa: DTZ001 - as above
        (lambda: Timeout(at=5), "takes a datetime"),  # type: ignore[arg-type]
        (lambda: Timeout(at=BEGIN, minutes=1), "not both"),
    ],
)
def test_what_is_no_time_is_refused(make: Callable[[], Timeout], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        make()


def test_a_definition_that_makes_one_without_a_zone_does_not_begin() -> None:
    with pytest.raises(DefinitionError, match="needs a time zone"):
        LocalEngine(Offer).start(Offer(datetime(2026, 1, 1)))  # noqa: DTZ001 - as above


def test_it_is_described_and_drawn() -> None:
    offer, opening = Offer(BEGIN), Opening("right")
    assert describe(offer)["statements"][1]["events"][1]["timeoutAt"] == "1970-01-12T13:46:40+00:00"
    assert describe(opening)["statements"][1]["events"][0]["timeoutAt"] == "opening"
    assert "too late (at 1970-01-12T13:46:40+00:00)" in to_mermaid(offer)
    assert "open (at opening)" in to_mermaid(opening)
