"""Each function's role allows what the function calls and nothing else, as the deployed stack tells itself.

The emulator checks every call against the role's policies, as AWS does, and records it as CloudTrail does.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from local.companies import SOURCES, Companies, invented_customer
from local.emulator.stack import Stack
from local.ivr import Ivr

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda.type_defs import FunctionConfigurationTypeDef

# What Lambda itself does with a function's role, for its logs and its sources of events; tests/architecture
# looks at these. And what Scheduler asks for beside CreateSchedule, which is no call.
OF_THE_PLATFORM = (
    "logs:",
    "xray:",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
    "iam:PassRole",
)
# CloudTrail knows these by their names; the emulator's names them after the request.
NAMES_OF_THE_EMULATOR = {
    "scheduler:CreateSchedule": "POST.scheduler",
    "scheduler:UpdateSchedule": "PUT.scheduler",
    "scheduler:DeleteSchedule": "DELETE.scheduler",
}
# What needs the right for something else.
NEEDS = {"sqs:SendMessageBatch": "sqs:SendMessage"}
# A journey that begins with a long wait needs it, one whose long wait gives way to another, and one that ends
# in the queue's consumer: those here are ended by a client.
NOT_USED = {
    ("journeys_api", "scheduler:CreateSchedule"),
    ("journeys_api", "scheduler:UpdateSchedule"),
    ("run_journey", "scheduler:UpdateSchedule"),
    ("run_journey", "scheduler:DeleteSchedule"),
}
# CloudTrail's LookupEvents answers no more at once, and the emulator's has no second page.
EVENTS_OF_A_PAGE = 50
# The emulator has whole seconds in its events.
SHORTEST_SLICE = timedelta(seconds=1)
CALLER = "+33639986001"


@dataclass(frozen=True)
class Account:
    """The emulator's account, and the functions in it by the name of their service."""

    stack: Stack
    functions: Mapping[str, "FunctionConfigurationTypeDef"]

    def role_of(self, service: str) -> str:
        return self.functions[service]["Role"].rpartition("/")[2]

    def allowed(self, service: str) -> set[str]:
        """The actions that the deployed role of a function allows."""
        iam = self.client("iam")
        role = self.role_of(service)
        assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
        actions: set[str] = set()
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document: Any = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for statement in document["Statement"]:
                assert statement["Effect"] == "Allow"
                action = statement["Action"]
                actions.update([action] if isinstance(action, str) else action)
        return {action for action in actions if not action.startswith(OF_THE_PLATFORM)}

    def called(self, service: str, *, since: datetime) -> set[str]:
        """The actions that a function has called since a moment."""
        events = self._all_events(service, since=since, until=datetime.now(UTC))
        called = {f"{event['EventSource'].partition('.')[0]}:{event['EventName']}" for event in events}
        for action, name in NAMES_OF_THE_EMULATOR.items():
            if (named := f"{action.partition(':')[0]}:{name}") in called:
                called = called - {named} | {action}
        return {NEEDS.get(action, action) for action in called}

    def _all_events(self, service: str, *, since: datetime, until: datetime) -> list[Any]:
        """The events of a time, which is halved while a page is too small for it."""
        events = self._events(service, since=since, until=until)
        if len(events) < EVENTS_OF_A_PAGE:
            return events
        assert until - since > SHORTEST_SLICE, "an action may be hidden behind the many others"
        middle = since + (until - since) / 2
        return [
            *self._all_events(service, since=since, until=middle),
            *self._all_events(service, since=middle, until=until),
        ]

    def has_called(self, service: str, action: str) -> bool:
        """Tell whether a function has called an action since it was deployed."""
        source, _, name = action.partition(":")
        events = self._events(service, name=NAMES_OF_THE_EMULATOR.get(action, name))
        return any(event["EventSource"] == f"{source}.amazonaws.com" for event in events)

    def _events(
        self, service: str, *, name: str = "", since: datetime | None = None, until: datetime | None = None
    ) -> list[Any]:
        attributes: list[Any] = [{"AttributeKey": "AccessKeyId", "AttributeValue": self._access_key(service)}]
        if name:
            attributes.append({"AttributeKey": "EventName", "AttributeValue": name})
        window: Any = {"StartTime": since, "EndTime": until} if since and until else {}
        found = self.client("cloudtrail").lookup_events(LookupAttributes=attributes, **window)
        return list(found["Events"])

    def _access_key(self, service: str) -> str:
        # How the emulator names the session of a function's role.
        function = self.functions[service]
        digest = hashlib.sha256(f"{function['FunctionArn']}:{function['Role']}".encode()).hexdigest()
        return f"ASIA{digest[:16].upper()}"

    @contextmanager
    def denied(self, service: str, action: str) -> Iterator[None]:
        """Take an action from a function's role for the length of a `with` block."""
        statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        role = {"RoleName": self.role_of(service), "PolicyName": "denied-for-a-test"}
        iam = self.client("iam")
        iam.put_role_policy(**role, PolicyDocument=policy)
        try:
            yield
        finally:
            iam.delete_role_policy(**role)

    def client(self, service: Any) -> Any:
        return self.stack.session.client(service, endpoint_url=self.stack.endpoint)


@pytest.fixture(scope="module")
def account(stack: Stack, companies: Companies) -> Account:
    """The functions of the stack; `companies` are asked for because only the emulator tells so much."""
    del companies
    client = stack.session.client("lambda", endpoint_url=stack.endpoint)
    functions = {
        function["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]: function
        for page in client.get_paginator("list_functions").paginate()
        for function in page["Functions"]
        if function["FunctionName"].startswith(f"{stack.name}-")
    }
    return Account(stack, functions)


def test_every_function_calls_what_its_role_allows_and_nothing_else(
    account: Account, ivr: Ivr, companies: Companies
) -> None:
    since = datetime.now(UTC)
    ended = identify(ivr, companies)
    time_out(account, ivr, ended)
    take_over_a_start(account, ivr, ended)
    start_in_vain(account, ivr)
    live_through_a_journey(account, ivr, ended, answer_within_seconds=20_000)
    live_through_a_journey(account, ivr, ended, answer_within_seconds=600)

    assert len(account.functions) == 7 + len(SOURCES)
    for service in account.functions:
        allowed = account.allowed(service)
        assert account.called(service, since=since) <= allowed, f"{service} lacks a right, or was let without"
        unused = {
            action
            for action in allowed
            if (service, action) not in NOT_USED and not account.has_called(service, action)
        }
        assert unused == set(), f"{service} has rights that it does not need"


@pytest.mark.parametrize(
    ("service", "action"),
    [
        ("read_conversation", "dynamodb:GetItem"),
        ("set_attributes", "dynamodb:UpdateItem"),
        ("start_identification", "dynamodb:PutItem"),
    ],
)
def test_a_missing_right_would_be_noticed(account: Account, ivr: Ivr, service: str, action: str) -> None:
    """The emulator does look at the roles: else the comparison above would prove nothing."""
    conversation_id = str(uuid.uuid4())
    ivr.start(conversation_id, "anonymous")

    def status() -> int:
        match service:
            case "read_conversation":
                return ivr.read(conversation_id).status
            case "set_attributes":
                return ivr.set_attributes(conversation_id, {"now": str(uuid.uuid4())}).status
            case _:
                return ivr.start(str(uuid.uuid4()), "anonymous").status

    assert status() < 300
    with account.denied(service, action):
        assert status() == 503
    assert status() < 300


# --- every path on which a function calls AWS --------------------------------------------------------------


def identify(ivr: Ivr, companies: Companies) -> str:
    """The usual path; returns the id of a conversation that has ended."""
    conversation_id = str(uuid.uuid4())
    companies.know("alpha", {CALLER: invented_customer("alpha", CALLER)})
    ivr.start(conversation_id, CALLER)
    until = time.monotonic() + 20
    while (document := ivr.read(conversation_id).document)["status"] == "ONGOING":
        assert time.monotonic() < until
        time.sleep(1)  # not `wait`: ten reads a second would hide the other calls
    assert document["status"] == "SUCCESS"
    assert ivr.set_attributes(conversation_id, {"reason": "billing"}).status == 200
    return conversation_id


def time_out(account: Account, ivr: Ivr, like: str) -> None:
    """The reader finds a conversation whose execution has died, and concludes it."""
    dead = copy(account, like, status="ONGOING", deadlineAt=moment(-1))
    assert ivr.read(dead).document["status"] == "TIMED_OUT"


def take_over_a_start(account: Account, ivr: Ivr, like: str) -> None:
    """A start waits for another request's claim, which runs out, and starts the execution itself."""
    claimed = copy(
        account,
        like,
        without=("executionArn", "identity", "concludedAt"),
        status="ONGOING",
        deadlineAt=moment(10),
        startToken="of a request that died",
        startClaimedUntil=moment(0.5),
    )
    assert ivr.start(claimed, CALLER).status == 202


def start_in_vain(account: Account, ivr: Ivr) -> None:
    """Step Functions refuses; the start gives its claim back, so that the IVR's own retry succeeds."""
    conversation_id = str(uuid.uuid4())
    with account.denied("start_identification", "states:StartExecution"):
        refused = ivr.start(conversation_id, CALLER)
    assert refused.status == 503
    assert refused.document["error"]["code"] == "TEMPORARILY_UNAVAILABLE"
    assert ivr.start(conversation_id, CALLER).status == 202


def live_through_a_journey(account: Account, ivr: Ivr, like: str, *, answer_within_seconds: int) -> None:
    """A journey whose timer SQS holds, or cannot hold for so long; it is looked at while it waits."""
    identity = {
        name: {"S": f"test {name}"}
        for name in ("source", "customerId", "displayName", "firstName", "lastName")
    }
    conversation_id = copy(account, like)
    account.client("dynamodb").update_item(
        TableName=account.stack.table_name,
        Key={"conversationId": {"S": conversation_id}},
        UpdateExpression="SET #identity = :vip",
        ExpressionAttributeNames={"#identity": "identity"},
        ExpressionAttributeValues={":vip": {"M": {**identity, "segment": {"S": "vip"}}}},
    )
    ivr.set_attributes(conversation_id, {"reason": "cancel"})
    started = ivr.start_journey(
        conversation_id, "retention", {"answer_within_seconds": answer_within_seconds}
    )
    workflow_id = started.document["workflowId"]
    until = time.monotonic() + 90
    while "approve" not in ivr.workflow(workflow_id).document["waitingFor"]:
        assert time.monotonic() < until, ivr.workflow(workflow_id).document
        time.sleep(1)
    account.client("lambda").invoke(
        FunctionName=account.functions["sweep_journeys"]["FunctionName"], Payload=b'{"lookAtAll": true}'
    )
    assert ivr.cancel(workflow_id).document["status"] == "CANCELLED"
    # A message that nobody can read fails, and is to come again: SQS refuses, since it never gave it out.
    unreadable = {
        "messageId": "1",
        "receiptHandle": "1",
        "body": "{}",
        "attributes": {"ApproximateReceiveCount": "1"},
    }
    account.client("lambda").invoke(
        FunctionName=account.functions["run_journey"]["FunctionName"],
        Payload=json.dumps({"Records": [unreadable]}),
    )


def copy(account: Account, like: str, *, without: tuple[str, ...] = (), **texts: str) -> str:
    """Write a conversation like another one, some of its texts changed; returns its id."""
    table = account.stack.table_name
    client: DynamoDBClient = account.client("dynamodb")
    item = client.get_item(TableName=table, Key={"conversationId": {"S": like}})["Item"]
    conversation_id = str(uuid.uuid4())
    changes = {name: {"S": text} for name, text in {**texts, "conversationId": conversation_id}.items()}
    kept = {name: value for name, value in item.items() if name not in without}
    client.put_item(TableName=table, Item={**kept, **changes})
    return conversation_id


def moment(seconds_from_now: float) -> str:
    moment = datetime.now(UTC) + timedelta(seconds=seconds_from_now)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
