"""Roles allow what is called, on what it is called on. The e2e tests compare them with real calls."""

import re

import pytest

from tests.architecture.deployment import (
    COMPANIES,
    FUNCTIONS,
    LOOKUPS,
    RESOURCES,
    STATE_MACHINE_PROPERTIES,
    Function,
    statements,
    states,
)
from tests.support.template import REPOSITORY, Reference, Text

ROLES = [name for name, resource in RESOURCES.items() if resource["Type"] == "AWS::IAM::Role"]

# What the platforms themselves do with a role, before and after our code runs.
LAMBDA_LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
LAMBDA_TRACES = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
STEP_FUNCTIONS_LOGS = {
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
}
STEP_FUNCTIONS_TRACES = LAMBDA_TRACES | {"xray:GetSamplingRules", "xray:GetSamplingTargets"}
ANYTHING = "*"

# What a resource of the state machine calls, and the parameter that says on what.
TASK_ACTIONS = {
    "arn:${Partition}:states:::lambda:invoke": ("lambda:InvokeFunction", "FunctionName"),
    "arn:${Partition}:states:::dynamodb:updateItem": ("dynamodb:UpdateItem", "TableName"),
}


def allowed(role: str) -> set[tuple[str, object]]:
    """What a role allows, as pairs of action and resource."""
    return {
        (action, resource)
        for statement in statements(role)
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
        for resource in statement["Resource"]
    }


@pytest.mark.parametrize("role", ROLES)
def test_no_action_is_a_pattern(role: str) -> None:
    for action, _ in allowed(role):
        assert re.fullmatch(r"[a-z0-9]+:[A-Za-z]+", action)


@pytest.mark.parametrize("role", ROLES)
def test_a_resource_is_one_of_the_stack_or_everything(role: str) -> None:
    for _, resource in allowed(role):
        assert resource == ANYTHING or isinstance(resource, Reference) or is_part_of_one(resource)


def is_part_of_one(resource: object) -> bool:
    """Tell whether a `!Sub` names a resource of the stack or something of it: a table's index, an alias."""
    pattern = r"\$\{(\w+)(?:\.Arn)?\}(?:/|:live$|$)"
    names = re.findall(pattern, resource.text) if isinstance(resource, Text) else []
    return bool(names) and names[0] in RESOURCES


def test_every_resource_that_is_everything_has_a_written_reason() -> None:
    lines = (REPOSITORY / "template.yaml").read_text().splitlines()
    everything = [
        line for line in lines if re.match(r"""\s*(- )?Resource: *\[?["']?\*|\s*- *["']\*["']""", line)
    ]
    deploying = [role for role in ROLES if role.endswith("DeploymentRole")]
    of_statements = [
        s for role in ROLES if role not in deploying for s in statements(role) if ANYTHING in s["Resource"]
    ]
    in_the_loop = 2  # traces and network interfaces, said once for all companies
    in_their_loops = 2  # alarms, said once for those of journeys and once for the others
    assert len(everything) - in_their_loops == len(of_statements) - in_the_loop * (len(LOOKUPS) - 1) > 0
    assert [line for line in everything if not re.search(r"# \w.{10,}", line)] == []


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_a_function_may_write_its_own_log_and_traces_and_no_other(function: Function) -> None:
    log_group = Reference(function.properties["LoggingConfig"]["LogGroup"].name, "Arn")
    of_platform = {
        (action, resource)
        for action, resource in allowed(function.properties["Role"].name)
        if action.startswith(("logs:", "xray:"))
    }
    assert of_platform == {(action, log_group) for action in LAMBDA_LOGS} | {
        (action, ANYTHING) for action in LAMBDA_TRACES
    }


def test_the_state_machine_may_do_what_its_tasks_do() -> None:
    substitutions = STATE_MACHINE_PROPERTIES["DefinitionSubstitutions"]
    needed: set[tuple[str, object]] = set()
    for task in states("Task").values():
        action, parameter = TASK_ACTIONS[task["Resource"]]
        named = task["Parameters"].get(parameter)
        for one in [named] if named else [company["function"] for company in COMPANIES]:
            name = one.removeprefix("${").removesuffix("}")
            needed.add((action, Reference(substitutions[name].name, "Arn")))
            if (
                action == "lambda:InvokeFunction"
            ):  # with GradualDeployment its alias, and the function until then
                needed.add((action, Text(f"${{{name}.Arn}}:live")))
    needed |= {(action, ANYTHING) for action in STEP_FUNCTIONS_LOGS | STEP_FUNCTIONS_TRACES}
    assert allowed(STATE_MACHINE_PROPERTIES["Role"].name) == needed
