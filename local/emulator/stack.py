"""A deployed stack, on the emulator or in an AWS account, found by its name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import boto3

from operations.api_address import reachable

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

NAME = "meanwhile"


@dataclass(frozen=True)
class Stack:
    """Where a deployed stack is reached: its API, and what lies behind it.

        stack = Stack.from_cloudformation("meanwhile")
        httpx.get(f"{stack.api_url}/conversations/c1", headers={"x-api-key": stack.api_key})

    `endpoint` is the emulator's, or None for AWS itself; `outputs` are all that the template declares.
    """

    name: str
    endpoint: str | None
    session: boto3.Session
    api_url: str
    api_key: str = field(repr=False)
    table_name: str
    state_machine_arn: str
    outputs: Mapping[str, str]

    @classmethod
    def from_cloudformation(
        cls, name: str, *, endpoint: str | None = None, session: boto3.Session | None = None
    ) -> Self:
        """Read a deployed stack's outputs and its API key.

        Without a session, credentials and region come from the environment, as for the AWS CLI. Raises
        botocore's ClientError when there is no such stack, or no right to read it.
        """
        session = session or boto3.Session()
        outputs = _outputs(session.client("cloudformation", endpoint_url=endpoint), name)
        apis = session.client("apigateway", endpoint_url=endpoint)
        return cls(
            name=name,
            endpoint=endpoint,
            session=session,
            api_url=reachable(outputs["ApiUrl"].rstrip("/"), endpoint),
            api_key=apis.get_api_key(apiKey=outputs["ApiKeyId"], includeValue=True)["value"],
            table_name=outputs["ConversationTableName"],
            state_machine_arn=outputs["StateMachineArn"],
            outputs=outputs,
        )


def _outputs(cloudformation: "CloudFormationClient", name: str) -> dict[str, str]:
    stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
