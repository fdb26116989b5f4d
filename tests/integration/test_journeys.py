"""The retention journey through its real functions: every ending, every order, every refusal."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pytest
from stepmark import On, Retry, Section, Step, Timeout, Wait

from conversation.store import conversations
from journeys import engines, notifying, queue
from journeys.events import Attribute, Identified
from journeys.journey import Journey
from journeys.registry import JOURNEYS
from tests.support.cloud import TABLE, Cloud, deployed
from tests.support.journeys import APPROVAL, DAY, World, new_id, running
from tests.support.template import Template


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    with running(cloud) as world:
        yield world


def wait_for_supervisor(world: World, conversation_id: str, fields: dict[str, object] | None = None) -> None:
    world.begin(conversation_id)
    assert world.start(conversation_id, fields).status == 202
    world.identify(conversation_id)
    world.settle()
    world.give_reason(conversation_id)
    world.settle()
    assert world.get(conversation_id)["waitingFor"] == ["approve", "deny", "too late"]


def test_a_supervisor_approves(world: World) -> None:
    wait_for_supervisor(world, "c1", {"offer": "two months free"})
    assert world.attributes("c1") == {
        "reason": "cancel",
        "retention": "asked",
        "retention_offer": "two months free",
        "say": "One moment, I am asking for you.",
    }
    answer = world.send("c1", "approve", APPROVAL)
    assert (answer.status, answer.body) == (200, {"output": "approved"})
    world.settle()
    ended = world.get("c1")
    assert (ended["status"], ended["result"], ended["waitingFor"]) == ("FINISHED", "approved", [])
    assert ended["state"]["decided"] == APPROVAL
    assert world.attributes("c1")["retention"] == "approved"
    assert "two months free" in world.attributes("c1")["say"]


def test_a_supervisor_denies(world: World) -> None:
    wait_for_supervisor(world, "c1")
    assert world.send("c1", "deny", {"by": "Ada", "reason": "too late"}).body == {"output": "denied"}
    world.settle()
    assert world.get("c1")["result"] == "denied"
    assert world.attributes("c1")["retention"] == "denied"


def test_nobody_answers_for_ten_minutes(world: World) -> None:
    wait_for_supervisor(world, "c1")
    world.settle(598)
    assert world.get("c1")["status"] == "WAITING"
    world.settle(3)
    assert world.get("c1")["result"] == "timed out"
    assert world.attributes("c1")["retention"] == "timed out"


@pytest.mark.parametrize(("segment", "reason"), [("standard", "cancel"), ("vip", "billing")])
def test_others_get_no_offer(world: World, segment: str, reason: str) -> None:
    world.begin("c1", {"reason": reason})
    world.start("c1")
    world.identify("c1", segment)
    world.settle()
    assert world.get("c1")["result"] == "no offer"
    assert world.attributes("c1") == {"reason": reason, "retention": "no offer"}


@pytest.mark.parametrize("reason", ["Cancel", " CANCEL "])
def test_the_reason_counts_in_any_case(world: World, reason: str) -> None:
    world.begin("c1", {"reason": reason})
    world.start("c1")
    world.identify("c1")
    world.settle()
    assert world.attributes("c1")["retention"] == "asked"


@pytest.mark.parametrize("order", list(permutations(["start", "identify", "reason"])), ids="-".join)
@pytest.mark.parametrize("settled", [True, False], ids=["one after the other", "all before any wake-up"])
def test_the_order_does_not_matter(world: World, order: tuple[str, ...], *, settled: bool) -> None:
    world.begin("c1")
    for what in order:
        match what:
            case "start":
                assert world.start("c1").status == 202
            case "identify":
                world.identify("c1")
            case _:
                world.give_reason("c1")
        if settled:
            world.settle()
    world.settle()
    assert world.get("c1")["waitingFor"] == ["approve", "deny", "too late"]


def test_an_identification_that_nobody_concludes_ends_at_its_deadline(world: World) -> None:
    world.begin("c1")
    world.start("c1")
    world.settle()
    assert world.get("c1")["waitingFor"] == ["identified"]
    world.settle(30)
    assert world.get("c1")["result"] == "no offer"
    assert world.cloud.read("c1").body["status"] == "TIMED_OUT"


def test_a_change_that_comes_before_the_workflow_is_written_is_not_lost(world: World) -> None:
    """As when a start is slow between its two writes: its journey has no workflow to wake up yet."""
    world.begin("c1")
    conversations().join("c1", "retention", frozenset(), frozenset())
    world.identify("c1")
    world.give_reason("c1")
    world.settle(1)
    assert world.read(world.workflow_id("c1")).status == 404
    world.start("c1")
    world.settle(60)
    assert world.get("c1")["waitingFor"] == ["approve", "deny", "too late"]


def test_a_second_start_changes_nothing(world: World) -> None:
    world.begin("c1")
    first = world.start("c1", {"offer": "one month free"})
    again = world.start("c1", {"offer": "two months free"})
    assert (first.status, again.status) == (202, 200)
    assert first.body["workflowId"] == again.body["workflowId"] == world.workflow_id("c1")
    assert world.get("c1")["state"]["offer"] == "one month free"


def test_one_idempotency_key_counts_once(world: World) -> None:
    wait_for_supervisor(world, "c1")
    first = world.send("c1", "approve", APPROVAL, key="click-1")
    version = world.item("c1")["version"]
    again = world.send("c1", "approve", APPROVAL, key="click-1")
    assert (first.status, first.body) == (again.status, again.body) == (200, {"output": "approved"})
    assert world.item("c1")["version"] == version
    world.settle()
    assert world.send("c1", "approve", APPROVAL, key="click-1").body == {"output": "approved"}
    late = world.send("c1", "approve", APPROVAL, key="click-2")
    assert (late.status, late.body["error"]["code"]) == (409, "WORKFLOW_CLOSED")


def test_an_idempotency_key_belongs_to_its_event(world: World) -> None:
    wait_for_supervisor(world, "c1")
    assert world.send("c1", "deny", {"by": "Ada"}, key="form-7").status == 400
    assert world.send("c1", "approve", APPROVAL, key="form-7").body == {"output": "approved"}
    world.settle()
    refused = {event: world.send("c1", event, APPROVAL, key="form-7") for event in ("deny", "nonsense")}
    assert {event: (answer.status, answer.body["error"]["code"]) for event, answer in refused.items()} == {
        "deny": (409, "WORKFLOW_CLOSED"),
        "nonsense": (409, "WORKFLOW_CLOSED"),
    }


def test_early_events_are_kept_up_to_a_limit_that_is_the_clients_doing(world: World) -> None:
    world.begin("c1")
    world.start("c1")
    for number in range(100):
        assert world.send("c1", "approve", APPROVAL, key=str(number)).body == {"output": None}
    full = world.send("c1", "approve", APPROVAL, key="one-more")
    assert (full.status, full.body["error"]["code"]) == (409, "EVENTS_FULL")
    long = world.send("c1", "approve", {"by": "Ada", "reason": "é" * 33_000})
    assert (long.status, long.body["error"]["code"]) == (413, "REQUEST_TOO_LARGE")
    world.identify("c1", "standard")
    world.settle()
    assert world.get("c1")["result"] == "no offer"
    for number in (0, 99):  # what was kept was answered, though the journey has ended without it
        assert world.send("c1", "approve", APPROVAL, key=str(number)).body == {"output": None}


def test_what_is_refused_changes_nothing(world: World) -> None:
    wait_for_supervisor(world, "c1")
    before = world.item("c1")
    refused = {
        "a payload of the wrong type": (world.send("c1", "approve", {"by": 1, "reason": "x"}), 400),
        "no payload": (world.send("c1", "approve"), 400),
        "an unknown event": (world.send("c1", "nonsense", {}), 409),
        "an event that nobody can send": (world.send("c1", "reason", "cancel"), 409),
        "a timer": (world.send("c1", "too late"), 409),
        "no such workflow": (world.send("unknown", "approve", APPROVAL), 404),
        "no such id": (world.read("no-tilde"), 404),
        "an unknown journey": (world.start("c1", journey="nonsense"), 404),
        "an unknown conversation": (world.start("unknown"), 404),
        "an unknown field": (world.start("c1", {"segment": "vip"}), 400),
        "a field of the wrong type": (world.start("c1", {"offer": 1}), 400),
        "a text that is none": (world.start("c1", {"offer": "\ud800"}), 400),
        "a bad key": (world.send("c1", "approve", APPROVAL, key="a b"), 400),
    }
    assert {what: answer.status for what, (answer, _) in refused.items()} == {
        what: status for what, (_, status) in refused.items()
    }
    assert all(answer.body["error"]["message"] for answer, _ in refused.values())
    assert world.item("c1") == before


def test_the_caller_hangs_up(world: World) -> None:
    wait_for_supervisor(world, "c1")
    cancelled = world.cancel("c1")
    assert (cancelled.status, cancelled.body["status"]) == (200, "CANCELLED")
    assert world.cancel("c1").body["status"] == "CANCELLED"
    assert world.send("c1", "approve", APPROVAL).status == 409
    world.settle(DAY / 2)
    assert world.get("c1")["status"] == "CANCELLED"
    assert world.attributes("c1")["retention"] == "asked"
    assert "openShard" not in world.item("c1")
    assert int(world.item("c1")["expiresAt"]["N"]) > 0


def test_a_supervisor_who_answers_before_anybody_asked_is_heard(world: World) -> None:
    """stepmark keeps an event that comes before its Wait."""
    conversation_id = new_id()
    world.begin(conversation_id)
    world.start(conversation_id)
    assert world.send(conversation_id, "approve", APPROVAL, key="early").body == {"output": None}
    world.identify(conversation_id)
    world.give_reason(conversation_id)
    world.settle()
    assert world.get(conversation_id)["result"] == "approved"
    assert world.send(conversation_id, "approve", APPROVAL, key="early").body == {"output": "approved"}


def test_a_queue_that_fails_brings_back_the_records_from_there_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("c1", "c2", "c3"):
        world.begin(name)
        world.start(name)
    world.settle()
    for name in ("c1", "c2", "c3"):
        world.identify(name)
    records = world.changes()
    sent: list[str] = []

    def fail_at_the_second(wakeups: Iterable[queue.Wakeup]) -> None:
        for wakeup in wakeups:
            if len(sent) == 1:
                raise queue.QueueUnavailable("down")
            sent.append(wakeup["workflowId"])

    with monkeypatch.context() as patch:
        patch.setattr(notifying, "send", fail_at_the_second)
        answer = world.cloud.invoke("NotifyJourneysFunction", {"Records": records})
    assert sent == [world.workflow_id("c1")]
    assert answer == {"batchItemFailures": [{"itemIdentifier": records[1]["dynamodb"]["SequenceNumber"]}]}
    assert world.cloud.invoke("NotifyJourneysFunction", {"Records": records[1:]}) == {"batchItemFailures": []}
    world.settle()
    assert world.get("c1")["waitingFor"] == ["identified"]  # its message went nowhere in this test
    assert world.get("c3")["waitingFor"] == ["reason", "no reason"]


# --- what a client's values may not do ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"answer_within_seconds": -1},
        {"answer_within_seconds": 0},
        {"answer_within_seconds": 31_536_001},
        {"answer_within_seconds": 10**12},
        {"answer_within_seconds": 10**400},
        {"answer_within_seconds": True},
        {"answer_within_seconds": 1.5},
        {"answer_within_seconds": None},
        {"offer": "x" * 2_000},
        {"conversation_id": "c2"},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_a_start_with_bad_values_is_refused_and_writes_nothing(
    world: World, fields: dict[str, object]
) -> None:
    world.begin("c1")
    before = world.cloud.item("c1")
    refused = world.start("c1", fields)
    assert (refused.status, refused.body["error"]["code"]) == (400, "INVALID_REQUEST")
    assert world.cloud.item("c1") == before
    assert world.read(world.workflow_id("c1")).status == 404


def test_the_longest_offer_that_a_deployment_can_list_can_be_said() -> None:
    longest = "x" * 900
    pattern = Template.load().document["Parameters"]["RetentionOffers"]["AllowedPattern"]
    assert re.match(pattern, f"{longest},{longest}")
    assert not re.match(pattern, f"{longest},{longest}x")
    with deployed({"RetentionOffers": f"one month free, {longest}"}) as cloud, running(cloud) as world:
        wait_for_supervisor(world, "c1", {"offer": longest})
        world.send("c1", "approve", APPROVAL)
        world.settle()
        assert world.get("c1")["result"] == "approved"
        assert longest in world.attributes("c1")["say"]


@pytest.mark.parametrize("offer", ["three months free", "One month free", "<speak>free</speak>", "x", " "])
def test_an_offer_that_the_deployment_does_not_list_is_refused(world: World, offer: str) -> None:
    world.begin("c1")
    refused = world.start("c1", {"offer": offer})
    assert (refused.status, refused.body["error"]["code"]) == (400, "INVALID_REQUEST")
    assert refused.body["error"]["message"].startswith("offer: ")
    assert world.read(world.workflow_id("c1")).status == 404


def test_the_first_listed_offer_is_made_unless_the_client_names_one(world: World) -> None:
    wait_for_supervisor(world, "c1")
    assert world.attributes("c1")["retention_offer"] == "one month free"


@dataclass
class Particular(Journey, name="particular"):
    """Takes values with which it can't begin."""

    numbers: list[float] = field(default_factory=list)
    seconds: int = 1

    def definition(self) -> Section:
        return Section(Wait("a while", On("over", Timeout(seconds=self.seconds))))


@dataclass
class Broken(Journey, name="broken"):
    """Can't begin at all."""

    seconds: int = 1

    def definition(self) -> Section:
        raise RuntimeError("a defect")


def test_values_that_only_the_definition_can_judge_are_refused_and_write_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "JOURNEYS", (*JOURNEYS, Particular, Broken))
    world.begin("c1")
    before = world.cloud.item("c1")
    answers = [
        world.start("c1", fields, journey="particular")
        for fields in ({"seconds": -1}, {"numbers": [float("nan")]}, {"numbers": [1e5] * 30_000})
    ]
    assert [(answer.status, answer.body["error"]["code"]) for answer in answers] == [
        (400, "INVALID_REQUEST"),
        (400, "INVALID_REQUEST"),
        (413, "REQUEST_TOO_LARGE"),
    ]
    for fields in (
        None,
        {"seconds": 2},
    ):  # whatever the client sends: the defect is ours, and its alarm rings
        answer = world.start("c1", fields, journey="broken")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "a defect" not in answer.body["error"]["message"]
    assert world.cloud.item("c1") == before


# --- what journeys see and write of their conversation -----------------------------------------------------


@dataclass
class Onlooker(Journey, name="onlooker"):
    """Waits for what happens without wanting to know more, and writes what it is told to."""

    change: dict[str, str] = field(default_factory=dict)

    def definition(self) -> Section:
        return Section(
            Wait("for the identity", On("identified", Identified())),
            Wait("for the reason", On("reason", Attribute("reason"))),
            Step("write", self.write, retry=Retry(attempts=1)),
        )

    def write(self) -> None:
        self.write_attributes(self.change)


def look_on(world: World, change: dict[str, str]) -> dict[str, Any]:
    world.begin("c1")
    assert world.start("c1", {"change": change}, journey="onlooker").status == 202
    world.identify("c1")
    world.give_reason("c1")
    world.settle()
    found: dict[str, Any] = world.read(world.workflow_id("c1", "onlooker")).body
    return found


@pytest.fixture
def onlooker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "JOURNEYS", (*JOURNEYS, Onlooker))


@pytest.mark.usefixtures("onlooker")
def test_a_journey_can_wait_without_keeping_what_it_sees(world: World) -> None:
    seen = look_on(world, {"say": "good"})
    assert (seen["status"], seen["error"]) == ("FINISHED", None)
    start_id = world.workflow_id("c1").rpartition("~")[2]
    assert seen["state"] == {"conversation_id": "c1", "start_id": start_id, "change": {"say": "good"}}
    assert world.attributes("c1") == {"reason": "cancel", "say": "good"}


@pytest.mark.usefixtures("onlooker")
def test_a_journey_whose_conversation_is_erased_waits_until_that_would_have_expired(world: World) -> None:
    world.begin("c1")
    assert world.start("c1", journey="onlooker").status == 202
    world.cloud.dynamodb.delete_item(TableName=TABLE, Key={"conversationId": {"S": "c1"}})
    world.settle(60)
    assert world.read(world.workflow_id("c1", "onlooker")).body["waitingFor"] == ["reason"]
    world.settle(DAY)
    ended = world.read(world.workflow_id("c1", "onlooker")).body
    assert (ended["status"], ended["error"]) == ("CANCELLED", None)
    assert world.timers() == []


@pytest.mark.usefixtures("onlooker")
@pytest.mark.parametrize(
    "change",
    [{"say": "x" * 1_001}, {"a b": "x"}, {"": "x"}, {f"n{n}": "" for n in range(51)}, {"say": "a\nb"}],
    ids=["length", "name", "no name", "count", "control character"],
)
def test_a_journey_keeps_to_the_limits_of_attributes(world: World, change: dict[str, str]) -> None:
    seen = look_on(world, change)
    assert seen["status"] == "PARKED"
    assert "InvalidRequest" in seen["error"]
    assert world.attributes("c1") == {"reason": "cancel"}
