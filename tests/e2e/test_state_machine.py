"""The deployed state machine where a company's lookup never runs, and where the release before starts it."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from local.companies import Companies, invented_customer
from local.emulator.stack import Stack
from local.ivr import Ivr

KNOWN = "+33639981801"
UNKNOWN = "+33639981802"


def physical_id(stack: Stack, logical_id: str) -> str:
    client = stack.session.client("cloudformation", endpoint_url=stack.endpoint)
    resource = client.describe_stack_resource(StackName=stack.name, LogicalResourceId=logical_id)
    return resource["StackResourceDetail"]["PhysicalResourceId"]


def wait_for_every_source(ivr: Ivr, conversation_id: str) -> dict[str, Any]:
    until = time.monotonic() + 20
    while True:
        document = ivr.read(conversation_id, wait=5).document
        if "PENDING" not in document["sources"].values():
            return document
        assert time.monotonic() < until, document
        time.sleep(0.1)


@contextmanager
def never_run(stack: Stack, function: str) -> Iterator[None]:
    """Let Lambda refuse to run one function for the length of a `with` block."""
    client = stack.session.client("lambda", endpoint_url=stack.endpoint)
    name = physical_id(stack, function)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    try:
        yield
    finally:
        client.delete_function_concurrency(FunctionName=name)


@pytest.mark.parametrize("number", [KNOWN, UNKNOWN])
def test_a_lookup_that_cannot_be_invoked_is_a_company_that_could_not_answer(
    number: str, stack: Stack, ivr: Ivr, companies: Companies
) -> None:
    companies.know("alpha", {KNOWN: invented_customer("alpha", KNOWN)})
    conversation_id = str(uuid.uuid4())
    with never_run(stack, "LookupBetaFunction"):
        ivr.start(conversation_id, number)
        document = wait_for_every_source(ivr, conversation_id)
    alpha, status = ("MATCH", "SUCCESS") if number == KNOWN else ("NO_MATCH", "FAILED")
    assert document["sources"] == {"alpha": alpha, "beta": "UNAVAILABLE", "gamma": "NO_MATCH"}
    assert document["status"] == status
    assert companies.requests().lookups["beta"].get(number) is None


def test_an_execution_of_the_release_before_still_counts(
    stack: Stack, ivr: Ivr, companies: Companies
) -> None:
    """While a deployment is under way: a conversation and an execution without start ids."""
    companies.know("alpha", {KNOWN: invented_customer("alpha", KNOWN)})
    like, conversation_id = str(uuid.uuid4()), str(uuid.uuid4())
    started = ivr.start(like, UNKNOWN).document
    table = stack.session.client("dynamodb", endpoint_url=stack.endpoint)
    item = table.get_item(TableName=stack.table_name, Key={"conversationId": {"S": like}})["Item"]
    kept = {name: item[name] for name in item.keys() - {"startId", "concludedAt", "status", "sources"}}
    table.put_item(
        TableName=stack.table_name,
        Item={
            **kept,
            "conversationId": {"S": conversation_id},
            "callerNumber": {"S": KNOWN},
            "status": {"S": "ONGOING"},
            "sources": {"M": {source: {"S": "PENDING"} for source in started["sources"]}},
        },
    )
    stack.session.client("stepfunctions", endpoint_url=stack.endpoint).start_execution(
        stateMachineArn=stack.state_machine_arn,
        input=json.dumps(
            {
                "conversationId": conversation_id,
                "callerNumber": KNOWN,
                "deadlineAt": item["deadlineAt"]["S"],
            }
        ),
    )
    document = ivr.read(conversation_id, wait=20).document
    assert document["status"] == "SUCCESS"
    assert document["identity"]["source"] == "alpha"
