"""The state machine's graph is sound: `sam validate` looks at no definition that lies in its own file."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.session
import pytest

import conversation.errors
from conversation.errors import ConversationError
from tests.architecture.deployment import (
    COMPANIES,
    DEFINITION,
    DEFINITION_TEXT,
    LOOKUPS,
    SOURCES,
    STATE_MACHINE_PROPERTIES,
    Graph,
    graphs,
    states,
)

TERMINAL = {"Succeed", "Fail"}
# Step Functions Developer Guide, "Using Map state in Inline mode".
MOST_ITERATIONS_AT_ONCE = 40

# Amazon States Language, "Error names".
STATES_ERRORS = {
    "States.ALL",
    "States.BranchFailed",
    "States.DataLimitExceeded",
    "States.ExceedToleratedFailureThreshold",
    "States.HeartbeatTimeout",
    "States.IntrinsicFailure",
    "States.ItemReaderFailed",
    "States.NoChoiceMatched",
    "States.ParameterPathFailure",
    "States.Permissions",
    "States.QueryEvaluationError",
    "States.ResultPathMatchFailure",
    "States.ResultWriterFailed",
    "States.Runtime",
    "States.TaskFailed",
    "States.Timeout",
}
# What Step Functions itself adds to the errors of Lambda's Invoke.
LAMBDA_INTEGRATION_ERRORS = {
    "AWSLambdaException", "ClientExecutionTimeoutException", "SdkClientException", "Unknown",
}  # fmt: skip

every_graph = pytest.mark.parametrize("graph", list(graphs()), ids=lambda graph: graph.name)
every_task = pytest.mark.parametrize("task", states("Task").values(), ids=states("Task").keys())


def followers(state: dict[str, Any]) -> Iterator[str]:
    """Every state that may come next."""
    for key in ("Next", "Default"):
        if key in state:
            yield state[key]
    for rule in (*state.get("Choices", []), *state.get("Catch", [])):
        yield rule["Next"]


@every_graph
def test_every_next_names_a_state_and_every_state_is_reached(graph: Graph) -> None:
    reached: set[str] = set()
    ahead = [graph.start]
    while ahead:
        name = ahead.pop()
        assert name in graph.states, f"{graph.name} has no state {name!r}"
        if name not in reached:
            reached.add(name)
            ahead.extend(followers(graph.states[name]))
    assert reached == graph.states.keys()


@every_graph
def test_every_state_ends_or_goes_on(graph: Graph) -> None:
    for name, state in graph.states.items():
        ways = [key for key in ("Next", "End") if key in state]
        if state["Type"] in TERMINAL:
            assert ways == [], name
        elif state["Type"] == "Choice":
            assert ways == [], name
            assert "Default" in state, f"{name!r} may find no choice"
        else:
            assert len(ways) == 1, name


def test_state_names_are_unique_over_all_levels() -> None:
    names = [name for graph in graphs() for name in graph.states]
    assert sorted(set(names)) == sorted(names)


def test_the_whole_has_a_time_out() -> None:
    assert DEFINITION["TimeoutSeconds"] > 0


@every_task
def test_a_task_has_time_out_retry_and_catch(task: dict[str, Any]) -> None:
    assert 0 < task["TimeoutSeconds"] <= DEFINITION["TimeoutSeconds"]
    assert task["Retry"]
    assert task["Catch"]
    assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"], "whatever else goes wrong is caught last"


@every_task
def test_a_retry_fits_into_a_call(task: dict[str, Any]) -> None:
    for retry in task["Retry"]:
        assert retry["MaxAttempts"] <= 1
        assert retry.get("IntervalSeconds", 0) <= 1


@every_task
def test_a_write_that_takes_too_long_is_repeated(task: dict[str, Any]) -> None:
    """States.TaskFailed stands for every error but a time-out."""
    if task["Resource"].endswith(":updateItem"):
        repeated = {name for retry in task["Retry"] if retry["MaxAttempts"] for name in retry["ErrorEquals"]}
        assert repeated >= {"States.TaskFailed", "States.Timeout"}


@pytest.mark.parametrize("name", states("Map"))
def test_a_map_state_catches_what_its_items_do_not(name: str) -> None:
    assert states()[name]["Catch"][-1]["ErrorEquals"] == ["States.ALL"]


def error_names() -> list[str]:
    return sorted(
        {
            error
            for state in states().values()
            for rule in (*state.get("Retry", []), *state.get("Catch", []))
            for error in rule["ErrorEquals"]
        }
    )


@cache
def service_errors(service: str, operation: str) -> frozenset[str]:
    """The errors that an API operation declares."""
    model = botocore.session.get_session().get_service_model(service)
    return frozenset(shape.name for shape in model.operation_model(operation).error_shapes)


def is_real(error: str) -> bool:
    namespace, _, name = error.rpartition(".")
    match namespace:
        case "States":
            return error in STATES_ERRORS
        case "Lambda":
            return name in LAMBDA_INTEGRATION_ERRORS | service_errors("lambda", "Invoke")
        case "DynamoDB":
            return name in service_errors("dynamodb", "UpdateItem")
        case "":
            kind = getattr(conversation.errors, name, None)
            return isinstance(kind, type) and issubclass(kind, ConversationError)
        case _:
            return False


@pytest.mark.parametrize("error", error_names())
def test_every_caught_error_exists(error: str) -> None:
    assert is_real(error)


@pytest.mark.parametrize(
    "error",
    ["SourceUnavailble", "States.Timedout", "DynamoDB.ConditionFailed", "Lambda.TooMany", "Exception"],
)
def test_an_error_that_does_not_exist_is_found(error: str) -> None:
    assert not is_real(error)


def test_states_all_stands_alone() -> None:
    for name, state in states().items():
        for rules in (state.get("Retry", []), state.get("Catch", [])):
            for position, rule in enumerate(rules, start=1):
                if "States.ALL" in rule["ErrorEquals"]:
                    assert rule["ErrorEquals"] == ["States.ALL"], name
                    assert position == len(rules), name


def test_every_substitution_is_given_and_used() -> None:
    used = set(re.findall(r"\$\{([^}]*)\}", DEFINITION_TEXT))
    assert used == STATE_MACHINE_PROPERTIES["DefinitionSubstitutions"].keys()


def test_substitutions_point_at_what_they_are_called_after() -> None:
    for name, reference in STATE_MACHINE_PROPERTIES["DefinitionSubstitutions"].items():
        assert reference.name.removeprefix("AWS::") == name


def test_nothing_in_the_definition_names_an_account_or_a_region() -> None:
    assert re.findall(r"arn:[^\s\"]*?:\d{12}:|[a-z]{2}-[a-z]+-\d", DEFINITION_TEXT) == []


def test_each_company_is_asked_by_its_own_function() -> None:
    functions = {function.source: f"${{{function.logical_name}}}" for function in LOOKUPS}
    assert {company["source"]: company["function"] for company in COMPANIES} == functions


def test_no_way_leads_round_the_list_of_companies() -> None:
    """It replaces whatever an execution's input may hold in that place."""
    [(name, asking)] = states("Map").items()
    [before] = [state for state in states().values() if name in followers(state)]
    assert before["Result"] == COMPANIES
    assert before["ResultPath"] == asking["ItemsPath"]


def test_companies_are_asked_side_by_side() -> None:
    """AWS runs up to 40 iterations of an inline Map at once; 0 asks for as many as there are."""
    [asking] = states("Map").values()
    assert asking["ItemProcessor"]["ProcessorConfig"] == {"Mode": "INLINE"}
    assert asking["MaxConcurrency"] == 0
    assert len(COMPANIES) <= MOST_ITERATIONS_AT_ONCE


def test_no_state_knows_a_company() -> None:
    """Nor how many there are: a further one is one more item."""
    text = json.dumps([state for state in states().values() if state.get("Result") != COMPANIES])
    assert [source for source in SOURCES if source in text.lower()] == []
    assert re.findall(r"\$[^\"]*\[\d", text) == []


def test_every_write_may_be_repeated() -> None:
    writes = [task for task in states("Task").values() if task["Resource"].endswith("dynamodb:updateItem")]
    assert writes
    for write in writes:
        assert write["Parameters"]["ConditionExpression"]
        assert not re.search(r"\bADD\b|list_append|[+-] :", write["Parameters"]["UpdateExpression"])
