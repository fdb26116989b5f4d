"""What is deployed, read from the template and the tree: functions, roles, the state machine's states."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.template import REPOSITORY, Call, Template

STATE_MACHINE = "IdentifyCallerStateMachine"

DOCUMENT = Template.load().document
RESOURCES: dict[str, dict[str, Any]] = DOCUMENT["Resources"]


@dataclass(frozen=True)
class Function:
    """A Lambda function: its name in the template, its folder, its properties with those of Globals."""

    logical_name: str
    folder: str
    properties: dict[str, Any]

    @property
    def layers(self) -> list[str]:
        """Its layers by their names in the template: those of all functions, then its own."""
        of_all = DOCUMENT["Globals"]["Function"]["Layers"]
        own = self.properties["Layers"]
        return [layer.name for layer in (of_all if own == of_all else [*of_all, *own])]

    @property
    def name(self) -> str:
        """What it is called in logs and metrics: its folder, or the company's lookup."""
        return str(self.properties["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"])

    @property
    def source(self) -> str:
        """The company that it asks, if it is a lookup function; else an empty string."""
        return str(self.properties["Environment"]["Variables"].get("SOURCE", ""))


FUNCTIONS = [
    Function(
        name,
        str(resource["Properties"]["CodeUri"]).removeprefix("functions/"),
        {**DOCUMENT["Globals"]["Function"], **resource["Properties"]},
    )
    for name, resource in RESOURCES.items()
    if resource["Type"] == "AWS::Serverless::Function"
]
FUNCTIONS_BY_FOLDER = {function.folder: function for function in FUNCTIONS}
LOOKUPS = [function for function in FUNCTIONS if function.source]
SOURCES = sorted(function.source for function in LOOKUPS)

STATE_MACHINE_PROPERTIES = RESOURCES[STATE_MACHINE]["Properties"]
DEFINITION_TEXT = (REPOSITORY / STATE_MACHINE_PROPERTIES["DefinitionUri"]).read_text()
DEFINITION: dict[str, Any] = json.loads(DEFINITION_TEXT)
# Each with its `source` and, as a substitution, its `function`.
COMPANIES: list[dict[str, str]] = DEFINITION["States"]["Name the companies"]["Result"]


def events(function: Function) -> list[dict[str, Any]]:
    """The API events that call the function: `Path` and `Method` are among their properties."""
    return [
        event["Properties"]
        for event in function.properties.get("Events", {}).values()
        if event["Type"] == "Api"
    ]


def statements(role: str) -> list[dict[str, Any]]:
    """All statements of a role's own policies, each action and resource in a list."""
    properties = RESOURCES[role]["Properties"]
    return [
        {**statement, "Action": _listed(statement["Action"]), "Resource": _listed(statement["Resource"])}
        for policy in properties.get("Policies", [])
        for statement in if_so(policy)["PolicyDocument"]["Statement"]
    ]


def if_so(value: Any) -> Any:
    """What stands there when its condition is true."""
    return value.arguments[1] if isinstance(value, Call) else value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class Graph:
    """One level of the state machine: the whole, or what a Map state does with each item."""

    name: str
    start: str
    states: dict[str, dict[str, Any]]


def graphs(definition: dict[str, Any] = DEFINITION, name: str = "the state machine") -> Iterator[Graph]:
    """The state machine's own level and those inside its Map states."""
    yield Graph(name, definition["StartAt"], definition["States"])
    for state_name, state in definition["States"].items():
        assert "Branches" not in state, "a Parallel state's branches would be levels too"
        if "ItemProcessor" in state:
            yield from graphs(state["ItemProcessor"], f"each item of {state_name!r}")


def states(kind: str | None = None) -> dict[str, dict[str, Any]]:
    """All states of all levels by name, or those of one type."""
    return {
        name: state
        for graph in graphs()
        for name, state in graph.states.items()
        if kind is None or state["Type"] == kind
    }
