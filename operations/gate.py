"""`make gate`: what a deployment would do to the journeys that are under way.

    python -m operations.gate meanwhile            # 0: nothing stands in the way; 1: it would park journeys
    python -m operations.gate meanwhile --first    # the stack is not there yet

Looks at the workflow table of a deployed stack, in the account and region that `sam deploy` takes from
samconfig, with the definitions of this checkout.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from operations.sam_config import NotConfigured, deployment_of

if TYPE_CHECKING:
    from operations.sam_config import Deployment

REGISTRY = "journeys.registry:JOURNEYS"


def check(stack_name: str, deployment: Deployment, *, first: bool) -> int:
    """Print the journeys that these definitions would park, with the names that they miss."""
    outputs = _outputs(stack_name, deployment)
    if outputs is None:
        if first:
            print(f"stack {stack_name} is not in {deployment.where} yet: nothing to check")
            return 0
        print(
            f"stack {stack_name} is not in {deployment.where}: if this is its first deployment, say FIRST=1; "
            "else samconfig names another region or profile than it was deployed with"
        )
        return 1
    if "ConversationTableName" not in outputs:
        print(
            f"stack {stack_name} in {deployment.where} is another project's, or could not be made: "
            "give yours another name, or delete it first"
        )
        return 1
    if "WorkflowTableName" not in outputs:
        print(f"stack {stack_name} in {deployment.where} has no journeys: nothing to check")
        return 0
    command = ["check", "--all", "--store", f"dynamodb:{outputs['WorkflowTableName']}", REGISTRY]
    return subprocess.run(  # noqa: S603 - its own name
        [sys.executable, "-m", "stepmark", *command], check=False, env=_environment(deployment)
    ).returncode


def _environment(deployment: Deployment) -> dict[str, str]:
    """The shell's, with the region and the credentials in it that SAM takes.

    A profile alone does not do: keys that the shell has would count before it, but for SAM they don't.
    """
    session = deployment.session()
    environment = {name: value for name, value in os.environ.items() if name != "AWS_SESSION_TOKEN"}
    if deployment.profile:
        environment |= dict.fromkeys(("AWS_PROFILE", "AWS_DEFAULT_PROFILE"), deployment.profile)
    found: dict[str, str | None] = {"AWS_DEFAULT_REGION": session.region_name}
    if (credentials := session.get_credentials()) is not None:
        keys = credentials.get_frozen_credentials()
        found |= {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}
        found |= {"AWS_SESSION_TOKEN": keys.token}
    return environment | {name: value for name, value in found.items() if value}


def _outputs(stack_name: str, deployment: Deployment) -> dict[str, str] | None:
    """The stack's outputs, or None when there is no such stack, or but a change set that would make it."""
    try:
        (stack,) = (
            deployment.session().client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":  # CloudFormation's word for "not found"
            return None
        raise
    if stack["StackStatus"] == "REVIEW_IN_PROGRESS":
        return None
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def parse(module: str, arguments: list[str]) -> argparse.Namespace:
    """Read the stack's name, and whether it is a first deployment."""
    parser = argparse.ArgumentParser(prog=f"python -m operations.{module}")
    parser.add_argument("stack")
    parser.add_argument("--first", action="store_true", help="the stack is not there yet")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Check the journeys of the stack that the command line names."""
    given = parse("gate", arguments)
    try:
        return check(given.stack, deployment_of(given.stack), first=given.first)
    except NotConfigured as error:
        print(error)
    except (BotoCoreError, ClientError) as error:  # no credentials, an unknown profile, no right to look
        print(f"the stack {given.stack} can't be looked at: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
