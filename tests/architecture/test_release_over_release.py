"""This release deployed over the last one: nothing that holds state is replaced, and nobody may do more.

A renamed secret is an empty one, a renamed table too; and AWS refuses a log group under a new logical id that
has the name of an old one, which the emulator takes.
"""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped]

from tests.architecture.deployment import SOURCES
from tests.architecture.last_release import (
    IDENTITY,
    POLICIES_NOT_COMPARED,
    identity,
    permissions,
    summary,
    transformed,
)
from tests.support.template import REPOSITORY

RELEASE: dict[str, Any] = json.loads((REPOSITORY / "tests/architecture/last_release.json").read_text())

# Functions whose callers CodeDeploy can move bit by bit.
SHIFTED = [
    "StartIdentification", "ReadConversation", "SetAttributes", "LookupAlpha", "LookupBeta", "LookupGamma",
    "NotifyJourneys", "SweepJourneys",
]  # fmt: skip

# What this release adds to the last one's resources, takes from them, or allows beyond them, with the reason.
ADDED: dict[str, str] = {
    "SweepGroup": "the sweep's schedule had the same name in every stack of an account",
    "GammaTokenPolicy": "a statement of LookupGammaRole, whose other statements are every company's",
    "ThrottlesAlarm": "one alarm for the account instead of one for each function",
    "ConversationTableReadThrottlesAlarm": "TableReadThrottlesAlarm under a loop's name",
    "ConversationTableWriteThrottlesAlarm": "TableWriteThrottlesAlarm under a loop's name",
    "JourneyOverdueAlarm": "JourneysOverdueAlarm under a loop's name",
    "ResumeDeadLetterQueueAlarm": "ResumeDeadLettersAlarm under a loop's name",
    "LostChangesQueueAlarm": "LostChangesAlarm under a loop's name",
    "NotifyJourneysFunctionConversationChanges": "its position changed, and AWS replaces no mapping",
    "NoticeTopic": "what can wait until the morning wakes nobody up",
    "RequestsThrottledFilter": "callers are turned away before any function sees them",
    "RequestsThrottledAlarm": "as above",
    "CredentialsRefusedFilter": "as above",
    "CredentialsRefusedAlarm": "as above",
    "ApiRefusalsAlarm": "as above",
    "NoRequestsAlarm": "nobody heard when an IVR stopped calling; off by default",
    "WorkingHoursAlarm": "as above",
    "QuietWorkingHoursAlarm": "as above",
    "IdentificationFastBurnAlarm": "there was no objective",
    "IdentificationSlowBurnAlarm": "as above",
    "StartsThrottledAlarm": "ExecutionsThrottledAlarm's metric counts nothing for Express",
    "OpenIndexReadThrottlesAlarm": "a table's metric leaves its index out",
    "OpenIndexWriteThrottlesAlarm": "as above",
    "RecursionsAlarm": "Lambda drops what a function sends to itself",
    "ResumeQueueBacklogAlarm": "ResumeQueueAgeAlarm rang for timers that were not due",
    "NoSweepAlarm": "nobody heard when the sweep was never called",
    "CrmSecret": "notes went to the CRM without a credential; none without CrmUrl",
    "ApiDomainName": "an operator's own name for the API; off by default",
    "ApiDomainMapping": "as above",
    "KmsKeyPolicy": "an operator's own key; off by default",
    "JourneysKmsKeyPolicy": "as above",
    "LookupAlphaKmsKeyPolicy": "as above",
    "LookupBetaKmsKeyPolicy": "as above",
    "LookupGammaKmsKeyPolicy": "as above",
    **{f"{name}DeploymentRole": "gradual deployment; off by default" for name in SHIFTED},
}
REMOVED: dict[str, str] = {
    "TableReadThrottlesAlarm": "see ADDED",
    "TableWriteThrottlesAlarm": "see ADDED",
    "JourneysOverdueAlarm": "see ADDED",
    "ResumeDeadLettersAlarm": "see ADDED",
    "LostChangesAlarm": "see ADDED",
    "NotifyJourneysFunctionChanges": "see ADDED",
    "ResumeQueueAgeAlarm": "see ADDED",
    "ExecutionsThrottledAlarm": "its metric counts state transitions, of which Express has no quota",
    **{
        name: "ThrottlesAlarm is one for all functions"
        for name in RELEASE["resources"]
        if name.endswith("ThrottlesAlarm") and "Table" not in name
    },
}
WIDER: dict[tuple[str, ...], str] = {
    (
        "RunJourneyFunction", "secretsmanager:GetSecretValue", '{"Fn::GetAtt": ["CrmSecret", "Id"]}', "null",
    ): "what the CRM wants to be shown",
    **{
        (holder, f"kms:{action}", '{"Ref": "KmsKeyArn"}', "null"): "an operator's own key, when there is one"
        for holder in [
            "StartIdentificationFunction", "ReadConversationFunction", "SetAttributesFunction",
            "IdentifyCallerStateMachine", "LookupAlphaFunction", "LookupBetaFunction", "LookupGammaFunction",
            "JourneysApiFunction", "RunJourneyFunction", "NotifyJourneysFunction", "SweepJourneysFunction",
            "TimerRole",
        ]
        for action in ("Decrypt", "GenerateDataKey", "DescribeKey")
    },
    **{
        (f"Lookup{company}Function", f"ec2:{action}", '"*"', "null"): "in an operator's subnets, if any"
        for company in ("Alpha", "Beta", "Gamma")
        for action in [
            "CreateNetworkInterface", "DescribeNetworkInterfaces", "DeleteNetworkInterface",
            "DescribeSubnets", "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses",
        ]
    },
    **{
        (caller, "lambda:InvokeFunction", json.dumps({"Fn::Sub": f"${{{called}Function.Arn}}:live"}), "null"):
            "with gradual deployment, an alias is called"
        for caller, called in [
            ("IdentifyCallerStateMachine", "LookupAlpha"),
            ("IdentifyCallerStateMachine", "LookupBeta"),
            ("IdentifyCallerStateMachine", "LookupGamma"),
            ("SweepScheduleRole", "SweepJourneys"),
        ]
    },
    **{
        (f"{called}DeploymentRole", f"lambda:{action}", resource, "null"): "with gradual deployment: an alias"
        for called in SHIFTED
        for action in ("GetAlias", "UpdateAlias", "GetProvisionedConcurrencyConfig")
        for resource in [
            json.dumps({"Fn::GetAtt": [f"{called}Function", "Arn"]}),
            json.dumps({"Fn::Sub": f"${{{called}Function.Arn}}:live"}),
        ]
    },
    **{
        (f"{called}DeploymentRole", *allowed): "as above, and the alarms turn it back"
        for called in SHIFTED
        for allowed in [
            ("cloudwatch:DescribeAlarms", '"*"', "null"),
            (
                "sts:AssumeRole", "assumed by", '{"Service": "codedeploy.amazonaws.com"}',
                '{"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}',
            ),
        ]
    },
}  # fmt: skip


# A company that has been added since brings resources of its own, which others may call.
NEW_COMPANIES = [
    name.capitalize() for name in SOURCES if f"{name.capitalize()}Secret" not in RELEASE["identity"]
]


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return transformed(REPOSITORY / "template.yaml")


def is_of_a_new_company(text: str) -> bool:
    return any(company in text for company in NEW_COMPANIES)


@pytest.mark.parametrize("logical_id", sorted(RELEASE["identity"]))
def test_what_holds_state_stays_what_it_is(logical_id: str, resources: dict[str, Any]) -> None:
    assert identity(resources).get(logical_id) == RELEASE["identity"][logical_id]


def test_the_resources_are_those_of_the_last_release_but_for_what_is_said(resources: dict[str, Any]) -> None:
    now, before = summary(resources)["resources"], RELEASE["resources"]
    added = {name for name in now.keys() - before.keys() if not is_of_a_new_company(name)}
    assert added == ADDED.keys()
    assert before.keys() - now.keys() == REMOVED.keys()
    assert {name for name in now.keys() & before.keys() if now[name] != before[name]} == set()


# What was allowed without a condition is allowed less widely with one.
WITHOUT_CONDITION = "null"


def wider(now: dict[str, list[list[str]]]) -> set[tuple[str, ...]]:
    """What is allowed now and was not in the last release."""
    before = RELEASE["permissions"]
    return {
        (name, *one)
        for name, allowed in now.items()
        for one in allowed
        if one not in before.get(name, [])
        and [*one[:-1], WITHOUT_CONDITION] not in before.get(name, [])
        and not any(map(is_of_a_new_company, (name, *one)))
    }


def test_nobody_may_do_more_than_in_the_last_release_but_for_what_is_said(resources: dict[str, Any]) -> None:
    assert wider(permissions(resources)) == WIDER.keys()


def test_no_policy_is_where_the_comparison_does_not_look(resources: dict[str, Any]) -> None:
    assert {one["Type"] for one in resources.values()} & POLICIES_NOT_COMPARED == set()
    assert [name for name, one in resources.items() if "ResourcePolicy" in one.get("Properties", {})] == []


def _one_more_action(role: dict[str, Any]) -> None:
    role["Policies"][-1]["PolicyDocument"]["Statement"][0]["Action"] = ["dynamodb:Scan"]


def _everything(role: dict[str, Any]) -> None:
    role["Policies"][-1]["PolicyDocument"]["Statement"][0]["Resource"] = "*"


def _a_managed_policy(role: dict[str, Any]) -> None:
    role["ManagedPolicyArns"] = ["arn:aws:iam::aws:policy/AdministratorAccess"]


def _somebody_else(role: dict[str, Any]) -> None:
    role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] = {"AWS": "*"}


@pytest.mark.parametrize("widen", [_one_more_action, _everything, _a_managed_policy, _somebody_else])
@pytest.mark.parametrize("role", ["TimerRole", "SweepScheduleRole", "a function's"])
def test_a_wider_role_is_found(
    role: str, widen: Callable[[dict[str, Any]], None], resources: dict[str, Any]
) -> None:
    changed = copy.deepcopy(resources)
    holder = role
    if role == "a function's":
        holder = "RunJourneyFunction"
        role = changed[holder]["Properties"]["Role"]["Fn::GetAtt"][0]
    widen(changed[role]["Properties"])
    assert {name for name, *_ in wider(permissions(changed)) - wider(permissions(resources))} == {holder}


def test_a_caller_from_anywhere_is_found(resources: dict[str, Any]) -> None:
    changed = copy.deepcopy(resources)
    permission = next(one for one in changed.values() if one["Type"] == "AWS::Lambda::Permission")
    del permission["Properties"]["SourceArn"]
    assert len(wider(permissions(changed)) - wider(permissions(resources))) == 1


@pytest.mark.parametrize("kind", sorted(IDENTITY))
def test_what_names_a_resource_is_what_cloudformation_says(kind: str) -> None:
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    makes_another = schema.get("createOnlyProperties", []) + schema.get("conditionalCreateOnlyProperties", [])
    assert {f"/properties/{name}" for name in IDENTITY[kind]} == set(makes_another)


def test_whatever_holds_state_is_known_to_this_test(resources: dict[str, Any]) -> None:
    """By AWS's names for it: storage and messaging services, log groups, credentials."""
    services = ("DynamoDB", "SecretsManager", "Logs", "SQS", "SNS", "S3", "RDS", "KMS", "Cognito", "EFS")
    kinds = {one["Type"] for one in resources.values() if one["Type"].split("::")[1] in services}
    hold_none = {"AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::Logs::MetricFilter"}
    assert kinds <= IDENTITY.keys() | hold_none


def test_no_name_is_fixed_for_an_account(resources: dict[str, Any]) -> None:
    """Two stacks of one account and region would want the same; a schedule's is its group's alone."""
    fixed = [
        f"{logical_id}.{name}"
        for logical_id, one in resources.items()
        for name, value in one.get("Properties", {}).items()
        if name in {"Name", "TableName", "QueueName", "TopicName", "RoleName", "FunctionName", "LogGroupName"}
        and not one["Type"].startswith("AWS::ApiGateway::")  # whose names need not differ
        and isinstance(value, str)
        and not isinstance(one["Properties"].get("GroupName"), dict)
    ]
    assert fixed == []
