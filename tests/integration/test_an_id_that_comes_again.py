"""An id comes again: nothing of the earlier conversation is shown, said or written in the later."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conversation import aws, timestamps
from conversation.start import CLAIM_DURATION
from conversation.store import conversations
from tests.support.clock import Clock
from tests.support.cloud import SOURCES, TABLE, Cloud, identity, knows_nobody, wait_until
from tests.support.faults import at
from tests.support.journeys import APPROVAL, DAY, World, running
from tests.support.machine import Machine

FIRST, SECOND = "+33612345678", "+33639980001"
THEIRS = {"customerId": "first-customer", "displayName": "First Caller", "firstName": "First"}
SECRETS = ("first-customer", "First", "612345678", "of the first")


def first_identity(source: str = "gamma") -> dict[str, Any]:
    return {**identity(source), **THEIRS}


def erase(cloud: Cloud) -> None:
    cloud.dynamodb.delete_item(TableName=TABLE, Key={"conversationId": {"S": "c1"}})


def assert_nothing_of_the_first(document: object) -> None:
    text = json.dumps(document)
    assert [secret for secret in SECRETS if secret in text] == []


# --- the state machine's writes ----------------------------------------------------------------------------


@pytest.mark.parametrize("late", ["identify", "keep", "match", "record", "conclude"])
@pytest.mark.parametrize("second", ["ongoing", "concluded", "withheld"])
def test_a_late_write_of_the_first_execution_is_not_the_seconds(
    late: str, second: str, cloud: Cloud, machine: Machine
) -> None:
    cloud.start("c1", FIRST, {"note": "of the first"})
    start_id = cloud.item("c1")["startId"]["S"]  # type: ignore[index]
    erase(cloud)
    assert cloud.start("c1", None if second == "withheld" else SECOND).status == 202
    now = timestamps.now()
    if second == "concluded":
        assert machine.conclude("c1", "NOT_FOUND", now)
    before = cloud.item("c1")
    of_first = Machine(cloud, start_id)
    match late:
        case "identify" | "keep" | "match":
            getattr(of_first, late)("c1", first_identity(), now)
        case "record":
            assert not of_first.record("c1", "gamma", "NO_MATCH", now)
        case _:
            assert not of_first.conclude("c1", "FAILED", now)
    assert cloud.item("c1") == before
    assert_nothing_of_the_first(cloud.read("c1").body)


@pytest.mark.parametrize("order", list(itertools.permutations(["first answers", "second answers"])))
def test_an_execution_that_began_for_the_first_writes_nothing_into_the_second(
    order: tuple[str, ...], cloud: Cloud
) -> None:
    """The real state machine: the lookups of the first are still under way when the second begins."""
    released: set[str] = set()

    def look_up(event: Any) -> dict[str, object]:
        whose = "first" if event["callerNumber"] == FIRST else "second"
        wait_until(lambda: whose in released, 7)
        found = (
            first_identity() if whose == "first" else {**identity("gamma"), "customerId": "second-customer"}
        )
        return {"outcome": "MATCH", "identity": found}

    cloud.lookups.update({"alpha": knows_nobody, "beta": knows_nobody, "gamma": look_up})
    cloud.start("c1", FIRST)
    erase(cloud)
    cloud.start("c1", SECOND)
    for which in order:
        released.add(which.partition(" ")[0])
        if which.startswith("second"):
            assert cloud.wait_for_end("c1")["identity"]["customerId"] == "second-customer"
        else:
            wait_until(lambda: any(one.exec_status != "RUNNING" for one in cloud.executions()))
    cloud.wait_for_executions()
    document = cloud.read("c1").body
    assert document["status"] == "SUCCESS"
    assert document["otherMatches"] == {}
    assert_nothing_of_the_first(document)


def test_an_execution_of_the_release_before_still_counts(cloud: Cloud) -> None:
    """Conversations and executions without start ids, while a deployment is under way."""
    for source in SOURCES:
        cloud.lookups[source] = knows_nobody
    cloud.lookups["gamma"] = lambda _event: {"outcome": "MATCH", "identity": identity("gamma")}
    cloud.start("c0", FIRST)
    cloud.wait_for_executions()
    item = cloud.item("c0")
    assert item is not None
    old = {name: value for name, value in item.items() if name not in {"startId", "identity", "concludedAt"}}
    old |= {
        "conversationId": {"S": "old"},
        "status": {"S": "ONGOING"},
        "sources": {"M": {source: {"S": "PENDING"} for source in SOURCES}},
    }
    cloud.dynamodb.put_item(TableName=TABLE, Item=old)
    execution = {"conversationId": "old", "callerNumber": FIRST, "deadlineAt": item["deadlineAt"]["S"]}
    aws.step_functions().start_execution(stateMachineArn=cloud.state_machine_arn, input=json.dumps(execution))
    cloud.wait_for_executions()
    assert cloud.read("old").body["identity"]["customerId"] == identity("gamma")["customerId"]


# --- readers and writers that were under way ----------------------------------------------------------------


def start_second(cloud: Cloud) -> Callable[[], None]:
    """Erase the first and start the second, at the first of the calls that it stands in the way of."""
    left = [None]

    def do() -> None:
        if not left:
            return
        left.clear()
        erase(cloud)
        assert cloud.start("c1", SECOND, {"note": "of the second"}).status == 202

    return do


def test_a_reader_that_waits_for_the_first_is_not_shown_the_second(cloud: Cloud, machine: Machine) -> None:
    del machine
    cloud.start("c1", FIRST)
    with at(aws.dynamodb(), "GetItem", "after", start_second(cloud)):
        assert cloud.read("c1", wait="5").status == 404
    assert cloud.read("c1").body["callerNumber"] == SECOND


def test_a_reader_of_the_first_does_not_time_out_the_second(
    cloud: Cloud, machine: Machine, clock: Clock
) -> None:
    del machine
    cloud.start("c1", FIRST)
    clock.advance(11)
    with at(aws.dynamodb(), "UpdateItem", "before", start_second(cloud)):
        assert cloud.read("c1").status == 404
    assert cloud.read("c1").body["status"] == "ONGOING"


def test_a_repeated_start_of_the_first_is_not_answered_with_the_second(
    cloud: Cloud, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for another request's claim; meanwhile the id has come again with another number."""
    del machine
    cloud.start("c1", FIRST)
    cloud.dynamodb.update_item(
        TableName=TABLE,
        Key={"conversationId": {"S": "c1"}},
        UpdateExpression="REMOVE executionArn SET startClaimedUntil = :until",
        ExpressionAttributeValues={":until": {"S": timestamps.to_text(timestamps.now() + CLAIM_DURATION)}},
    )
    monkeypatch.setattr("conversation.start._POLL_SECONDS", 0.01)
    with at(aws.dynamodb(), "GetItem", "before", start_second(cloud)):
        answer = cloud.start("c1", FIRST)
    assert answer.status in {404, 409, 503}
    assert_nothing_of_the_first(cloud.read("c1").body)
    assert SECOND not in json.dumps(answer.body)


def test_attributes_that_were_meant_for_the_first_are_not_written_into_the_second(
    cloud: Cloud, machine: Machine
) -> None:
    del machine
    cloud.start("c1", FIRST)
    with at(aws.dynamodb(), "UpdateItem", "before", start_second(cloud)):
        assert cloud.set_attributes("c1", {"say": "of the first"}).status == 404
    assert cloud.read("c1").body["attributes"] == {"note": "of the second"}


def test_the_execution_of_the_first_is_not_noted_as_the_seconds(cloud: Cloud, machine: Machine) -> None:
    del machine
    with at(aws.step_functions(), "StartExecution", "after", start_second(cloud)):
        cloud.start("c1", FIRST)
    item = cloud.item("c1")
    assert item is not None
    assert item["callerNumber"] == {"S": SECOND}
    second = json.loads(cloud.executions()[-1].execution_input)
    assert item["executionArn"] == {"S": cloud.executions()[-1].exec_arn}
    assert second["startId"] == item["startId"]["S"]


# --- journeys ----------------------------------------------------------------------------------------------


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    with running(cloud) as world:
        yield world


FIRST_JOURNEY = {
    "started": [],
    "knows who calls": ["identify"],
    "waits for the supervisor": ["identify", "reason"],
    "approved": ["identify", "reason", "approve"],
    "cancelled": ["identify", "reason", "cancel"],
}


def play(world: World, steps: list[str]) -> str:
    assert world.cloud.start("c1", FIRST).status == 202
    workflow_id: str = world.start("c1").body["workflowId"]
    world.settle(0)
    for step in steps:
        match step:
            case "identify":
                world.identify("c1", customer_id="first-customer")
            case "reason":
                world.give_reason("c1")
            case "approve":
                assert world.send("c1", "approve", APPROVAL).status == 200
            case _:
                assert world.cancel("c1").status == 200
        world.settle(0)
    return workflow_id


@pytest.mark.parametrize("end", ["erased", "expired"])
@pytest.mark.parametrize("messages", ["before", "after"])
@pytest.mark.parametrize("stage", FIRST_JOURNEY)
def test_two_journeys_of_one_id_have_nothing_in_common(
    stage: str, messages: str, end: str, world: World
) -> None:
    first = play(world, FIRST_JOURNEY[stage])
    if end == "erased":
        erase(world.cloud)
    else:
        world.clock.ahead += DAY + 1
    if messages == "before":
        world.settle(5)
    assert world.cloud.start("c1", SECOND).status == 202
    second = world.start("c1", {"offer": "two months free"})
    assert second.status == 202
    assert second.body["workflowId"] != first
    world.settle(5)
    assert world.read(second.body["workflowId"]).body["waitingFor"] == ["identified"]
    assert_nothing_of_the_first(world.read(second.body["workflowId"]).body)
    world.identify("c1", customer_id="second-customer")
    world.give_reason("c1")
    world.settle(5)
    shown = world.read(second.body["workflowId"]).body
    assert (shown["state"]["customer_id"], shown["state"]["offer"]) == ("second-customer", "two months free")
    assert world.attributes("c1")["retention_offer"] == "two months free"
    assert world.send("c1", "deny", {"by": "Ada", "reason": "no"}).body == {"output": "denied"}
    world.settle(5)
    assert world.attributes("c1")["retention"] == "denied"
    # What still comes for the first one's journey: a supervisor, a timer, a look, the sweep.
    answer = world.request(
        "POST",
        "/workflows/{workflowId}/events/{event}",
        {"workflowId": first, "event": "approve"},
        body=json.dumps(APPROVAL),
    )
    assert answer.status in {200, 404, 409}
    world.settle(DAY / 2)
    world.sweep()
    world.settle(DAY / 2)
    if end == "erased":
        assert world.read(first).status in {200, 404}
    document = world.cloud.read("c1")
    if document.status == 200:
        assert document.body["attributes"]["retention"] == "denied"
        assert document.body["attributes"]["retention_offer"] == "two months free"
        assert_nothing_of_the_first(document.body)


def test_a_journey_of_the_first_finds_its_own_conversation_no_longer_kept(world: World) -> None:
    first = play(world, ["identify"])
    erase(world.cloud)
    world.cloud.start("c1", SECOND, {"reason": "cancel"})
    world.settle(60)
    shown = world.read(first).body
    assert shown["waitingFor"] == ["reason", "no reason"], "the second caller's reason is not the first's"
    world.settle(900)
    assert world.read(first).body["result"] == "no offer"
    assert world.attributes("c1") == {"reason": "cancel"}


def test_the_second_is_not_told_of_the_firsts_journey(world: World) -> None:
    first = play(world, [])
    erase(world.cloud)
    world.cloud.start("c1", SECOND)
    assert world.read(world.workflow_id("c1")).status == 404
    assert world.cancel("c1").status == 404
    assert world.send("c1", "approve", APPROVAL).status == 404
    assert world.read(first).body["waitingFor"] == ["identified"]
    item = world.cloud.item("c1")
    assert item is not None
    assert "journeys" not in item
    assert conversations().read("c1").journeys == frozenset()
