"""Whatever has died, at the deadline a conversation is over for every reader and for ever."""

from datetime import timedelta

import pytest

from conversation import aws, timestamps
from tests.support.clock import Clock
from tests.support.cloud import SOURCES, Answer, Cloud, identity
from tests.support.faults import at
from tests.support.machine import Machine

DEADLINE_SECONDS = 10


@pytest.fixture(autouse=True)
def _started(cloud: Cloud, machine: Machine) -> None:
    """A conversation whose execution does nothing."""
    assert machine.cloud is cloud
    assert cloud.start("6c5c").body["status"] == "ONGOING"


def test_ongoing_until_the_deadline_and_timed_out_for_ever_after(cloud: Cloud, clock: Clock) -> None:
    clock.advance(DEADLINE_SECONDS - 1)
    assert cloud.read("6c5c").body["status"] == "ONGOING"
    clock.advance(1)
    first = cloud.read("6c5c").body
    assert first["status"] == "TIMED_OUT"
    assert first["elapsedMs"] == DEADLINE_SECONDS * 1000
    assert first["identity"] is None
    assert first["sources"] == dict.fromkeys(SOURCES, "PENDING")
    for seconds in (1, 60, 3600, 19 * 3600):
        clock.advance(seconds)
        assert cloud.read("6c5c").body == first


@pytest.mark.parametrize("route", ["read", "wait", "flat", "set_attributes", "start"])
def test_no_route_shows_ongoing_after_the_deadline(route: str, cloud: Cloud, clock: Clock) -> None:
    clock.advance(DEADLINE_SECONDS)
    answer = request(cloud, route)
    assert answer.status == 200
    assert answer.body["status"] == "TIMED_OUT"
    item = cloud.item("6c5c")
    assert item is not None
    assert item["status"] == {"S": "TIMED_OUT"}, "it must be written, not only said"


@pytest.mark.parametrize(
    ("route", "slow"),
    [
        ("read", "GetItem"),
        ("wait", "GetItem"),
        ("flat", "GetItem"),
        ("set_attributes", "GetItem"),
        ("set_attributes", "UpdateItem"),
        ("start", "PutItem"),
    ],
)
def test_no_route_shows_ongoing_when_the_table_is_slow_and_the_deadline_passes_meanwhile(
    route: str, slow: str, cloud: Cloud, clock: Clock
) -> None:
    clock.advance(DEADLINE_SECONDS - 3)
    delays = iter([4.0])
    with at(aws.dynamodb(), slow, "after", lambda: clock.advance(next(delays, 0))):
        answer = request(cloud, route)
    assert (answer.status, answer.body["status"]) == (200, "TIMED_OUT")
    assert int(answer.body["elapsedMs"]) == DEADLINE_SECONDS * 1000


def test_a_start_that_takes_until_the_deadline_does_not_show_ongoing(cloud: Cloud, clock: Clock) -> None:
    with at(aws.step_functions(), "StartExecution", "after", lambda: clock.advance(DEADLINE_SECONDS)):
        answer = cloud.start("6c5d")
    assert (answer.status, answer.body["status"]) == (202, "TIMED_OUT")


def request(cloud: Cloud, route: str) -> Answer:
    return {
        "read": lambda: cloud.read("6c5c"),
        "wait": lambda: cloud.read("6c5c", wait="20"),
        "flat": lambda: cloud.read("6c5c", format="flat"),
        "set_attributes": lambda: cloud.set_attributes("6c5c", {"reason": "billing"}),
        "start": lambda: cloud.start("6c5c"),
    }[route]()


@pytest.mark.parametrize("entered", [-1, 1], ids=["entered before the deadline", "entered after it"])
def test_late_writes_of_the_state_machine_change_nothing_that_counts(
    entered: int, cloud: Cloud, machine: Machine, clock: Clock
) -> None:
    clock.advance(DEADLINE_SECONDS)
    before = cloud.read("6c5c").body
    late = timestamps.from_text(before["deadlineAt"]) + timedelta(milliseconds=entered)
    assert not machine.identify("6c5c", identity("alpha"), late)
    assert machine.keep("6c5c", identity("alpha"), late)
    assert machine.record("6c5c", "beta", "NO_MATCH", late)
    assert not machine.conclude("6c5c", "FAILED", late)
    after = cloud.read("6c5c").body
    for name in ("status", "identity", "startedAt", "deadlineAt", "elapsedMs", "attributes"):
        assert after[name] == before[name]
    assert after["otherMatches"] == {"alpha": identity("alpha")}
    assert after["sources"] == {"alpha": "MATCH", "beta": "NO_MATCH", "gamma": "PENDING"}


def test_writes_of_an_execution_whose_conversation_is_gone_bring_nothing_back(
    cloud: Cloud, machine: Machine, clock: Clock
) -> None:
    """An update of DynamoDB creates the item that it does not find, unless its condition forbids that."""
    cloud.dynamodb.delete_item(TableName="Conversations", Key={"conversationId": {"S": "6c5c"}})
    now = clock.now()
    assert not machine.identify("6c5c", identity("alpha"), now)
    assert not machine.keep("6c5c", identity("alpha"), now)
    assert not machine.record("6c5c", "beta", "NO_MATCH", now)
    assert not machine.conclude("6c5c", "NOT_FOUND", now)
    assert cloud.item("6c5c") is None


def test_attributes_are_still_written_after_the_deadline(cloud: Cloud, clock: Clock) -> None:
    clock.advance(DEADLINE_SECONDS)
    answer = cloud.set_attributes("6c5c", {"reason": "billing"})
    assert answer.body["attributes"] == {"reason": "billing"}
    assert cloud.read("6c5c").body["attributes"] == {"reason": "billing"}
