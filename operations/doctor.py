"""`make doctor`: after a deployment, what of a stack works and what doesn't, and what to do about it.

    python -m operations.doctor meanwhile
    python -m operations.doctor meanwhile --api-url https://callers.example.com/v1

Looks at the stack in the account and region that `sam deploy` takes from samconfig, asks each company for a
number that nobody has, and takes one call end to end. What it starts it ends; it leaves one conversation,
which expires as any other. Ends with 0 only when all is well.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from operations.sam_config import NotConfigured, deployment_of

if TYPE_CHECKING:
    import boto3

# Of a block that is kept for fiction (NANPA, 555-0100 to 555-0199): nobody has it.
NOBODY = "+12025550100"
# An identification ends within nine seconds, and a read waits for at most twenty.
END_SECONDS = 30
# What Lambda keeps for functions without a reservation; it refuses to reserve more.
UNRESERVED = 100
SETTLED = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "IMPORT_COMPLETE"}
# What an account or an emulator may not offer, or a role may not look at: no fault of the stack.
NOT_TO_BE_SEEN = {"AccessDenied", "AccessDeniedException", "UnknownOperationException", "NotImplemented"}


class Finding(NamedTuple):
    """One thing that was looked at: "ok", "WRONG" or "?", what it is, and what to do."""

    state: str
    what: str
    todo: str = ""


@dataclass(frozen=True)
class Patient:
    """A deployed stack: its outputs and parameters, and its resources by logical id."""

    session: boto3.Session
    name: str
    api_url: str
    status: str
    outputs: dict[str, str]
    parameters: dict[str, str]
    resources: dict[str, tuple[str, str]]
    conversation_id: str = field(default_factory=lambda: f"doctor-{uuid.uuid4()}")

    @classmethod
    def of(cls, session: boto3.Session, name: str, api_url: str) -> Patient:
        """Look at CloudFormation. Raises ClientError when there is no such stack."""
        cloudformation = session.client("cloudformation")
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        outputs = {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
        return cls(
            session,
            name,
            (api_url or outputs.get("ApiUrl", "")).rstrip("/"),
            stack["StackStatus"],
            outputs,
            {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", [])},
            {
                one["LogicalResourceId"]: (one["ResourceType"], one["PhysicalResourceId"])
                for page in pages
                for one in page["StackResourceSummaries"]
            },
        )

    def client(self, service: str) -> Any:
        return self.session.client(service)  # type: ignore[call-overload]

    def physical(self, logical_id: str) -> str:
        return self.resources[logical_id][1]

    def of_type(self, kind: str) -> dict[str, str]:
        return {name: physical for name, (type_, physical) in self.resources.items() if type_ == kind}

    @property
    def has_journeys(self) -> bool:
        return "WorkflowTableName" in self.outputs

    @property
    def companies(self) -> list[str]:
        return sorted(one.removesuffix("SecretArn") for one in self.outputs if one.endswith("SecretArn"))


type Check = Callable[[Patient], Iterator[Finding]]


def good(what: str) -> Finding:
    return Finding("ok", what)


def wrong(what: str, todo: str) -> Finding:
    return Finding("WRONG", what, todo)


# --- what was deployed -------------------------------------------------------------------------------------


def deployed(stack: Patient) -> Iterator[Finding]:
    """The last deployment came to its end."""
    if stack.status in SETTLED:
        yield good(f"the stack is {stack.status}")
    else:
        yield wrong(f"the stack is {stack.status}", "deploy again; CloudFormation's events say what failed")


def log_retention(stack: Patient) -> Iterator[Finding]:
    """No log is kept for ever."""
    logs = stack.client("logs")
    for logical_id, group in sorted(stack.of_type("AWS::Logs::LogGroup").items()):
        found = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        mine = [one for one in found if one["logGroupName"] == group]
        if not mine:
            yield wrong(f"{logical_id} is gone", "deploy again with another LogRetentionDays, then back")
        elif "retentionInDays" not in mine[0]:
            yield wrong(f"{logical_id} is kept for ever", "somebody changed it: set its retention again")


def access_log(stack: Patient) -> Iterator[Finding]:
    """API Gateway may write the access log."""
    if stack.client("apigateway").get_account().get("cloudwatchRoleArn"):
        yield good("API Gateway has its role for logs")
    else:
        yield wrong(
            "API Gateway has no role for logs in this account and region",
            "deploy with ApiGatewayLogRole=set: without the log nothing hears of refused requests",
        )


# --- the companies -----------------------------------------------------------------------------------------


def secrets(stack: Patient) -> Iterator[Finding]:
    """Each company's secret holds the fields that its description names."""
    manager = stack.client("secretsmanager")
    for company in stack.companies:
        arn = stack.outputs[f"{company}SecretArn"]
        fields = re.findall(r'"(\w+)"', manager.describe_secret(SecretId=arn).get("Description", ""))
        fill = f"aws secretsmanager put-secret-value --secret-id {arn} with {', '.join(fields)}"
        try:
            value = manager.get_secret_value(SecretId=arn).get("SecretString", "")
        except manager.exceptions.ResourceNotFoundException:
            value = ""
        if not value:
            yield wrong(f"{company}'s secret is empty", fill)
        elif not _holds(value, fields):
            yield wrong(f"{company}'s secret is not a JSON object with {', '.join(fields)}", fill)
        else:
            yield good(f"{company}'s secret is filled")


def _holds(value: str, fields: list[str]) -> bool:
    try:
        document = json.loads(value)
    except ValueError:
        return False
    return isinstance(document, dict) and all(
        isinstance(document.get(one), str) and document[one] for one in fields
    )


def companies(stack: Patient) -> Iterator[Finding]:
    """Each company answers its lookup, with the credentials that it has."""
    functions = stack.client("lambda")
    event = {
        "conversationId": stack.conversation_id,
        "callerNumber": NOBODY,
        "deadlineAt": (datetime.now(UTC) + timedelta(minutes=1)).isoformat(),
    }
    for company in stack.companies:
        name = stack.physical(f"Lookup{company}Function")
        started = time.monotonic()
        answer = functions.invoke(FunctionName=name, Payload=json.dumps(event))
        document = json.loads(answer["Payload"].read() or b"null")
        took = f"{time.monotonic() - started:.1f} s"
        if "FunctionError" not in answer and isinstance(document, dict) and "outcome" in document:
            yield good(f"{company} answers ({took})")
        else:
            reason = document.get("errorMessage", "") if isinstance(document, dict) else ""
            yield wrong(
                f"{company} gives no usable answer: {reason or 'the lookup failed'}",
                f"look at {company}Url, its secret and the log of lookup_{company.lower()}",
            )


# --- a call from end to end --------------------------------------------------------------------------------


def call(stack: Patient) -> Iterator[Finding]:
    """A caller whom nobody knows is looked for, and the answer can be read."""
    key = api_key(stack)
    if key is None:
        yield wrong("the API key is gone", "deploy again: IVRs have to send its value in x-api-key")
        return
    with httpx.Client(base_url=stack.api_url, headers={"x-api-key": key}, timeout=35) as http:
        yield from _identification(stack, http)
        if stack.has_journeys:
            yield from _journey(stack, http)


def api_key(stack: Patient) -> str | None:
    """The key that IVRs send, or None when it is gone."""
    apis = stack.client("apigateway")
    try:
        key: str | None = apis.get_api_key(apiKey=stack.outputs["ApiKeyId"], includeValue=True)["value"]
    except apis.exceptions.NotFoundException:
        return None
    return key


def _identification(stack: Patient, http: httpx.Client) -> Iterator[Finding]:
    body = {"conversationId": stack.conversation_id, "callerNumber": NOBODY}
    try:
        started = http.post("/conversations", json=body)
        if started.status_code not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            yield wrong(f"POST /conversations answers {started.status_code}", _what_it_says(started))
            return
        began, until = time.monotonic(), time.monotonic() + END_SECONDS
        path, query = f"/conversations/{stack.conversation_id}", {"wait": "5"}
        read = http.get(path, params=query)
        while _is_ongoing(read) and time.monotonic() < until:
            read = http.get(path, params=query)
        took = f"{time.monotonic() - began:.1f} s"
    except httpx.HTTPError as error:
        yield wrong(
            f"the API can't be reached: {type(error).__name__}", f"is {stack.api_url} the right address?"
        )
        return
    status = read.json().get("status") if read.status_code == HTTPStatus.OK else None
    if status in {"NOT_FOUND", "SUCCESS"}:
        yield good(f"an identification ends as {status} ({took})")
    elif status is None:
        yield wrong(f"GET /conversations/… answers {read.status_code}", _what_it_says(read))
    else:
        yield wrong(
            f"an identification ends as {status}: {read.json()['sources']}",
            "the companies above say why; else the state machine's log",
        )


def _is_ongoing(read: httpx.Response) -> bool:
    return read.status_code == HTTPStatus.OK and bool(read.json()["status"] == "ONGOING")


def _journey(stack: Patient, http: httpx.Client) -> Iterator[Finding]:
    """Started, seen to wait, and cancelled."""
    try:
        started = http.post(f"/conversations/{stack.conversation_id}/journeys/retention", json={})
        if started.status_code not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            yield wrong(f"a journey's start answers {started.status_code}", _what_it_says(started))
            return
        cancelled = http.delete(f"/workflows/{started.json()['workflowId']}")
    except httpx.HTTPError as error:
        yield wrong(f"a journey's request got no answer: {type(error).__name__}", "the log of journeys_api")
        return
    if cancelled.status_code == HTTPStatus.OK and cancelled.json()["status"] in {"CANCELLED", "FINISHED"}:
        yield good("a journey starts and is cancelled")
    else:
        yield wrong(f"a journey's end answers {cancelled.status_code}", _what_it_says(cancelled))


def _what_it_says(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "the log of the route's function says more"


# --- what runs by itself -----------------------------------------------------------------------------------


def mappings(stack: Patient) -> Iterator[Finding]:
    """The stream and the queue call their functions."""
    if not stack.has_journeys:
        return
    functions = stack.client("lambda")
    for logical_id, what in (
        ("NotifyJourneysFunction", "journeys hear of changes"),
        ("RunJourneyFunction", "journeys are woken up"),
    ):
        found = functions.list_event_source_mappings(FunctionName=stack.physical(logical_id))
        states = [one["State"] for one in found["EventSourceMappings"]]
        if states and all(state in {"Enabled", "Enabling", "Updating", "Creating"} for state in states):
            yield good(what)
        else:
            state = ", ".join(states) or "gone"
            yield wrong(
                f"the event source mapping of {logical_id} is {state}",
                "aws lambda update-event-source-mapping --enabled, then have all journeys look "
                "(docs/operations.md, changes that were lost)",
            )


def schedule(stack: Patient) -> Iterator[Finding]:
    """Lost wake-ups are looked for each minute."""
    if not stack.has_journeys:
        return
    found = stack.client("scheduler").list_schedules(GroupName=stack.physical("SweepGroup"))["Schedules"]
    if [one["State"] for one in found] == ["ENABLED"]:
        yield good("lost wake-ups are looked for each minute")
    else:
        state = ", ".join(one["State"] for one in found) or "gone"
        yield wrong(f"the sweep's schedule is {state}", "enable it in EventBridge Scheduler, or deploy again")


def lost(stack: Patient) -> Iterator[Finding]:
    """Nothing lies where failures end."""
    if not stack.has_journeys:
        return
    sqs = stack.client("sqs")
    for logical_id, todo in (
        ("ResumeDeadLetterQueue", "send them back: docs/operations.md, wake-ups that failed"),
        ("LostChangesQueue", "have all journeys look: docs/operations.md, changes that were lost"),
    ):
        attribute = "ApproximateNumberOfMessages"
        answer = sqs.get_queue_attributes(QueueUrl=stack.physical(logical_id), AttributeNames=[attribute])
        if (count := int(answer["Attributes"][attribute])) > 0:
            yield wrong(f"{count} messages lie in {logical_id}", todo)
        else:
            yield good(f"{logical_id} is empty")


def parked(stack: Patient) -> Iterator[Finding]:
    """No journey waits for a person to repair it."""
    if not stack.has_journeys:
        return
    pages = (
        stack.client("dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=stack.physical("WorkflowTable"),
            FilterExpression="#status = :parked",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":parked": {"S": "PARKED"}},
            Select="COUNT",
        )
    )
    count = sum(page["Count"] for page in pages)
    if count:
        yield wrong(f"{count} journeys are parked", "stepmark list --status PARKED: docs/operations.md")
    else:
        yield good("no journey is parked")


# --- who hears of it ---------------------------------------------------------------------------------------


def subscriptions(stack: Patient) -> Iterator[Finding]:
    """Somebody has subscribed to each topic, and has confirmed it."""
    topics = stack.client("sns")
    for logical_id, arn in sorted(stack.of_type("AWS::SNS::Topic").items()):
        found = topics.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
        confirmed = [one for one in found if one["SubscriptionArn"].startswith("arn:")]
        if confirmed:
            yield good(f"{len(confirmed)} hear of {logical_id}")
        elif found:
            yield wrong(f"nobody has confirmed to hear of {logical_id}", "follow the link in the e-mail")
        else:
            yield wrong(f"nobody hears of {logical_id}", f"aws sns subscribe --topic-arn {arn} …")


def alarms(stack: Patient) -> Iterator[Finding]:
    """None rings."""
    names = sorted(stack.of_type("AWS::CloudWatch::Alarm").values())
    watch, ringing = stack.client("cloudwatch"), list[str]()
    for start in range(0, len(names), 100):
        found = watch.describe_alarms(AlarmNames=names[start : start + 100])["MetricAlarms"]
        ringing += [one["AlarmName"] for one in found if one["StateValue"] == "ALARM"]
        if missing := set(names[start : start + 100]) - {one["AlarmName"] for one in found}:
            yield wrong(f"{len(missing)} alarms are gone, such as {min(missing)}", "deploy again")
    if ringing:
        yield wrong(f"alarms ring: {', '.join(ringing)}", "docs/operations.md, when an alarm rings")
    else:
        yield good(f"none of {len(names)} alarms rings")


# --- what the account has ----------------------------------------------------------------------------------


def concurrency(stack: Patient) -> Iterator[Finding]:
    """The account's concurrency carries what the parameters let in."""
    limits = stack.client("lambda").get_account_settings()["AccountLimit"]
    quota = int(limits["ConcurrentExecutions"])
    given = {name: int(value) for name, value in stack.parameters.items() if value.isdecimal()}
    waiting = given["ReadRateLimit"] * given["MaxWaitSeconds"] + given["ReadBurstLimit"]
    reserved = len(stack.companies) * given["LookupReservedConcurrency"] + given["ReaderReservedConcurrency"]
    if given["ReaderReservedConcurrency"]:
        waiting = min(waiting, given["ReaderReservedConcurrency"])
    needed = waiting + len(stack.companies) * given["ReadRateLimit"]
    if reserved > quota - UNRESERVED:
        yield wrong(f"{reserved} are reserved of a concurrency of {quota}", "lower the reservations")
    elif needed > quota:
        yield wrong(
            f"{given['ReadRateLimit']} calls a second that wait {given['MaxWaitSeconds']} s take {needed} "
            f"functions at once, and this account and region has {quota}",
            "ask AWS for a higher quota of concurrent executions, or lower ReadRateLimit or MaxWaitSeconds",
        )
    else:
        yield good(f"a concurrency of {quota} carries {needed}")


CHECKS: tuple[Check, ...] = (
    deployed, secrets, companies, call, mappings, schedule, lost, parked, subscriptions, alarms, concurrency,
    access_log, log_retention,
)  # fmt: skip


def examine(stack: Patient) -> Iterator[Finding]:
    """Do all the checks, whatever one of them comes upon."""
    for check in CHECKS:
        try:
            yield from check(stack)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in NOT_TO_BE_SEEN:
                yield Finding("?", f"{check.__name__.replace('_', ' ')}: can't be checked ({code})")
            else:
                yield wrong(f"{check.__name__.replace('_', ' ')}: {code}", str(error))
        except (BotoCoreError, KeyError) as error:
            what = f"{check.__name__.replace('_', ' ')}: {type(error).__name__} {error}"
            yield wrong(what, "part of the stack is gone: deploy again")


def main(arguments: list[str]) -> int:
    """Print what was found; 0 when nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m operations.doctor")
    parser.add_argument("stack")
    parser.add_argument("--api-url", default="", help="where the API is, if not where its output says")
    given = parser.parse_args(arguments)
    try:
        stack = Patient.of(deployment_of(given.stack).session(), given.stack, given.api_url)
    except (NotConfigured, BotoCoreError, ClientError) as error:
        print(f"WRONG  {given.stack} can't be looked at: {error}")
        return 1
    failed = False
    for finding in examine(stack):
        print(f"{finding.state:<5}  {finding.what}")
        if finding.todo:
            print(f"       -> {finding.todo}")
        failed |= finding.state == "WRONG"
    print("something is wrong" if failed else f"all is well with {given.stack}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
