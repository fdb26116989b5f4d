"""What fails on the way of a wake-up comes again by itself, or lies where an operator finds it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from stepmark import On, Section, Wait

from conversation import aws
from journeys import engines, queue
from journeys.events import Attribute
from journeys.journey import Journey
from journeys.registry import JOURNEYS
from tests.support.cloud import Cloud, _client
from tests.support.faults import failing, refused
from tests.support.journeys import World, calls, running
from tests.support.template import Template

RESUME_QUEUE = Template.load().document["Resources"]["ResumeQueue"]["Properties"]
MAX_RECEIPTS = RESUME_QUEUE["RedrivePolicy"]["maxReceiveCount"]


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    with running(cloud) as world:
        yield world


def wait_for_reason(world: World) -> None:
    world.begin("c1")
    world.start("c1")
    world.identify("c1")
    world.settle()
    assert world.get("c1")["waitingFor"] == ["reason", "no reason"]


def test_a_look_that_fails_is_repeated_within_seconds(world: World) -> None:
    wait_for_reason(world)
    world.give_reason("c1")
    down = failing(aws.dynamodb(), "GetItem", "before", times=2, error=refused("InternalServerError"))
    with down as failures:
        world.settle()
        assert failures.count == 1
        world.settle(queue.FIRST_PAUSE_SECONDS * 3 + 1)
        assert failures.count == 2
    assert world.get("c1")["waitingFor"] == ["approve", "deny", "too late"]


def test_a_look_that_is_killed_is_repeated_within_three_minutes(world: World) -> None:
    wait_for_reason(world)
    world.give_reason("c1")
    with calls() as seen:
        world.notify(world.changes())
        seen.crash_before = len(seen.made)
        world.settle(RESUME_QUEUE["VisibilityTimeout"] - 10)
        assert seen.crashed
        assert world.get("c1")["waitingFor"] == ["reason", "no reason"]
        assert world.sweep() == 0, "the sweep knows of no looks"
        world.settle(11)
    assert world.get("c1")["waitingFor"] == ["approve", "deny", "too late"]
    assert RESUME_QUEUE["VisibilityTimeout"] <= 180


def test_a_message_that_sqs_does_not_bring_back_early_comes_later(world: World) -> None:
    wait_for_reason(world)
    world.give_reason("c1")
    down = refused("InternalServerError")
    with (
        failing(aws.dynamodb(), "GetItem", "before", times=1, error=down),
        failing(aws.sqs(), "ChangeMessageVisibility", "before", error=down) as failures,
    ):
        world.settle(RESUME_QUEUE["VisibilityTimeout"] - 10)
        assert failures.count == 1
        assert world.get("c1")["waitingFor"] == ["reason", "no reason"]
        world.settle(11)
    assert world.get("c1")["waitingFor"] == ["approve", "deny", "too late"]


@dataclass
class Patient(Journey, name="patient"):
    """Waits for the reason of the call, and for nothing else."""

    reason: str = field(default="", init=False)

    def definition(self) -> Section:
        return Section(Wait("for the reason", On("reason", Attribute("reason", into="reason"))))


def test_a_wake_up_that_fails_too_often_can_be_sent_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage of a quarter of an hour: the dead-letter queue keeps what an operator sends back after it."""
    monkeypatch.setattr(engines, "JOURNEYS", (*JOURNEYS, Patient))
    world.begin("c1")
    world.start("c1", journey="patient")
    world.settle()
    world.give_reason("c1")
    with failing(aws.dynamodb(), "GetItem", "before", error=refused("InternalServerError")) as failures:
        world.settle(600)
        assert failures.count == MAX_RECEIPTS - 1, "it gave up within ten minutes"
        world.settle(300)
        assert failures.count == MAX_RECEIPTS
    world.settle(300)
    assert world.read(world.workflow_id("c1", "patient")).body["waitingFor"] == ["reason"]
    dead = world.dead_letters()
    assert len(dead) == 1

    world.send_back(dead)  # what `aws sqs start-message-move-task` does, which moto does not know
    world.settle()
    assert world.dead_letters() == []
    ended = world.read(world.workflow_id("c1", "patient")).body
    assert (ended["status"], ended["state"]["reason"]) == ("FINISHED", "cancel")


def test_what_the_stream_has_lost_is_seen_by_looking_at_all(world: World) -> None:
    names = [f"c{number}" for number in range(8)]
    for name in names:
        world.begin(name)
        world.start(name)
        world.identify(name)
    world.settle()
    world.cancel("c7")
    for name in names:
        world.give_reason(name)
    world.changes()  # lost
    with calls() as seen:
        assert world.look_at_all() == 7
    assert set(seen.made) <= {"Query Workflows", "SendMessage", "SendMessageBatch"}, "ids are enough"
    world.settle()
    waiting = [world.get(name)["waitingFor"] for name in names]
    assert waiting == [["approve", "deny", "too late"]] * 7 + [[]]


def test_a_dead_letter_that_has_become_needless_does_nothing(world: World) -> None:
    wait_for_reason(world)
    world.cancel("c1")
    world.settle()
    before = world.item("c1")
    body = json.dumps({"workflowId": world.workflow_id("c1"), "look": 1})
    _client("sqs").send_message(QueueUrl=world.queue_url(), MessageBody=body)
    world.settle()
    assert world.item("c1") == before
