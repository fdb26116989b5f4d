"""What the emulator gets wrong about schedules: it takes each for one of the group `default`.

So a role that may create, update and delete schedules in the stack's own group, which is what AWS asks for,
is refused. Here the same roles get the same rights for the group that the emulator believes in.
"""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local.emulator.stack import Stack

_ACTIONS = ["scheduler:CreateSchedule", "scheduler:UpdateSchedule", "scheduler:DeleteSchedule"]
_POLICY = "SchedulesOnTheEmulator"


def allow_schedules(stack: "Stack") -> None:
    """Give the stack's roles that may keep schedules the right to do so here."""
    iam = stack.session.client("iam", endpoint_url=stack.endpoint)
    cloudformation = stack.session.client("cloudformation", endpoint_url=stack.endpoint)
    statement = {"Effect": "Allow", "Action": _ACTIONS, "Resource": "arn:*:scheduler:*:*:schedule/default/*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    for resource in cloudformation.describe_stack_resources(StackName=stack.name)["StackResources"]:
        if resource["ResourceType"] != "AWS::IAM::Role":
            continue
        role = resource["PhysicalResourceId"]
        policies: list[Any] = [
            iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
        ]
        if any(each["Action"] == _ACTIONS for policy in policies for each in policy["Statement"]):
            iam.put_role_policy(RoleName=role, PolicyName=_POLICY, PolicyDocument=document)
