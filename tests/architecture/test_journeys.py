"""Journeys: one file and one line each, and a definition that is sound."""

import json
import re
import subprocess
import sys
from inspect import isclass
from pkgutil import resolve_name
from types import ModuleType

import pytest
from stepmark import describe, to_mermaid

from journeys.journey import Journey
from journeys.registry import JOURNEYS
from tests.architecture.deployment import FUNCTIONS_BY_FOLDER
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
    registry = (FOLDER / "registry.py").read_text().splitlines()
    lines = [line for line in registry if journey.__name__ in line or f"journeys.{name}" in line]
    assert lines == [f'    "journeys.{name}:{journey.__name__}",']


def test_the_registry_holds_journeys() -> None:
    """Its names are looked up when it is imported, where no type checker sees what they are."""
    registered: tuple[object, ...] = JOURNEYS
    assert all(isclass(journey) and issubclass(journey, Journey) for journey in registered)


@every_journey
def test_nothing_else_that_is_deployed_names_a_journey(journey: type[Journey]) -> None:
    """Else a new one would cost more than its file and its line."""
    own = {FOLDER / "registry.py", FOLDER / f"{journey.__module__.rpartition('.')[2]}.py"}
    code = [path for part in ("functions", "layers") for path in (REPOSITORY / part).rglob("*.py")]
    naming = [path for path in code if re.search(rf"\b{journey.__name__}\b", path.read_text())]
    assert set(naming) == own


def test_the_function_that_only_wakes_up_needs_no_workflow_library() -> None:
    """It carries no layer with it: a smaller package, and a cold start without pydantic."""
    layers = [layer.name for layer in FUNCTIONS_BY_FOLDER["notify_journeys"].properties["Layers"]]
    assert layers == ["JourneysLayer"]
    code = "import sys, functions.notify_journeys.app; print(*sys.modules, sep='\\n')"
    path = ":".join(str(REPOSITORY / part) for part in (".", "layers/conversation", "layers/journeys"))
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": path, "AWS_DEFAULT_REGION": "eu-west-1"}
    # The interpreter and the code are this test's own.
    finished = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    assert {"stepmark", "pydantic"} & set(finished.stdout.split()) == set()


def test_no_shipped_event_has_a_name_that_a_path_spoils() -> None:
    """A gateway that has decoded the path already would have a name with %41 in it read as another one."""
    names = [
        name
        for journey in JOURNEYS
        for name in re.findall(r'"kind": "On", "name": "(.*?)"', json.dumps(describe(journey)))
    ]
    assert names
    assert [name for name in names if "%" in name or "/" in name] == []


def test_the_page_on_journeys_shows_how_one_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file and its line, as they stand there, make a journey."""
    page = (REPOSITORY / "docs/write-a-journey.md").read_text()
    section = page[page.index("**A new journey costs one file and one line.**") :]
    source, registry = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    kept = (FOLDER / "registry.py").read_text()
    (line,) = [one for one in re.findall(r'^    "(.+)",$', registry, re.MULTILINE) if one not in kept]
    name = line.partition(":")[0]
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(source, name, "exec"), module.__dict__)  # noqa: S102 - the page is ours
    journey = resolve_name(line)
    assert issubclass(journey, Journey)
    assert f"layers/journeys/{name.replace('.', '/')}.py" in section
    assert describe(journey)["statements"]


@every_journey
def test_a_definition_can_be_described_and_drawn(journey: type[Journey]) -> None:
    assert describe(journey)["statements"]
    assert to_mermaid(journey).startswith("flowchart")
