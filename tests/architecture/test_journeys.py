"""Journeys: one file and one line each, and a definition that is sound."""

import pytest
from stepmark import describe, to_mermaid

from journeys.journey import Journey
from journeys.registry import JOURNEYS
from tests.support.template import REPOSITORY

FOLDER = REPOSITORY / "layers/journeys/journeys"

every_journey = pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.__workflow_name__)


def test_every_journey_has_a_name_of_its_own() -> None:
    names = [journey.__workflow_name__ for journey in JOURNEYS]
    assert len(set(names)) == len(names) > 0


@every_journey
def test_a_journey_is_a_file_and_a_line(journey: type[Journey]) -> None:
    name = journey.__workflow_name__.replace("-", "_")
    assert journey.__module__ == f"journeys.{name}"
    assert (FOLDER / f"{name}.py").exists()
    registry = (FOLDER / "registry.py").read_text()
    assert registry.count(f"{journey.__name__},") == 1


@every_journey
def test_a_definition_can_be_described_and_drawn(journey: type[Journey]) -> None:
    assert describe(journey)["statements"]
    assert to_mermaid(journey).startswith("flowchart")
