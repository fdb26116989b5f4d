"""A journey that loops for ever is parked after JourneyCommitLimit steps, whoever runs it, and says so."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from stepmark import For, Section, Step

from journeys import engines
from journeys.journey import Journey
from journeys.registry import JOURNEYS
from tests.support.cloud import deployed
from tests.support.journeys import World, running

LIMIT = 100


@dataclass
class Endless(Journey, name="endless"):
    """Its loop has no end."""

    turns: int = 0

    def definition(self) -> Section:
        return Section(For("again", True, Step("turn", self.turn)))

    def turn(self) -> None:
        self.turns += 1


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(engines, "JOURNEYS", (*JOURNEYS, Endless))
    with deployed({"JourneyCommitLimit": str(LIMIT)}) as cloud, running(cloud) as world:
        yield world


def test_it_is_parked(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.begin("c1")
    world.start("c1", journey="endless")
    world.settle(600)
    journey = world.read(world.workflow_id("c1", "endless")).body
    assert journey["status"] == "PARKED"
    assert LIMIT - 5 <= journey["state"]["turns"] <= LIMIT
    assert f"{LIMIT} commits without a pause" in journey["threads"]["main"]["error"]
    assert '"JourneyParked"' in capsys.readouterr().out
