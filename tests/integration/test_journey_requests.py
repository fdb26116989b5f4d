"""What arrives at the journeys API is read as it was meant, and nothing of it is logged."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from stepmark import EventRefused, On, Section, Wait

from conversation.errors import StoreUnavailable
from conversation.observability import logger
from journeys import engines
from journeys.journey import Journey
from journeys.registry import JOURNEYS
from tests.support.bad_requests import bad_decisions, bad_fields
from tests.support.cloud import WORKFLOWS, Cloud
from tests.support.journeys import World, running


@dataclass
class Choosy(Journey, name="choosy"):
    """Its events have names that a path can't hold as they are, and handlers that fail."""

    heard: str = field(default="", init=False)

    def definition(self) -> Section:
        return Section(
            Wait(
                "for somebody",
                On("changed my mind", self.on_change),
                On("50% off", self.on_change),
                On("café/à la carte", self.on_change),
                On("defect", self.on_defect),
                On("outage", self.on_outage),
                On("too much", self.on_too_much),
                refuse=("goodbye",),
            ),
            Wait("for the end", On("goodbye", None)),
        )

    def on_change(self, what: str) -> str:
        self.heard = what
        return what

    def on_defect(self, what: str) -> None:
        raise LookupError(what)

    def on_outage(self, what: str) -> None:
        raise StoreUnavailable(what)

    def on_too_much(self, what: str) -> None:
        raise EventRefused(what)


@pytest.fixture
def world(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(engines, "JOURNEYS", (*JOURNEYS, Choosy))
    with running(cloud) as world:
        world.begin("c1")
        assert world.start("c1", journey="choosy").status == 202
        yield world


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    return log


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


@pytest.mark.parametrize("event", ["changed my mind", "50% off", "café/à la carte"])
def test_an_event_is_found_as_the_gateway_hands_over_its_name(world: World, event: str) -> None:
    """API Gateway leaves the parts of a path encoded, and some clients encode a workflow's tilde."""
    encoded = {
        "workflowId": world.workflow_id("c1", "choosy").replace("~", "%7E"),
        "event": quote(event, safe=""),
    }
    answer = world.request("POST", "/workflows/{workflowId}/events/{event}", encoded, body='"now"')
    assert (answer.status, answer.body) == (200, {"output": "now"})
    assert world.request("GET", "/workflows/{workflowId}", encoded).body["state"]["heard"] == "now"


@pytest.mark.parametrize("event", ["changed my mind", "50% off"])
def test_an_event_is_found_where_the_gateway_has_decoded_its_name(world: World, event: str) -> None:
    """As `sam local` does."""
    assert world.send("c1", event, "now", journey="choosy").body == {"output": "now"}


def test_nothing_that_a_path_may_hold_is_an_error_of_ours(world: World) -> None:
    for strange in ("%", "%ff", "%00", "..", "a%2Fb", "", "%C0%AF", "\ud800"):
        path = {"workflowId": strange, "event": strange, "conversationId": "c1", "journey": strange}
        for method, resource in (
            ("GET", "/workflows/{workflowId}"),
            ("DELETE", "/workflows/{workflowId}"),
            ("POST", "/workflows/{workflowId}/events/{event}"),
            ("POST", "/conversations/{conversationId}/journeys/{journey}"),
        ):
            assert world.request(method, resource, path).status == 404
        event = {"workflowId": world.workflow_id("c1", "choosy"), "event": strange}
        assert world.request("POST", "/workflows/{workflowId}/events/{event}", event).status == 409


def few(function: Callable[..., None]) -> Callable[..., None]:
    """The e2e tests send more of them."""
    return settings(max_examples=100, deadline=None, database=None)(function)


def test_fields_and_payloads_that_fit_nowhere_are_refused_and_write_nothing(world: World) -> None:
    world.begin("c2", {"reason": "cancel"})
    world.start("c2")
    before = world.cloud.item("c1"), world.item("c2")

    @few
    @given(fields=bad_fields)
    def start(fields: dict[str, object]) -> None:
        assert world.start("c1", fields).status == 400

    @few
    @given(payload=bad_decisions)
    def send(payload: object) -> None:
        assert world.send("c2", "approve", payload).status == 400

    start()
    send()
    assert (world.cloud.item("c1"), world.item("c2")) == before
    assert world.read(world.workflow_id("c1", "retention")).status == 404


def test_a_handler_that_fails_changes_nothing_and_says_whether_to_come_again(
    world: World, log: io.StringIO
) -> None:
    before = world.item("c1", "choosy")
    defect = world.send("c1", "defect", "card 4111", journey="choosy")
    assert (defect.status, defect.body["error"]["code"]) == (409, "EVENT_FAILED")
    outage = world.send("c1", "outage", "card 4111", journey="choosy")
    assert (outage.status, outage.body["error"]["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert world.item("c1", "choosy") == before
    assert [line["error"][1:] for line in lines(log)] == [["LookupError"], ["StoreUnavailable"]]
    for text in (log.getvalue(), json.dumps(defect.body), json.dumps(outage.body)):
        assert "4111" not in text


def test_an_event_in_the_wrong_state_is_refused_and_nobody_is_alarmed(world: World, log: io.StringIO) -> None:
    before = world.item("c1", "choosy")
    refused = world.send("c1", "goodbye", journey="choosy")
    assert (refused.status, refused.body["error"]) == (
        409,
        {"code": "EVENT_REFUSED", "message": "event 'goodbye' is refused at 'for somebody'"},
    )
    too_much = world.send("c1", "too much", "card 4111", journey="choosy")
    assert (too_much.status, too_much.body["error"]["code"]) == (409, "EVENT_REFUSED")
    assert world.item("c1", "choosy") == before
    assert "4111" not in log.getvalue() + json.dumps(too_much.body)
    assert {line["level"] for line in lines(log)} == {"INFO"}
    assert world.send("c1", "50% off", "x", journey="choosy").status == 200
    assert world.send("c1", "goodbye", journey="choosy").status == 200


def test_a_journey_that_cannot_be_read_is_parked_and_shows_nothing(world: World, log: io.StringIO) -> None:
    """API Gateway would answer a crash the same, but Lambda would log the text of the error."""
    before = world.item("c1", "choosy")
    broken = json.loads(before["state"]["S"]) | {"heard": ["card 4111"]}
    world.cloud.dynamodb.put_item(TableName=WORKFLOWS, Item=before | {"state": {"S": json.dumps(broken)}})
    answer = world.send("c1", "50% off", "x", journey="choosy")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    parked, failed = lines(log)
    assert parked["message"] == "journey parked"
    assert (failed["message"], failed["error"][0]) == ("journey failed", "StateError")
    assert world.item("c1", "choosy")["status"] == {"S": "PARKED"}
    assert "4111" not in log.getvalue() + json.dumps(answer.body)
    world.cloud.dynamodb.put_item(TableName=WORKFLOWS, Item=before)
    assert world.send("c1", "50% off", "x", journey="choosy").status == 200


def test_what_a_client_sends_is_in_no_log_line(world: World, log: io.StringIO) -> None:
    refused = [
        world.start("c1", {"card-4111": "x"}),
        world.start("c1", {"offer": {"card-4111": "x"}}),
        world.start("c1", journey="card-4111"),
        world.send("c1", "card-4111", "x", journey="choosy"),
        world.send("c1", "defect", {"card-4111": "x"}, journey="choosy"),
        world.read("card-4111"),
    ]
    assert [answer.status for answer in refused] == [400, 400, 404, 409, 400, 404]
    assert len(lines(log)) == len(refused)
    assert "4111" not in log.getvalue()


def test_lines_about_one_conversation_say_which(world: World, log: io.StringIO) -> None:
    world.start("c1")
    world.give_reason("c1")
    world.identify("c1")
    world.settle()
    world.send("c1", "nonsense")
    world.cancel("c1")
    about_one = [line for line in lines(log) if line["message"] != "changes passed on"]
    assert len(about_one) >= 5
    assert {line.get("conversation_id") for line in about_one} == {"c1"}
    of_journeys = [line for line in about_one if line["message"] != "attributes written"]
    assert {line.get("workflow_id") for line in of_journeys} == {
        world.workflow_id("c1"),
        world.workflow_id("c1", "choosy"),
    }
