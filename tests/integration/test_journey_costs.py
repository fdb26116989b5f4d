"""What a journey costs: every write, read, message and invocation, counted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from stepmark import On, Section, Step, Timeout, Wait

from journeys import engines
from journeys.journey import Journey
from journeys.registry import JOURNEYS
from operations import capacity
from tests.support.cloud import Cloud
from tests.support.journeys import APPROVAL, Calls, World, calls, running

WRITE = "PutItem Workflows"
READ = "GetItem Workflows"
MESSAGE = "SendMessage"


@dataclass
class TenSteps(Journey, name="ten-steps"):
    """As many steps as the name says, a wait for a person, and as many again."""

    done: int = field(default=0, init=False)

    def definition(self) -> Section:
        def steps(part: str) -> list[Step]:
            return [Step(f"{part} {number}", self.count) for number in range(10)]

        return Section(
            *steps("before"),
            Wait("for a person", On("go", None), On("too late", Timeout(days=300))),
            *steps("after"),
        )

    def count(self) -> None:
        self.done += 1


@pytest.fixture
def world(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(engines, "JOURNEYS", (*JOURNEYS, TenSteps))
    with running(cloud) as world:
        yield world


@pytest.fixture
def seen(world: World) -> Iterator[Calls]:
    del world
    with calls() as seen:
        yield seen


def test_one_write_per_step_and_one_read_per_resume(world: World, seen: Calls) -> None:
    world.begin("c1")
    seen.clear()
    world.start("c1", journey="ten-steps")
    assert Counter(seen.made) == {"UpdateItem Conversations": 1, WRITE: 1, MESSAGE: 1}

    seen.clear()
    world.settle()
    assert Counter(seen.made) == {READ: 1, WRITE: 10, "CreateSchedule": 1}

    seen.clear()
    world.send("c1", "go", journey="ten-steps")
    assert Counter(seen.made) == {READ: 1, WRITE: 1, MESSAGE: 1}

    seen.clear()
    world.settle()
    # ... and the timer of the wait, which is a schedule for as long as that, is gone with it.
    assert Counter(seen.made) == {READ: 1, WRITE: 10, "DeleteSchedule": 1}


@pytest.mark.parametrize(
    ("given", "waits_for"),
    [({"reason": "cancel"}, "approve"), ({}, "reason")],
    ids=["for a person", "for what is observed"],
)
def test_nothing_is_written_while_waiting(
    world: World, seen: Calls, given: dict[str, str], waits_for: str
) -> None:
    world.begin("c1", given)
    world.identify("c1")
    world.start("c1")
    world.settle()
    assert waits_for in world.get("c1")["waitingFor"]
    seen.clear()
    for number in range(20):
        world.cloud.set_attributes("c1", {"note": str(number)})
        world.settle(1)
    world.sweep()
    assert seen.count(WRITE) == 0
    assert seen.count(READ) <= 20
    assert seen.count(MESSAGE) <= 20


def test_a_whole_retention_journey(world: World, seen: Calls) -> None:
    world.begin("c1")
    world.start("c1")
    world.settle()
    world.identify("c1")
    world.settle()
    world.give_reason("c1")
    world.settle()
    world.send("c1", "approve", APPROVAL)
    world.settle()
    assert world.get("c1")["result"] == "approved"
    made = Counter(seen.made)
    # The start, the identity (two: it leads to another wait for the conversation), the reason, asking, the
    # note in the CRM, approving, and telling the IVR, after which everything has ended.
    assert made == {
        WRITE: 8,
        READ: 7,
        MESSAGE: 8,
        "UpdateItem Conversations": 3,
        "GetItem Conversations": 6,
    }
    assert world.invocations == {
        "JourneysApiFunction": 3,
        "NotifyJourneysFunction": 5,
        "RunJourneyFunction": 5,
    }
    assert made[WRITE] == capacity.JOURNEY_WRITES
    assert world.invocations["JourneysApiFunction"] == capacity.JOURNEY_REQUESTS
    assert world.invocations["RunJourneyFunction"] == capacity.JOURNEY_RUNS


def test_a_conversation_without_a_journey_costs_nothing(world: World, seen: Calls) -> None:
    world.begin("c1")
    world.identify("c1")
    world.give_reason("c1")
    world.settle()
    assert seen.made == []
    assert world.invocations == {}
