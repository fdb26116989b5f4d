"""Erase what is kept of a caller: conversations, their journeys, timers and wake-ups that failed.

    python -m operations.erase meanwhile --number +33639980001
    python -m operations.erase meanwhile --conversation 6c5c8f2e --conversation 7d6d9a3f
    python -m operations.erase meanwhile --number +33639980001 --dry-run

Works in the account and region that `sam deploy` takes from samconfig, on a stack that goes on working
meanwhile. What is under way for an erased conversation ends by itself and writes nothing: every write names
the start that it belongs to. Ends with 0 when nothing is left, with 1 when journeys were started faster than
they were erased, or when it could not be done.
What can't be erased one by one, such as backups and logs, is in docs/data-protection.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError
from stepmark.sqs import SqsScheduler, Timers

from journeys.names import conversation_id_of
from operations.sam_config import NotConfigured, deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import boto3

# A journey that is being started while this runs appears after the first look.
_LOOKS = 5
# How long a dead letter is out of sight while all of them are looked at.
_OUT_OF_SIGHT_SECONDS = 60


@dataclass(frozen=True)
class Stores:
    """Where a stack keeps what belongs to callers; without journeys, their three are empty."""

    session: boto3.Session
    conversation_table: str
    workflow_table: str = ""
    timer_group: str = ""
    dead_letter_queue_url: str = ""

    @classmethod
    def of(cls, session: boto3.Session, stack_name: str) -> Self:
        """Look them up in CloudFormation, by their names in the template. Raises NotFound."""
        pages = session.client("cloudformation").get_paginator("list_stack_resources")
        physical = {
            one["LogicalResourceId"]: one.get("PhysicalResourceId", "")
            for page in pages.paginate(StackName=stack_name)
            for one in page["StackResourceSummaries"]
            if one["ResourceStatus"] != "DELETE_COMPLETE"
        }
        if "ConversationTable" not in physical:
            raise NotFound(f"stack {stack_name} has no conversations: is it another project's?")
        names = ("ConversationTable", "WorkflowTable", "TimerGroup", "ResumeDeadLetterQueue")
        return cls(session, *(physical.get(name, "") for name in names))


class NotFound(Exception):
    """The stack is there, but is none of ours."""


@dataclass(frozen=True)
class Found:
    """What there is of a caller."""

    conversations: frozenset[str]
    workflows: frozenset[str]
    dead_letters: int

    def __bool__(self) -> bool:
        return bool(self.conversations or self.workflows or self.dead_letters)

    def __str__(self) -> str:
        return (
            f"{len(self.conversations)} conversations, {len(self.workflows)} journeys with their timers, "
            f"{self.dead_letters} wake-ups that failed"
        )


def find(stores: Stores, numbers: frozenset[str], conversation_ids: frozenset[str]) -> Found:
    """Look for all that is kept of these callers and conversations; reads both tables whole.

    find(Stores.of(boto3.Session(), "meanwhile"), frozenset({"+33639980001"}), frozenset())

    A number is as the API answers it, in E.164.
    """
    conversations = frozenset(
        item["conversationId"]["S"]
        for item in _scan(stores, stores.conversation_table, "conversationId, callerNumber")
        if item["conversationId"]["S"] in conversation_ids or item.get("callerNumber", {}).get("S") in numbers
    )
    meant = conversations | conversation_ids
    workflows = frozenset(
        item["workflowId"]["S"]
        for item in (_scan(stores, stores.workflow_table, "workflowId") if stores.workflow_table else ())
        if conversation_id_of(item["workflowId"]["S"]) in meant
    )
    return Found(conversations, workflows, sum(1 for _ in _dead_letters(stores, meant, delete=False)))


def erase(stores: Stores, numbers: frozenset[str], conversation_ids: frozenset[str]) -> Iterator[Found]:
    """Erase it, looking again until there is nothing; yields what each look has found.

        *erased, left = erase(stores, frozenset({"+33639980001"}), frozenset())

    The conversations go first: whatever is under way for them then writes nothing more.
    """
    dynamodb, timers = stores.session.client("dynamodb"), _timers(stores)
    meant = conversation_ids
    for _ in range(_LOOKS):
        found = find(stores, numbers, meant)
        yield found
        if not found:
            return
        meant |= found.conversations
        for conversation_id in found.conversations:
            key = {"conversationId": {"S": conversation_id}}
            dynamodb.delete_item(TableName=stores.conversation_table, Key=key)
        for workflow_id in found.workflows:
            dynamodb.delete_item(TableName=stores.workflow_table, Key={"workflowId": {"S": workflow_id}})
            timers.forget(workflow_id)
        for _ in _dead_letters(stores, meant, delete=True):
            pass
    yield find(stores, numbers, meant)


def _scan(stores: Stores, table: str, attributes: str) -> Iterator[dict[str, Any]]:
    pages = stores.session.client("dynamodb").get_paginator("scan")
    for page in pages.paginate(TableName=table, ProjectionExpression=attributes, ConsistentRead=True):
        yield from page["Items"]


def _timers(stores: Stores) -> SqsScheduler:
    timers = Timers(stores.timer_group, role_arn="", queue_arn="")  # to forget one takes the group alone
    session = stores.session
    return SqsScheduler(session.client("sqs"), "", session.client("scheduler"), timers)


def _dead_letters(stores: Stores, meant: frozenset[str], *, delete: bool) -> Iterator[str]:
    """The wake-ups of these conversations that failed ten times; all that stay are seen again at once."""
    sqs = stores.session.client("sqs")
    queue = stores.dead_letter_queue_url
    handles: dict[str, str] = {}
    while queue and (
        new := [
            message
            for message in sqs.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=_OUT_OF_SIGHT_SECONDS
            ).get("Messages", [])
            if message["MessageId"] not in handles
        ]
    ):
        for message in new:
            handles[message["MessageId"]] = message["ReceiptHandle"]
            if _conversation_of(message["Body"]) in meant:
                yield message["MessageId"]
                if delete:
                    sqs.delete_message(QueueUrl=queue, ReceiptHandle=handles.pop(message["MessageId"]))
    for handle in handles.values():
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=0)


def _conversation_of(body: str) -> str:
    try:
        return conversation_id_of(json.loads(body)["workflowId"])
    except (ValueError, KeyError, TypeError):
        return ""


def main(arguments: list[str]) -> int:
    """Erase what the command line names, and say what there was."""
    parser = argparse.ArgumentParser(prog="python -m operations.erase", description="Erase a caller's data.")
    parser.add_argument("stack")
    parser.add_argument("--number", action="append", default=[], help="in E.164, such as +33639980001")
    parser.add_argument("--conversation", action="append", default=[], help="a conversation's id")
    parser.add_argument("--dry-run", action="store_true", help="only say what there is")
    given = parser.parse_args(arguments)
    if not (given.number or given.conversation):
        parser.error("name a --number or a --conversation")
    wrong = [number for number in given.number if not (number[:1] == "+" and number[1:].isdecimal())]
    if wrong:
        parser.error("a number is in E.164: a plus, the country's code, digits alone")
    numbers, conversation_ids = frozenset(given.number), frozenset(given.conversation)
    try:
        stores = Stores.of(deployment_of(given.stack).session(), given.stack)
        return _do(stores, numbers, conversation_ids, dry_run=given.dry_run)
    except (NotConfigured, NotFound, BotoCoreError, ClientError) as error:
        print(f"not all could be erased: {error}")
        return 1


def _do(stores: Stores, numbers: frozenset[str], conversation_ids: frozenset[str], *, dry_run: bool) -> int:
    if dry_run:
        print(f"there are {find(stores, numbers, conversation_ids)}")
        return 0
    *erased, left = erase(stores, numbers, conversation_ids)
    for found in erased:
        print(f"erased {found}")
    print(f"left are {left}: run this again" if left else "nothing is left")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
