"""events/ holds an event for each function, and only such."""

import json
import re
from typing import Any

import pytest

from conversation.sources.lookup import LookupEvent
from tests.architecture.deployment import FUNCTIONS, FUNCTIONS_BY_FOLDER, LOOKUPS, Function, events
from tests.support.template import REPOSITORY

FILES = sorted((REPOSITORY / "events").iterdir())


def function_of(name: str) -> str:
    """`start_identification.withheld.json` is a case of start_identification."""
    return name.partition(".")[0]


def load(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((REPOSITORY / "events" / name).read_text())
    return event


@pytest.mark.parametrize("name", [path.name for path in FILES])
def test_every_event_belongs_to_a_function(name: str) -> None:
    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)?\.json", name)
    assert function_of(name) in FUNCTIONS_BY_FOLDER
    assert load(name)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_every_function_has_an_event(function: Function) -> None:
    assert f"{function.folder}.json" in {path.name for path in FILES}


OF_API = [path.name for path in FILES if events(FUNCTIONS_BY_FOLDER[function_of(path.name)])]


@pytest.mark.parametrize("name", OF_API)
def test_an_api_event_is_one_of_its_route(name: str) -> None:
    event = load(name)
    routes = {(route["Path"], route["Method"]) for route in events(FUNCTIONS_BY_FOLDER[function_of(name)])}
    assert (event["resource"], event["httpMethod"]) in routes
    assert set(event["pathParameters"] or {}) == set(re.findall(r"\{(\w+)\}", event["resource"]))
    assert event["path"] == event["resource"].format(**(event["pathParameters"] or {}))


def test_every_route_has_an_event() -> None:
    routes = {(route["Path"], route["Method"]) for function in FUNCTIONS for route in events(function)}
    assert {(event["resource"], event["httpMethod"]) for event in map(load, OF_API)} == routes


@pytest.mark.parametrize("function", LOOKUPS, ids=lambda function: function.name)
def test_a_lookup_event_is_what_the_state_machine_sends(function: Function) -> None:
    assert load(f"{function.folder}.json").keys() == LookupEvent.__annotations__.keys()
