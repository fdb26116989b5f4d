"""`make gate` and `make deploy`: what a deployment would do to the journeys that are under way.

    python -m operations.gate meanwhile    # 0: nothing stands in the way; 1: it would park journeys

Looks at the workflow table of a deployed stack, in the account and region of the AWS command line, with the
definitions of this checkout. A stack that is not there yet holds no journeys.
"""

import subprocess
import sys

import boto3
from botocore.exceptions import ClientError

REGISTRY = "journeys.registry:JOURNEYS"


def main(stack_name: str) -> int:
    """Print the journeys that these definitions would park, with the names that they miss."""
    table = _workflow_table(stack_name)
    if table is None:
        region = boto3.Session().region_name
        print(f"stack {stack_name} is not in {region}, or has no journeys: nothing to check")
        return 0
    command = ["check", "--all", "--store", f"dynamodb:{table}", REGISTRY]
    return subprocess.run([sys.executable, "-m", "stepmark", *command], check=False).returncode  # noqa: S603 - its own name


def _workflow_table(stack_name: str) -> str | None:
    try:
        (stack,) = boto3.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":  # CloudFormation's word for "not found"
            return None
        raise
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    return outputs.get("WorkflowTableName")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
