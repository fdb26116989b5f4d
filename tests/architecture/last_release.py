"""What a deployment of the last release has left in an account, as a later one finds it.

    git archive v0.9.0 | tar --extract --directory release
    .venvs/development/bin/python -m tests.architecture.last_release release/template.yaml \
      > tests/architecture/last_release.json

That is: all resources by their logical ids, what names those that hold state, and who may do what.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.template import REPOSITORY, Template

SAM_PYTHON = REPOSITORY / ".venvs/sam/bin/python"
# Runs in SAM's own environment; it replaces the local folders by S3 addresses, as `sam package` does.
TRANSFORM = """
import json, sys
from samcli.lib.translate.sam_template_validator import SamTemplateValidator
from samcli.yamlhelper import yaml_parse

class NoManagedPolicies:
    def load(self):
        return {}

template = yaml_parse(sys.stdin.read())
validator = SamTemplateValidator(
    template, NoManagedPolicies(), region="us-east-1", parameter_overrides=json.loads(sys.argv[1])
)
print(json.dumps(yaml_parse(validator.get_translated_template_if_valid())))
"""

# For each type that holds what nobody wants to lose: the properties a change of which makes another resource
# of it ("Update requires: Replacement"). A test compares them with the schemas that cfn-lint brings.
IDENTITY = {
    "AWS::DynamoDB::Table": ["TableName", "KeySchema", "ImportSourceSpecification"],
    "AWS::SecretsManager::Secret": ["Name"],
    "AWS::Logs::LogGroup": ["LogGroupName"],
    "AWS::ApiGateway::RestApi": [],
    "AWS::ApiGateway::ApiKey": ["Name", "Value", "GenerateDistinctId"],
    "AWS::SQS::Queue": ["QueueName", "FifoQueue"],
    "AWS::SNS::Topic": ["TopicName", "FifoTopic"],
    "AWS::Scheduler::ScheduleGroup": ["Name"],
}


def transformed(template: Path, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The resources of a template after its loops and SAM's own transform, that of the pinned version."""
    return transform(Template.read(template, parameters).as_json(), parameters or {})


def transform(template: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The same for a template without loops, as text."""
    finished = subprocess.run(  # noqa: S603 - SAM's interpreter and code of ours
        [SAM_PYTHON, "-c", TRANSFORM, json.dumps(dict(parameters))],
        input=template,
        check=True,
        capture_output=True,
        text=True,
        env={"SAM_CLI_TELEMETRY": "0", "LANG": "C.UTF-8"},
    )
    resources: dict[str, Any] = json.loads(finished.stdout)["Resources"]
    return resources


# Their ids end in a hash of what they hold, so each deployment may make new ones.
NEW_EACH_TIME = {"AWS::ApiGateway::Deployment", "AWS::Lambda::LayerVersion"}


def identity(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What names each resource that holds state, and whether it outlives its stack or a replacement."""
    return {
        logical_id: {
            "Type": one["Type"],
            "DeletionPolicy": one.get("DeletionPolicy"),
            "UpdateReplacePolicy": one.get("UpdateReplacePolicy"),
            **{name: one.get("Properties", {}).get(name) for name in IDENTITY[one["Type"]]},
        }
        for logical_id, one in resources.items()
        if one["Type"] in IDENTITY
    }


# The emulator makes a new API at each change of its document, which CloudFormation does not.
NOT_DEPLOYED_ALONE = {"AWS::ApiGateway::RestApi", "AWS::ApiGateway::ApiKey"}


def state(resources: dict[str, Any]) -> dict[str, Any]:
    """The resources that hold state, whole, so that they can be deployed without the rest."""
    return {
        logical_id: one
        for logical_id, one in resources.items()
        if one["Type"] in IDENTITY.keys() - NOT_DEPLOYED_ALONE
    }


def permissions(resources: dict[str, Any]) -> dict[str, list[list[str]]]:
    """Who may do what: each action, on what, and under which conditions.

    What has a role goes by its own id, so that SAM may make the role; a role that is nobody's, such as a
    schedule's target, goes by the role's. `assumed by` says who takes a role, `called by` who calls a
    function.
    """
    roles = {
        logical_id: role
        for logical_id, one in resources.items()
        if (role := _role_of(one.get("Properties", {}))) in resources
    }
    roles |= {
        logical_id: logical_id
        for logical_id, one in resources.items()
        if one["Type"] == "AWS::IAM::Role" and logical_id not in roles.values()
    }
    apart = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::IAM::Policy"]
    found = {
        logical_id: [
            *_allowed_by_role(resources[role]["Properties"]),
            *_allowed_by_policies([one for one in apart if {"Ref": role} in one["Roles"]]),
        ]
        for logical_id, role in roles.items()
    }
    for one in resources.values():
        if one["Type"] == "AWS::Lambda::Permission":
            properties = dict(one["Properties"])
            called = properties.pop("FunctionName")["Ref"]
            found.setdefault(called, []).append([properties.pop("Action"), "called by", _text(properties)])
    return {logical_id: sorted(allowed) for logical_id, allowed in found.items()}


# Policies apart from a role's and a function's permission: they would escape this comparison.
POLICIES_NOT_COMPARED = {
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::RolePolicy",
    "AWS::IAM::User",
    "AWS::Lambda::LayerVersionPermission",
    "AWS::SecretsManager::ResourcePolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SNS::TopicInlinePolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SQS::QueueInlinePolicy",
    "AWS::Lambda::Url",
}


def _role_of(properties: dict[str, Any]) -> str:
    role = properties.get("Role", properties.get("RoleArn", {}))
    named = role.get("Fn::GetAtt", [""]) if isinstance(role, dict) else [""]
    return str(named[0] if isinstance(named, list) else named.partition(".")[0])


def _allowed_by_role(role: dict[str, Any]) -> Iterator[list[str]]:
    for managed in role.get("ManagedPolicyArns", []):
        yield ["managed policy", _text(managed)]
    for statement in _list(role["AssumeRolePolicyDocument"]["Statement"]):
        for action in _list(statement["Action"]):
            yield [action, "assumed by", _text(statement["Principal"]), _text(statement.get("Condition"))]
    yield from _allowed_by_policies(role.get("Policies", []))


def _allowed_by_policies(policies: list[dict[str, Any]]) -> Iterator[list[str]]:
    for policy in policies:
        allowing = policy["Fn::If"][1] if "Fn::If" in policy else policy
        for statement in _list(allowing["PolicyDocument"]["Statement"]):
            assert statement["Effect"] == "Allow", "a Deny that is taken away would not be seen as wider"
            for action in _list(statement["Action"]):
                for resource in _list(statement["Resource"]):
                    yield [action, _text(resource), _text(statement.get("Condition"))]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def summary(resources: dict[str, Any]) -> dict[str, Any]:
    """All of it, as JSON can hold it."""
    return {
        "resources": {
            logical_id: one["Type"]
            for logical_id, one in sorted(resources.items())
            if one["Type"] not in NEW_EACH_TIME
        },
        "identity": identity(resources),
        "state": state(resources),
        "permissions": permissions(resources),
    }


if __name__ == "__main__":
    print(json.dumps(summary(transformed(Path(sys.argv[1]))), indent=1, sort_keys=True))
