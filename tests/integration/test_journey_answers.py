"""What the journeys API answers holds no text of an exception, and what it accepts it can show."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator
from stepmark import Go, On, PayloadRefused, Retry, Section, Step, Timeout, Wait

from journeys import engines
from journeys.journey import Journey
from journeys.registry import JOURNEYS
from tests.support.cloud import WORKFLOWS, Cloud
from tests.support.journeys import World, running

QUOTED = "+4917139200, token 4111"


class CrmUnavailable(Exception):
    pass


def unknown_customer(value: str) -> str:
    if value == "no customer":
        raise ValueError(QUOTED)
    return value


@dataclass
class Note:
    customer: Annotated[str, AfterValidator(unknown_customer)]


@dataclass
class Talks(Journey, name="talks"):
    """Its functions say in their errors what they have been given."""

    heard: list[Any] = field(default_factory=list, init=False)

    def definition(self) -> Section:
        once = Retry(attempts=1)
        return Section(
            Go("beside", Step("note in the CRM", self.note, into="heard", retry=once)),
            Wait(
                "for somebody",
                On("note", self.on_note),
                On("refuse", self.on_refuse),
                On("anything", self.on_anything),
                On("too late", Timeout(days=30)),
            ),
        )

    def note(self) -> list[Any]:
        raise CrmUnavailable(QUOTED)

    def on_note(self, note: Note) -> None: ...

    def on_refuse(self, what: str) -> None:
        raise PayloadRefused(f"{QUOTED} {what}")

    def on_anything(self, what: Any) -> Any:
        return what["part"]


@pytest.fixture
def world(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(engines, "JOURNEYS", (*JOURNEYS, Talks))
    with running(cloud) as world:
        world.begin("c1")
        assert world.start("c1", journey="talks").status == 202
        world.settle()
        yield world


def test_an_error_is_answered_by_its_place_and_its_type(world: World) -> None:
    answer = world.read(world.workflow_id("c1", "talks"))
    assert answer.body["status"] == "PARKED"
    assert answer.body["error"] == "note in the CRM: CrmUnavailable"
    assert answer.body["threads"]["beside"]["error"] == "note in the CRM: CrmUnavailable"
    cancelled = world.request(
        "DELETE", "/workflows/{workflowId}", {"workflowId": world.workflow_id("c1", "talks")}
    )
    for body in (answer.body, cancelled.body):
        assert "token 4111" not in json.dumps(body)
    assert QUOTED in json.dumps(world.item("c1", "talks")) or cancelled.body["status"] == "CANCELLED"


def test_a_definition_that_fails_is_answered_so_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_self: Talks) -> Section:
        raise LookupError(QUOTED)

    monkeypatch.setattr(Talks, "definition", fails)
    answer = world.read(world.workflow_id("c1", "talks"))
    assert "token 4111" not in json.dumps(answer.body)
    engines.engine().resume(world.workflow_id("c1", "talks"))
    answer = world.read(world.workflow_id("c1", "talks"))
    assert answer.body["error"] == "definition() of Talks raised LookupError"
    assert "token 4111" not in json.dumps(answer.body)


@pytest.mark.parametrize(
    ("event", "payload", "message"),
    [
        (
            "note",
            {"customer": 1},
            "the payload does not fit event 'note': customer: Input should be a valid string",
        ),
        (
            "note",
            {"customer": "no customer"},
            "the payload does not fit event 'note': customer: is not valid",
        ),
        ("refuse", "x", "the payload does not fit the event; look at what the journey says of it"),
    ],
)
def test_a_refused_payload_is_answered_without_what_a_journeys_code_says(
    world: World, event: str, payload: object, message: str
) -> None:
    answer = world.send("c1", event, payload, journey="talks")
    assert (answer.status, answer.body["error"]["code"]) == (400, "INVALID_REQUEST")
    assert answer.body["error"]["message"] == message


def test_every_depth_that_is_accepted_can_be_shown_and_every_other_is_refused(world: World) -> None:
    """Of an untyped payload a part is answered, and so stored deeper than it came."""
    outcomes: dict[int, set[int]] = {}
    depths = [2, 50, 97, 98, 99, 100, 101, 150, *range(194, 203), 250, 254, 255, 1_000, 5_000]
    for number, depth in enumerate(depths):
        conversation_id = f"deep{number}"
        world.begin(conversation_id)
        world.start(conversation_id, journey="talks")
        world.settle()
        payload = '{"part":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"
        path = {"workflowId": world.workflow_id(conversation_id, "talks"), "event": "anything"}
        route = ("POST", "/workflows/{workflowId}/events/{event}")
        before = world.item(conversation_id, "talks")
        sent = world.request(*route, path, body=payload, headers={"Idempotency-Key": "1"})
        outcomes.setdefault(sent.status, set()).add(depth)
        if sent.status == 400:
            assert world.item(conversation_id, "talks") == before
        else:
            assert world.request(*route, path, body=payload, headers={"Idempotency-Key": "1"}) == sent
        assert world.read(path["workflowId"]).status == 200
        world.settle()
        assert world.read(path["workflowId"]).status == 200
        assert world.request("DELETE", "/workflows/{workflowId}", path).status == 200
    assert outcomes == {200: {d for d in depths if d <= 100}, 400: {d for d in depths if d > 100}}


@pytest.mark.parametrize("payload", ['{"part": 1e400}', '{"part": -1e999}', '{"part": 1' + "0" * 4_300 + "}"])
def test_a_number_that_cannot_be_shown_is_refused(world: World, payload: str) -> None:
    path = {"workflowId": world.workflow_id("c1", "talks"), "event": "anything"}
    before = world.item("c1", "talks")
    answer = world.request("POST", "/workflows/{workflowId}/events/{event}", path, body=payload)
    assert (answer.status, answer.body["error"]["code"]) == (400, "INVALID_REQUEST")
    assert world.item("c1", "talks") == before


def test_what_cannot_be_read_is_shown_as_far_as_it_can_and_is_cancelled(world: World) -> None:
    for column, text in (("progress", "{"), ("state", "[" * 100_000)):
        conversation_id = f"bad-{column}"
        world.begin(conversation_id)
        world.start(conversation_id, journey="talks")
        spoilt = {**world.item(conversation_id, "talks"), column: {"S": text}}
        world.cloud.dynamodb.put_item(TableName=WORKFLOWS, Item=spoilt)
        workflow_id = world.workflow_id(conversation_id, "talks")
        world.settle()
        assert world.read(workflow_id).body["status"] == "PARKED"
        assert world.send(conversation_id, "anything", {}, journey="talks").status == 503
        assert world.sweep() == 0
        answer = world.request("DELETE", "/workflows/{workflowId}", {"workflowId": workflow_id})
        assert (answer.status, answer.body["status"]) == (200, "CANCELLED")
    assert world.dead_letters() == []


def test_a_journey_that_is_over_leaves_no_schedule(world: World) -> None:
    for number in range(3):
        world.begin(f"c{number}x")
        world.start(f"c{number}x", journey="talks")
        world.settle()
    assert len(world.timers()) == 4
    world.send("c0x", "anything", {"part": 1}, journey="talks")
    world.request("DELETE", "/workflows/{workflowId}", {"workflowId": world.workflow_id("c1x", "talks")})
    world.settle()
    # Parked, as its note in the CRM has failed, and so still to be ended with its conversation.
    assert world.read(world.workflow_id("c0x", "talks")).body["status"] == "PARKED"
    left = {json.loads(each.target["Input"])["workflowId"] for _, each in world.timers()}
    assert left == {world.workflow_id(each, "talks") for each in ("c0x", "c1", "c2x")}
