"""What a journey has declared as its own is written by it alone, and always finds room."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from conversation import aws
from conversation.attributes import CLIENT_ROOM, TOTAL_ROOM, check_change
from journeys.registry import JOURNEYS
from tests.support.cloud import Cloud
from tests.support.faults import at
from tests.support.journeys import APPROVAL, World, running


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    with running(cloud) as world:
        yield world


def numbered(count: int) -> dict[str, str]:
    return {f"a{index}": "x" for index in range(count)}


@pytest.mark.parametrize("change", [{"retention": "approved"}, {"say": "Hello"}, {"retention": None}])
def test_a_client_cannot_say_what_the_journey_says(world: World, change: dict[str, str | None]) -> None:
    world.begin("c1")
    assert world.cloud.set_attributes("c1", {"retention_offers": "another name"}).status == 200
    world.start("c1")
    before = world.cloud.item("c1")
    refused = world.cloud.set_attributes("c1", {"a": "b", **change})
    assert (refused.status, refused.body["error"]["code"]) == (409, "ATTRIBUTE_RESERVED")
    assert next(iter(change)) in refused.body["error"]["message"]
    assert world.cloud.item("c1") == before


def test_a_client_may_delete_what_the_ivr_has_said(world: World) -> None:
    world.begin("c1", {"reason": "cancel"})
    world.start("c1")
    world.identify("c1")
    world.settle()
    assert world.cloud.set_attributes("c1", {"say": None}).status == 200
    assert world.attributes("c1") == {
        "reason": "cancel", "retention": "asked", "retention_offer": "one month free",
    }  # fmt: skip
    world.send("c1", "approve", APPROVAL)
    world.settle()
    assert "one month free" in world.attributes("c1")["say"]


def test_what_a_client_has_said_before_is_removed_when_the_journey_starts(world: World) -> None:
    world.begin("c1", {"retention": "approved", "say": "You have won", "kept": "x"})
    assert world.start("c1").status == 202
    assert world.attributes("c1") == {"kept": "x"}
    item = world.cloud.item("c1")
    assert item is not None
    assert item["attributeBytes"] == {"N": "5"}


def test_a_repeated_start_removes_nothing_of_the_journeys(world: World) -> None:
    world.begin("c1", {"reason": "cancel"})
    world.start("c1")
    world.identify("c1")
    world.settle()
    before = world.attributes("c1")
    assert before["retention"] == "asked"
    assert world.start("c1").status == 200
    assert world.attributes("c1") == before


def test_a_client_that_is_faster_than_the_start_has_said_nothing(world: World) -> None:
    world.begin("c1")
    done: list[int] = []

    def say() -> None:
        if not done:
            done.append(1)
            done.append(world.cloud.set_attributes("c1", {"retention": "approved"}).status)

    with at(aws.dynamodb(), "UpdateItem", "before", say):
        assert world.start("c1").status == 202
    assert done == [1, 200]
    assert world.attributes("c1") == {}


def test_a_client_that_is_slower_than_the_start_is_refused(world: World) -> None:
    world.begin("c1")
    done: list[int] = []

    def start() -> None:
        if not done:
            done.append(1)
            done.append(world.start("c1").status)

    with at(aws.dynamodb(), "UpdateItem", "before", start):
        assert world.cloud.set_attributes("c1", {"retention": "approved"}).status == 409
    assert done == [1, 202]
    assert world.attributes("c1") == {}


def test_a_journey_of_a_conversation_that_clients_have_filled_still_writes(world: World) -> None:
    value = "x" * 700
    full = {"reason": "cancel"} | {f"a{index}": value for index in range(39)}
    world.begin("c1", full)
    assert world.cloud.set_attributes("c1", {"one": "more"}).status == 400
    world.start("c1")
    world.identify("c1")
    world.settle()
    world.send("c1", "approve", APPROVAL)
    world.settle()
    assert world.get("c1")["status"] == "FINISHED"
    assert world.attributes("c1")["retention"] == "approved"
    assert world.cloud.set_attributes("c1", {"a0": "y" * 700, "a1": None}).status == 200


def test_forty_clients_at_once_leave_the_journey_its_room(world: World, threads: ThreadPoolExecutor) -> None:
    world.begin("c1")
    world.start("c1")
    world.identify("c1")
    changes = [{f"a{index}": "x", f"b{index}": "x"} for index in range(40)]
    answers = list(threads.map(lambda change: world.cloud.set_attributes("c1", change).status, changes))
    assert answers.count(200) == 20
    assert set(answers) == {200, 400}


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.__workflow_name__)
def test_the_journeys_that_ship_declare_what_fits(journey: type) -> None:
    own, deletable = journey.own_attributes, journey.deletable_attributes  # type: ignore[attr-defined]
    assert deletable <= own
    assert len(own) <= TOTAL_ROOM.count - CLIENT_ROOM.count
    check_change(dict.fromkeys(own, "x" * 1_000))


@pytest.mark.parametrize("reason", ["", " ", "\u00a0"])
def test_an_empty_reason_is_none_yet(world: World, reason: str) -> None:
    world.begin("c1", {"reason": reason})
    world.start("c1")
    world.identify("c1")
    world.settle(0)
    assert world.get("c1")["waitingFor"] == ["reason", "no reason"]
    world.give_reason("c1")
    world.settle(0)
    assert world.get("c1")["waitingFor"] == ["approve", "deny", "too late"]


@pytest.mark.parametrize(
    "reason",
    [
        "cancel.",
        "Cancel!",
        " “cancel” ",
        "cancel…",
        "CANCEL?",
        "\uff43\uff41\uff4e\uff43\uff45\uff4c",
        "«cancel»",
    ],
)
def test_punctuation_is_no_other_reason(world: World, reason: str) -> None:
    world.begin("c1", {"reason": reason})
    world.start("c1")
    world.identify("c1")
    world.settle(0)
    assert world.get("c1")["waitingFor"] == ["approve", "deny", "too late"]


@pytest.mark.parametrize("reason", ["do not cancel", "cancellation fee", "cancer", "...", "billing."])
def test_other_reasons_stay_other_reasons(world: World, reason: str) -> None:
    world.begin("c1", {"reason": reason})
    world.start("c1")
    world.identify("c1")
    world.settle(0)
    assert world.get("c1")["result"] == "no offer"


def test_of_two_customers_with_one_number_none_is_offered_anything(world: World) -> None:
    world.begin("c1", {"reason": "cancel"})
    world.start("c1")
    world.identify("c1", candidates=2)
    world.settle(0)
    ended = world.get("c1")
    assert ended["result"] == "no offer"
    assert (ended["state"]["segment"], ended["state"]["customer_id"]) == ("", "")
