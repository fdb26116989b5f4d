"""GradualDeployment: off, all is as if there were none; on, whoever calls a function calls its alias.

AWS::LanguageExtensions, which comes before SAM's transform, puts the values of parameters and mappings into
the template; without it SAM takes no condition for an alias, and no parameter's new value for a new version.
docs/decisions/gradual-deployment.md has the sources.
"""

import graphlib
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.architecture.deployment import DOCUMENT, FUNCTIONS, LOOKUPS, Function
from tests.architecture.last_release import permissions, transform, transformed
from tests.support.template import REPOSITORY, Template

SETTINGS: list[str] = DOCUMENT["Parameters"]["GradualDeployment"]["AllowedValues"]
BY_CODEDEPLOY = [one for one in SETTINGS if one not in {"off", "AllAtOnce"}]
CANARY = "Canary10Percent10Minutes"
NAMES = [function.logical_name for function in FUNCTIONS]
# They run journeys: what one version has brought to a statement of its own, the other would park.
RUN_JOURNEYS = {"JourneysApiFunction", "RunJourneyFunction"}

each_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)


@cache
def deployed_with(setting: str) -> dict[str, Any]:
    return transformed(REPOSITORY / "template.yaml", {"GradualDeployment": setting})


def of(setting: str, kind: str) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in deployed_with(setting).items() if one["Type"] == kind}


def referred(value: Any) -> Iterator[str]:
    """The logical ids that a value refers to, however."""
    match value:
        case {"Ref": str(name)} if len(value) == 1:
            yield name
        case {"Fn::GetAtt": [str(name), *_]}:
            yield name
        case {"Fn::GetAtt": str(text)}:
            yield text.partition(".")[0]
        case {"Fn::Sub": text} if len(value) == 1:
            yield from re.findall(r"\$\{(\w+)(?:\.\w+)*\}", text if isinstance(text, str) else text[0])
            yield from referred(text[1:] if isinstance(text, list) else [])
        case dict():
            yield from referred(list(value.values()))
        case list():
            for one in value:
                yield from referred(one)


# --- off ---------------------------------------------------------------------------------------------------


def test_it_is_off_by_default() -> None:
    assert DOCUMENT["Parameters"]["GradualDeployment"]["Default"] == "off"


def test_off_there_are_neither_versions_nor_aliases_nor_deployments() -> None:
    made = {one["Type"] for one in deployed_with("off").values()}
    assert not made & {"AWS::Lambda::Version", "AWS::Lambda::Alias"}
    assert not [kind for kind in made if kind.startswith("AWS::CodeDeploy::")]
    roles = [one for name, one in deployed_with("off").items() if name.endswith("DeploymentRole")]
    assert len(roles) == len(NAMES) - len(RUN_JOURNEYS)
    assert all(one["Condition"].startswith("UseCodeDeploy") for one in roles)


def test_off_callers_call_the_functions_themselves() -> None:
    names = set(deployed_with("off"))
    for logical_id, one in deployed_with("off").items():
        # CloudFormation refuses even in a branch that is not taken what is nowhere in the template.
        unknown = set(referred(one)) - names - DOCUMENT["Parameters"].keys()
        assert {name for name in unknown if not name.startswith(("AWS::", "__"))} == set(), logical_id
    machine = deployed_with("off")["IdentifyCallerStateMachine"]["Properties"]["DefinitionSubstitutions"]
    for lookup in LOOKUPS:
        assert machine[lookup.logical_name] == {"Fn::GetAtt": [lookup.logical_name, "Arn"]}


def test_off_nobody_may_call_an_alias_or_move_one() -> None:
    document = json.loads(Template.load().as_json())
    assert document["Conditions"]["UseAliases"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "GradualDeployment"}, "off"]}]
    }
    for role in ("IdentifyCallerRole", "SweepScheduleRole"):
        for policy in deployed_with("off")[role]["Properties"]["Policies"]:
            assert (":live" in json.dumps(policy)) == (policy.get("Fn::If", [""])[0] == "UseAliases")


# --- on ----------------------------------------------------------------------------------------------------


def test_each_setting_is_in_the_mapping_and_one_of_codedeploys() -> None:
    assert DOCUMENT["Mappings"]["Deployments"].keys() == set(SETTINGS)
    for setting in SETTINGS:
        groups = of(setting, "AWS::CodeDeploy::DeploymentGroup").values()
        assert bool(groups) == (setting in BY_CODEDEPLOY)
        for group in groups:
            assert group["Properties"]["DeploymentConfigName"] == {
                "Fn::Sub": ["CodeDeployDefault.Lambda${ConfigName}", {"ConfigName": setting}]
            }


@each_function
@pytest.mark.parametrize("setting", ["AllAtOnce", CANARY])
def test_a_function_has_an_alias_that_names_its_last_version(function: Function, setting: str) -> None:
    alias = deployed_with(setting)[f"{function.logical_name}Aliaslive"]
    assert alias["Properties"]["FunctionName"] == {"Ref": function.logical_name}
    version, attribute = alias["Properties"]["FunctionVersion"]["Fn::GetAtt"]
    assert (deployed_with(setting)[version]["Type"], attribute) == ("AWS::Lambda::Version", "Version")
    # A function that is left out leaves nothing of itself behind.
    conditions = {deployed_with(setting)[name].get("Condition") for name in (function.logical_name, version)}
    assert conditions == {alias.get("Condition")}


@pytest.mark.parametrize("setting", ["AllAtOnce", CANARY])
def test_whoever_calls_a_function_calls_its_alias(setting: str) -> None:
    callers = {
        "AWS::ApiGateway::RestApi": 4,  # functions that it calls
        "AWS::Lambda::Permission": 4,
        "AWS::Lambda::EventSourceMapping": 2,
        "AWS::Scheduler::Schedule": 1,
        "AWS::StepFunctions::StateMachine": len(LOOKUPS),
    }
    for kind, called in callers.items():
        found = {name for one in of(setting, kind).values() for name in referred(one["Properties"])}
        assert not found & set(NAMES), kind
        assert len(found & {f"{name}Aliaslive" for name in NAMES}) == called, kind


def test_whoever_calls_an_alias_may() -> None:
    allowed = permissions(deployed_with(CANARY))
    for caller, called in [
        *(("IdentifyCallerStateMachine", lookup.logical_name) for lookup in LOOKUPS),
        ("SweepScheduleRole", "SweepJourneysFunction"),
    ]:
        resource = json.dumps({"Fn::Sub": f"${{{called}.Arn}}:live"})
        assert ["lambda:InvokeFunction", resource, "null"] in allowed[caller]


@pytest.mark.parametrize("setting", SETTINGS)
def test_nothing_waits_for_itself(setting: str) -> None:
    """An alias waits for its group's alarms, and they must not wait for what waits for the alias."""
    resources = deployed_with(setting)
    waits = {
        name: {other for other in referred(one) if other in resources}
        | {*([one["DependsOn"]] if isinstance(one.get("DependsOn"), str) else one.get("DependsOn", []))}
        for name, one in resources.items()
    }
    assert len(list(graphlib.TopologicalSorter(waits).static_order())) >= len(resources)


def test_the_template_stays_within_cloudformations_bounds() -> None:
    assert len(deployed_with(CANARY)) <= 500


# --- what turns a deployment back --------------------------------------------------------------------------


@each_function
def test_a_deployment_is_turned_back_by_the_functions_own_alarm(function: Function) -> None:
    """Ten alarms at most: https://docs.aws.amazon.com/codedeploy/latest/userguide/monitoring-create-alarms.html"""
    name = function.logical_name
    group = deployed_with(CANARY).get(f"{name}DeploymentGroup")
    policy = deployed_with(CANARY)[f"{name}Aliaslive"].get("UpdatePolicy")
    if name in RUN_JOURNEYS:
        assert group is policy is None
        return
    assert group is not None
    assert group.get("Condition") == deployed_with(CANARY)[name].get("Condition")
    assert policy["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"] == {"Ref": f"{name}DeploymentGroup"}
    assert group["Properties"]["AutoRollbackConfiguration"]["Enabled"] is True
    alarms = [one["Name"]["Ref"] for one in group["Properties"]["AlarmConfiguration"]["Alarms"]]
    assert len(set(alarms)) == len(alarms) <= 10
    watched = [deployed_with(CANARY)[alarm]["Properties"] for alarm in alarms]
    assert any(
        one["MetricName"] == "Errors"
        and one["Dimensions"] == [{"Name": "FunctionName", "Value": {"Ref": name}}]
        for one in watched
    )
    assert "Throttles" in {one["MetricName"] for one in watched}


def test_functions_that_run_journeys_are_watched_by_deployments_beside_them() -> None:
    for beside in ("NotifyJourneysFunction", "SweepJourneysFunction"):
        group = deployed_with(CANARY)[f"{beside}DeploymentGroup"]["Properties"]
        alarms = {one["Name"]["Ref"] for one in group["AlarmConfiguration"]["Alarms"]}
        assert {name.replace("Function", "ErrorsAlarm") for name in RUN_JOURNEYS} <= alarms


def test_functions_that_run_journeys_are_those_with_an_engine() -> None:
    with_engine = {
        function.logical_name
        for function in FUNCTIONS
        if "journeys.engines" in (REPOSITORY / f"functions/{function.folder}/app.py").read_text()
    }
    assert with_engine == RUN_JOURNEYS


@each_function
def test_codedeploy_may_move_the_functions_alias_and_nothing_else(function: Function) -> None:
    assert "CodeDeployServiceRole" not in deployed_with(CANARY), "SAM's own may move all of the account"
    name = function.logical_name
    role = name.replace("Function", "DeploymentRole")
    if name in RUN_JOURNEYS:
        assert role not in deployed_with(CANARY)
        return
    group = deployed_with(CANARY)[f"{name}DeploymentGroup"]["Properties"]
    condition = deployed_with(CANARY)[role]["Condition"]
    assert group["ServiceRoleArn"]["Fn::If"][:2] == [condition, {"Fn::GetAtt": [role, "Arn"]}]
    allowed = {(one[0], one[1]) for one in permissions(deployed_with(CANARY))[role]}
    function_itself = json.dumps({"Fn::GetAtt": [name, "Arn"]})
    alias = json.dumps({"Fn::Sub": f"${{{name}.Arn}}:live"})
    assert allowed == {
        ("sts:AssumeRole", "assumed by"),
        ("cloudwatch:DescribeAlarms", '"*"'),
        *(
            (f"lambda:{action}", resource)
            for action in ("GetAlias", "UpdateAlias", "GetProvisionedConcurrencyConfig")
            for resource in (function_itself, alias)
        ),
    }


# --- when there is a new version ---------------------------------------------------------------------------


def version_of(function: str, resources: dict[str, Any]) -> str:
    alias: dict[str, Any] = resources[f"{function}Aliaslive"]["Properties"]
    return str(alias["FunctionVersion"]["Fn::GetAtt"][0])


@cache
def deployed_on_aws(changed: str = "", layers: str = "s3://bucket/layer") -> dict[str, Any]:
    """What SAM makes of what AWS::LanguageExtensions leaves: values instead of parameters."""
    parameters = {"GradualDeployment": CANARY, **({changed: "7"} if changed else {})}
    template = json.loads(Template.read(REPOSITORY / "template.yaml", parameters).as_json())
    values = {
        name: str(one.get("Default", name)) for name, one in template["Parameters"].items()
    } | parameters
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::LayerVersion":
            resource["Properties"]["ContentUri"] = layers
        resource["Properties"] = with_values(resource.get("Properties", {}), values)
    return transform(json.dumps(template), parameters)


def with_values(value: Any, values: dict[str, str]) -> Any:
    match value:
        case {"Ref": str(name)} if len(value) == 1:
            return values.get(name, value)
        case {"Fn::Sub": str(text)} if len(value) == 1:
            return {"Fn::Sub": re.sub(r"\$\{(\w+)\}", lambda one: values.get(one[1], one[0]), text)}
        case dict():
            return {key: with_values(inner, values) for key, inner in value.items()}
        case list():
            return [with_values(inner, values) for inner in value]
        case _:
            return value


USED = {
    name: [
        function.logical_name
        for function in FUNCTIONS
        if name in referred(deployed_with("off")[function.logical_name]["Properties"])
    ]
    # Architecture stands under Globals, which AWS::LanguageExtensions leaves as they are.
    for name in DOCUMENT["Parameters"].keys() - {"GradualDeployment", "Architecture"}
}


@pytest.mark.parametrize("parameter", sorted(name for name, functions in USED.items() if functions))
def test_a_parameters_new_value_is_a_new_version(parameter: str) -> None:
    """Else the alias would go on with the old one: aws/serverless-application-model#3820."""
    before, after = deployed_on_aws(), deployed_on_aws(parameter)
    changed = {name for name in NAMES if version_of(name, before) != version_of(name, after)}
    assert changed == set(USED[parameter])


def test_a_changed_layer_is_a_new_version_of_its_functions() -> None:
    """Most of the code is in layers: aws/serverless-application-model#3610."""
    before, after = deployed_on_aws(), deployed_on_aws(layers="s3://bucket/another")
    assert not [name for name in NAMES if version_of(name, before) == version_of(name, after)]


# https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html; SAM's hash has them all the same.
OF_NO_VERSION = ["ReservedConcurrentExecutions", "CodeSigningConfigArn"]


@each_function
def test_what_is_no_part_of_a_version_is_said_in_what_is(function: Function) -> None:
    """Else Lambda refuses: "A version for this Lambda function exists".

    aws/serverless-application-model#3281
    """
    properties = deployed_with("off")[function.logical_name]["Properties"]
    apart = {
        name
        for one in OF_NO_VERSION
        for name in referred(properties.get(one))
        if not name.startswith("AWS::")
    }
    said = set(referred(properties["Description"]))
    assert apart <= said


def test_versions_do_not_pile_up() -> None:
    """SAM would have CloudFormation keep them all, of the 75 GB that an account and region has for code."""
    versions = of(CANARY, "AWS::Lambda::Version")
    assert len(versions) == len(FUNCTIONS)
    assert {one["DeletionPolicy"] for one in versions.values()} == {"Delete"}
