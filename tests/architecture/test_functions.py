"""Template and tree agree on the functions, and each function has what it needs for itself alone."""

import ast
import inspect
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from conversation import aws, waiting
from conversation.sources import alpha, lookup
from journeys import engines
from tests.architecture.deployment import (
    DEFINITION,
    DOCUMENT,
    FUNCTIONS,
    FUNCTIONS_BY_FOLDER,
    LOOKUPS,
    RESOURCES,
    SOURCES,
    Function,
    events,
    states,
)
from tests.support.template import REPOSITORY, Call, Reference

API_GATEWAY_SECONDS = 29

every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)


def test_the_template_has_the_functions_of_the_tree() -> None:
    folders = [path.name for path in (REPOSITORY / "functions").iterdir() if path.name != "__pycache__"]
    assert {function.folder for function in FUNCTIONS} == set(folders)
    assert [function.name for function in FUNCTIONS if function not in LOOKUPS] == [
        function.folder for function in FUNCTIONS if function not in LOOKUPS
    ]


def test_every_company_has_a_function_of_the_same_code() -> None:
    assert {function.folder for function in LOOKUPS} == {"look_up_caller"}
    assert sorted(function.name for function in LOOKUPS) == [f"lookup_{source}" for source in SOURCES]
    for function in LOOKUPS:
        assert function.name == f"lookup_{function.source}"


@every_function
def test_a_folder_holds_one_handler(function: Function) -> None:
    folder = REPOSITORY / "functions" / function.folder
    assert [path.name for path in folder.iterdir() if path.name != "__pycache__"] == ["app.py"]
    assert function.properties["Handler"] == "app.lambda_handler"
    defined = [node.name for node in ast.parse((folder / "app.py").read_text()).body if hasattr(node, "name")]
    assert "lambda_handler" in defined


@every_function
def test_a_function_has_a_role_of_its_own(function: Function) -> None:
    role = function.properties["Role"]
    assert RESOURCES[role.name]["Type"] == "AWS::IAM::Role"
    assert "ManagedPolicyArns" not in RESOURCES[role.name]["Properties"]
    users = [name for name, one in RESOURCES.items() if one.get("Properties", {}).get("Role") == role]
    assert users == [function.logical_name]


@every_function
def test_a_function_has_a_log_group_of_its_own(function: Function) -> None:
    group = function.properties["LoggingConfig"]["LogGroup"]
    assert RESOURCES[group.name]["Type"] == "AWS::Logs::LogGroup"
    assert [f.logical_name for f in FUNCTIONS if f.properties["LoggingConfig"]["LogGroup"] == group] == [
        function.logical_name
    ]


def test_every_log_group_forgets() -> None:
    groups = [one["Properties"] for one in RESOURCES.values() if one["Type"] == "AWS::Logs::LogGroup"]
    assert groups
    assert {group.get("RetentionInDays") for group in groups} == {Reference("LogRetentionDays")}


@every_function
def test_an_operator_hears_of_a_function_that_fails(function: Function) -> None:
    watched = Counter(
        alarm["Properties"].get("MetricName")
        for alarm in RESOURCES.values()
        if alarm["Type"] == "AWS::CloudWatch::Alarm"
        and {"Name": "FunctionName", "Value": Reference(function.logical_name)}
        in alarm["Properties"].get("Dimensions", [])
    )
    assert watched["Errors"] == 1


# --- time-outs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", LOOKUPS, ids=lambda function: function.name)
def test_a_lookup_ends_before_whoever_waits_for_it(function: Function) -> None:
    [task] = [task for task in states("Task").values() if "FunctionName.$" in task["Parameters"]]
    ends = [
        lookup.BUDGET_SECONDS,
        function.properties["Timeout"],
        task["TimeoutSeconds"],
        DEFINITION["TimeoutSeconds"],
        DOCUMENT["Parameters"]["LookupDeadlineSeconds"]["Default"],
    ]
    assert ends == sorted(set(ends))


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if events(f)], ids=lambda function: function.name)
def test_a_function_behind_the_api_ends_before_the_gateway_gives_up(function: Function) -> None:
    assert _seconds_of_one_call() < function.properties["Timeout"] < API_GATEWAY_SECONDS


def test_the_reader_ends_after_the_longest_wait() -> None:
    reader = FUNCTIONS_BY_FOLDER["read_conversation"]
    longest = waiting.MAX_SECONDS + _seconds_of_one_call()
    assert longest < reader.properties["Timeout"]


def _seconds_of_one_call() -> float:
    """How long one call to AWS takes at most, every retry included."""
    config: Any = aws.CONFIG
    seconds: float = config.connect_timeout + config.read_timeout
    return seconds * int(config.retries["total_max_attempts"])


@pytest.mark.parametrize(
    ("function", "source"),
    [
        (f, e["Properties"])
        for f in FUNCTIONS
        for e in f.properties.get("Events", {}).values()
        if e["Type"] == "SQS"
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_message_stays_hidden_while_a_function_may_work_on_it(function: Function, source: Any) -> None:
    queue = RESOURCES[source["Queue"].name]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * function.properties["Timeout"]
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["ScalingConfig"]["MaximumConcurrency"] < 1_000, "it could take the lookups' concurrency"


def test_a_lease_outlives_the_function_that_has_it() -> None:
    """Else two functions could run one workflow, each sure that it is alone."""
    for folder in ("run_journey", "journeys_api"):
        assert FUNCTIONS_BY_FOLDER[folder].properties["Timeout"] < engines.LEASE_SECONDS


def test_every_queue_keeps_dead_letters_or_is_where_they_are_kept() -> None:
    queues = {name: one["Properties"] for name, one in RESOURCES.items() if one["Type"] == "AWS::SQS::Queue"}
    dead = {
        alarm["Properties"]["Dimensions"][0]["Value"].name
        for alarm in RESOURCES.values()
        if alarm["Type"] == "AWS::CloudWatch::Alarm"
        and alarm["Properties"].get("MetricName") == "ApproximateNumberOfMessagesVisible"
        and alarm["Properties"]["Threshold"] == 1
    }
    for name, queue in queues.items():
        target = queue.get("RedrivePolicy", {}).get("deadLetterTargetArn")
        assert name in dead or target.name in dead, "nobody would hear of a dead letter"
        assert queue["SqsManagedSseEnabled"] == Call("If", ["UseKmsKey", Reference("AWS::NoValue"), True])
        assert queue["KmsMasterKeyId"] == Call(
            "If", ["UseKmsKey", Reference("KmsKeyArn"), Reference("AWS::NoValue")]
        )


# --- sources -----------------------------------------------------------------------------------------------


def test_every_source_has_a_module_a_function_and_its_lines_in_the_template() -> None:
    folder = REPOSITORY / "layers/conversation/conversation/sources"
    modules = [f"conversation.sources.{path.stem}" for path in folder.glob("[!_]*.py")]
    sources = sorted(name.rpartition(".")[2] for name in modules if hasattr(import_module(name), "look_up"))
    variables = FUNCTIONS_BY_FOLDER["start_identification"].properties["Environment"]["Variables"]
    assert sources == SOURCES
    assert sorted(variables["SOURCES"].split(",")) == SOURCES
    for source in sources:
        names = {f"{source.capitalize()}Url", f"{source.capitalize()}Secret"}
        assert names <= DOCUMENT["Parameters"].keys() | RESOURCES.keys()
        assert f"{source.capitalize()}SecretArn" in DOCUMENT["Outputs"]
        [function] = [function for function in LOOKUPS if function.source == source]
        environment = function.properties["Environment"]["Variables"]
        assert environment["SOURCE_URL"] == Reference(f"{source.capitalize()}Url")
        assert environment["SOURCE_SECRET"].name == f"{source.capitalize()}Secret"


@pytest.mark.parametrize("source", SOURCES)
def test_a_sources_module_has_what_a_lookup_calls(source: str) -> None:
    """It is imported by its name, where mypy does not look."""
    module = import_module(f"conversation.sources.{source}")
    assert issubclass(module.Secret, tuple)
    assert set(get_type_hints(module.Secret).values()) == {str}
    assert inspect.iscoroutinefunction(module.look_up)
    assert list(inspect.get_annotations(module.look_up).values()) == list(
        inspect.get_annotations(alpha.look_up).values()
    )


# --- what is packaged --------------------------------------------------------------------------------------


def test_only_functions_and_layers_are_packaged() -> None:
    packaged = [
        Path(resource["Properties"][key])
        for resource in RESOURCES.values()
        for key in ("CodeUri", "ContentUri")
        if key in resource.get("Properties", {})
    ]
    assert len(packaged) > len(FUNCTIONS)
    for path in packaged:
        assert (REPOSITORY / path).is_dir()
        assert len(path.parts) == 2
        assert path.parts[0] in {"functions", "layers"}
        outside = [link for link in (REPOSITORY / path).rglob("*") if link.is_symlink()]
        assert outside == [], "a link could reach what is not deployed"
