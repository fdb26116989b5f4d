"""Every alarm over a metric of our own watches what the functions really emit: name, dimensions and all."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from stepmark import On, Section, Step, Wait

from conversation import aws
from conversation.errors import InvalidRequest
from conversation.observability import logger
from journeys import engines
from journeys.journey import Journey
from journeys.registry import JOURNEYS
from tests.support.cloud import STACK, Cloud, lookup_function
from tests.support.faults import failing, refused
from tests.support.journeys import World, running
from tests.support.template import Template, Text

NAMESPACE = f"Meanwhile/{STACK}"
# Those over what the functions emit; the access log's have a filter, and so no dimension.
ALARMS = {
    name: one["Properties"]
    for name, one in Template.load().document["Resources"].items()
    if one["Type"] == "AWS::CloudWatch::Alarm"
    and one["Properties"].get("Namespace") == Text("Meanwhile/${AWS::StackName}")
    and "Dimensions" in one["Properties"]
}

type Metric = tuple[str, frozenset[tuple[str, str]]]


def watched(alarm: Mapping[str, Any]) -> Metric:
    dimensions = alarm.get("Dimensions", [])
    return alarm["MetricName"], frozenset((one["Name"], one["Value"]) for one in dimensions)


def emitted(lines: str) -> dict[Metric, float]:
    """The metrics in what functions have written, as CloudWatch reads them, and their sums."""
    sums: dict[Metric, float] = {}
    for line in lines.splitlines():
        document = json.loads(line) if line.startswith("{") else {}
        for directive in document.get("_aws", {}).get("CloudWatchMetrics", []):
            assert directive["Namespace"] == NAMESPACE
            for names in directive["Dimensions"]:
                dimensions = frozenset((name, document[name]) for name in names)
                for metric in directive["Metrics"]:
                    key = metric["Name"], dimensions
                    sums[key] = sums.get(key, 0) + sum(document[metric["Name"]])
    return sums


@dataclass
class Fragile(Journey, name="fragile"):
    """Parks at its step; its event's handler fails; a deployment may rename what it waits at."""

    place: ClassVar[str] = "for somebody"
    wait: bool = True

    def definition(self) -> Section:
        if self.wait:
            return Section(Wait(self.place, On("go", self.on_go)))
        return Section(Step("fail", self.fail))

    def on_go(self) -> None:
        raise LookupError("card 4111 1111 1111 1111")

    def fail(self) -> None:
        raise InvalidRequest("no attempt will help")


@pytest.fixture
def world(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Every function emits under its own name, as on AWS."""
    monkeypatch.setattr(engines, "JOURNEYS", (*JOURNEYS, Fragile))
    call = cloud.call

    def call_as_itself(name: str, event: Any, **environment: str) -> Any:
        service = cloud.functions[name].environment["POWERTOOLS_SERVICE_NAME"]
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", service)
        return call(name, event, **environment)

    monkeypatch.setattr(cloud, "call", call_as_itself)
    with running(cloud) as world:
        world.begin("c1")
        yield world


def look_up_in_vain(source: str) -> Callable[[World], None]:
    def deed(world: World) -> None:
        number = {
            "conversationId": "c1",
            "callerNumber": "+33612345678",
            "deadlineAt": "2099-01-01T00:00:00.000Z",
        }
        with pytest.raises(Exception, match=source):
            world.cloud.call(lookup_function(source), number)

    return deed


def read_late(world: World) -> None:
    world.clock.pass_by(60)
    assert world.cloud.read("c1").body["status"] == "TIMED_OUT"


def park_in_a_step(world: World) -> None:
    world.start("c1", {"wait": False}, journey="fragile")
    world.settle(600)
    assert world.read(world.workflow_id("c1", "fragile")).body["status"] == "PARKED"


def fail_at_an_event(world: World) -> None:
    world.start("c1", journey="fragile")
    assert world.send("c1", "go", journey="fragile").status == 409


def lose_a_wake_up(world: World) -> None:
    world.start("c1", {"wait": False}, journey="fragile")
    world.messages()  # nobody gets them
    world.clock.pass_by(100)
    assert world.sweep() == 1


DEEDS: dict[str, Callable[[World], None]] = {
    **{
        name: look_up_in_vain(name.removesuffix("UnavailableAlarm").lower())
        for name in ALARMS
        if name.endswith("UnavailableAlarm")
    },
    "IdentificationTimedOutAlarm": read_late,
    "JourneyParkedAlarm": park_in_a_step,
    "JourneyFailedAlarm": fail_at_an_event,
    "JourneyOverdueAlarm": lose_a_wake_up,
}


@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm_watches_what_is_emitted(
    world: World, capsys: pytest.CaptureFixture[str], alarm: str
) -> None:
    capsys.readouterr()
    DEEDS[alarm](world)
    found = emitted(capsys.readouterr().out)
    assert found.get(watched(ALARMS[alarm])) == 1.0, f"emitted was {found}"


def test_an_event_whose_wait_is_gone_parks_the_journey_and_rings_the_alarm(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender's function runs nothing but the event's delivery; it leaves the parking to run_journey."""
    world.start("c1", journey="fragile")
    world.settle()
    monkeypatch.setattr(Fragile, "place", "for somebody else")
    capsys.readouterr()
    world.send("c1", "go", journey="fragile")
    world.settle()
    assert emitted(capsys.readouterr().out)[watched(ALARMS["JourneyParkedAlarm"])] == 1.0
    assert world.read(world.workflow_id("c1", "fragile")).body["status"] == "PARKED"


def test_a_wake_up_that_fails_rings_the_alarm_too(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Lambda does not count it as an error: the function hands the message back."""
    world.start("c1", {"wait": False}, journey="fragile")
    capsys.readouterr()
    with failing(aws.dynamodb(), "GetItem", "before", times=1, error=refused("InternalServerError")):
        world.settle()
    assert emitted(capsys.readouterr().out)[watched(ALARMS["JourneyFailedAlarm"])] == 1.0


def test_an_error_is_logged_by_its_type_and_place_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    fail_at_an_event(world)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (line,) = [line for line in lines if line.get("message") == "journey failed"]
    assert (line["workflow_id"], line["conversation_id"]) == (world.workflow_id("c1", "fragile"), "c1")
    assert line["error"] == ["HandlerFailed", "LookupError"]
    assert line["code"]
    assert "4111 1111" not in json.dumps(lines)
