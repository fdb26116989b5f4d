"""`make doctor`: after a deployment, what of a stack works and what doesn't, and what to do about it.

    python -m operations.doctor meanwhile
    python -m operations.doctor meanwhile --api-url https://callers.example.com/v1

Looks at the stack in the account and region that `sam deploy` takes from samconfig, asks each company for a
number that nobody has, and takes one call end to end, with a journey that has to go on by itself. What it
starts it ends; it leaves two conversations, which expire as any other. Ends with 0 only when all is well,
with 1 when something is wrong, and with 2 when nothing is, as far as the role may look.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import batched
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from conversation import client_certificate
from conversation.credentials import tls_settings
from operations.api_address import reachable
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
# A journey goes on within seconds of what it waits for; a wake-up that is lost, within two minutes.
JOURNEY_SECONDS = 30
# To get a certificate from another company takes weeks.
RENEW_DAYS = 30
# What an emulator may not offer: no fault of the stack.
NOT_OFFERED = {"400", "501", "InvalidAction", "NotImplemented", "UnknownOperationException"}
# What a role may not look at: no fault of the stack either, but nobody knows then that all is well.
DENIED = {
    "AccessDenied", "AccessDeniedException", "AuthorizationError", "ExpiredToken", "ExpiredTokenException",
    "InvalidClientTokenId", "UnauthorizedOperation", "UnrecognizedClientException",
}  # fmt: skip


class Finding(NamedTuple):
    """One thing that was looked at: what it is, and what to do.

    state: "ok", "WRONG", "?" when it is not offered here, or "DENIED" when the role may not look.
    """

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
    def of(cls, session: boto3.Session, name: str, api_url: str = "") -> Patient:
        """Look at CloudFormation, which knows where the API is if nobody says so.

        Raises ClientError when there is no such stack.
        """
        cloudformation = session.client("cloudformation")
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        outputs = {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
        return cls(
            session,
            name,
            (api_url or reachable(outputs.get("ApiUrl", ""), os.environ.get("AWS_ENDPOINT_URL"))).rstrip("/"),
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

    def called(self, function: str) -> str:
        """What callers of a function name: with GradualDeployment its alias, else the function itself."""
        alias = f"{function}Aliaslive"
        return self.physical(alias if alias in self.resources else function)

    def of_type(self, kind: str) -> dict[str, str]:
        return {name: physical for name, (type_, physical) in self.resources.items() if type_ == kind}

    @property
    def has_journeys(self) -> bool:
        return "WorkflowTableName" in self.outputs

    @property
    def secrets(self) -> list[str]:
        """Whose secrets there are: the companies' and, with CrmUrl, the CRM's."""
        return sorted(one.removesuffix("SecretArn") for one in self.outputs if one.endswith("SecretArn"))

    @property
    def companies(self) -> list[str]:
        return [one for one in self.secrets if f"Lookup{one}Function" in self.resources]


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


def runnable(stack: Patient) -> Iterator[Finding]:
    """Each function can run: AWS could set it up, and nobody has taken its concurrency away."""
    client, stopped = stack.client("lambda"), False
    for logical_id, name in sorted(stack.of_type("AWS::Lambda::Function").items()):
        found = client.get_function(FunctionName=name)
        if found["Configuration"].get("State") == "Failed":
            yield wrong(
                f"{logical_id} is Failed", f"{found['Configuration'].get('StateReason')}: deploy again"
            )
        elif found.get("Concurrency", {}).get("ReservedConcurrentExecutions") == 0:
            yield wrong(
                f"{logical_id} is switched off: none of it may run",
                f"aws lambda delete-function-concurrency --function-name {name}",
            )
        else:
            continue
        stopped = True
    if not stopped:
        yield good("the functions can run")


def aliases(stack: Patient) -> Iterator[Finding]:
    """With GradualDeployment, no alias was left between two versions: the next deployment would fail."""
    client, between = stack.client("lambda"), False
    found = sorted(stack.of_type("AWS::Lambda::Alias").items())
    if not found or stack.status not in SETTLED:
        return
    for logical_id, arn in found:
        function, _, name = arn.rpartition(":")
        if client.get_alias(FunctionName=function, Name=name).get("RoutingConfig"):
            between = True
            yield wrong(
                f"{logical_id} names two versions",
                f"aws lambda update-alias --function-name {function} --name {name} --routing-config '{{}}'",
            )
    if not between:
        yield good(f"each of {len(found)} aliases names one version")


def log_retention(stack: Patient) -> Iterator[Finding]:
    """Logs are kept for as long as docs/data-protection.md promises."""
    logs, days = stack.client("logs"), int(stack.parameters["LogRetentionDays"])
    for logical_id, group in sorted(stack.of_type("AWS::Logs::LogGroup").items()):
        found = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        mine = [one for one in found if one["logGroupName"] == group]
        if not mine:
            yield wrong(f"{logical_id} is gone", "deploy again with another LogRetentionDays, then back")
        elif (kept := mine[0].get("retentionInDays")) != days:
            yield wrong(
                f"{logical_id} is kept {f'for {kept} days' if kept else 'for ever'}, not for {days}",
                f"aws logs put-retention-policy --log-group-name {group} --retention-in-days {days}",
            )


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
    """Each secret holds the fields that its description names."""
    manager = stack.client("secretsmanager")
    for owner in stack.secrets:
        arn = stack.outputs[f"{owner}SecretArn"]
        fields = re.findall(r'"(\w+)"', manager.describe_secret(SecretId=arn).get("Description", ""))
        fill = f"aws secretsmanager put-secret-value --secret-id {arn} with {', '.join(fields)}"
        try:
            value = manager.get_secret_value(SecretId=arn).get("SecretString", "")
        except manager.exceptions.ResourceNotFoundException:
            value = ""
        if not value:
            yield wrong(f"{owner}'s secret is empty", fill)
        elif not _holds(document := _document(value), fields):
            yield wrong(f"{owner}'s secret is not a JSON object with {', '.join(fields)}", fill)
        else:
            yield good(f"{owner}'s secret is filled")
            yield from _certificate(owner, document)


def _document(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _holds(document: Any, fields: list[str]) -> bool:
    return isinstance(document, dict) and all(
        isinstance(document.get(one), str) and document[one] for one in fields
    )


def _certificate(owner: str, document: dict[str, object]) -> Iterator[Finding]:
    """The client certificate and the authority in a secret, where there are any."""
    settings = tls_settings(document)
    if not settings:
        return
    todo = "docs/operations.md, a company that wants a certificate"
    try:
        client_certificate.context_of(settings)
        if client_certificate.CERTIFICATE not in settings:
            return
        _, end = client_certificate.validity(settings)
    except client_certificate.Unusable as error:
        yield wrong(f"{owner}'s secret can't be used: {error}", todo)
        return
    days = (end - datetime.now(UTC)).days
    if days < RENEW_DAYS:
        yield wrong(f"{owner}'s client certificate is valid for {days} more days", todo)
    else:
        yield good(f"{owner}'s client certificate is valid until {end:%d %B %Y}")


def companies(stack: Patient) -> Iterator[Finding]:
    """Each company answers its lookup, with the credentials that it has."""
    functions = stack.client("lambda")
    event = {
        "conversationId": stack.conversation_id,
        "callerNumber": NOBODY,
        "deadlineAt": (datetime.now(UTC) + timedelta(minutes=1)).isoformat(),
    }
    for company in stack.companies:
        name = stack.called(f"Lookup{company}Function")
        started = time.monotonic()
        answer = functions.invoke(FunctionName=name, Payload=json.dumps(event))
        document = json.loads(answer["Payload"].read() or b"null")
        took = f"{time.monotonic() - started:.1f} s"
        if "FunctionError" not in answer and isinstance(document, dict) and "outcome" in document:
            if "secretStage" in document:
                yield wrong(
                    f"{company} takes the secret's value before the current one, not the current one",
                    "docs/operations.md, replacing a credential: it fails once the old one ends",
                )
                continue
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
    """Started while its caller is being identified, and seen to go on by itself; then it is cancelled."""
    conversation_id = f"{stack.conversation_id}-journey"
    try:
        http.post("/conversations", json={"conversationId": conversation_id, "callerNumber": NOBODY})
        started = http.post(f"/conversations/{conversation_id}/journeys/retention", json={})
        if started.status_code not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            yield wrong(f"a journey's start answers {started.status_code}", _what_it_says(started))
            return
        path = f"/workflows/{started.json()['workflowId']}"
        seen, until = http.get(path), time.monotonic() + JOURNEY_SECONDS
        while _waits_for_identity(seen) and time.monotonic() < until:
            time.sleep(1)
            seen = http.get(path)
        cancelled = http.delete(path)
    except httpx.HTTPError as error:
        yield wrong(f"a journey's request got no answer: {type(error).__name__}", "the log of journeys_api")
        return
    if seen.status_code != HTTPStatus.OK:
        yield wrong(f"GET /workflows/… answers {seen.status_code}", _what_it_says(seen))
    elif _waits_for_identity(seen):
        yield wrong(
            f"a journey does not go on within {JOURNEY_SECONDS} s",
            "the mappings below, and the logs of notify_journeys and run_journey",
        )
    elif seen.json()["status"] == "PARKED":
        yield wrong("a journey parks at once", "docs/operations.md, a parked journey")
    elif cancelled.status_code not in {HTTPStatus.OK, HTTPStatus.CONFLICT}:  # it may have ended by itself
        yield wrong(f"a journey's end answers {cancelled.status_code}", _what_it_says(cancelled))
    else:
        yield good("a journey goes on by itself and ends")


def _waits_for_identity(seen: httpx.Response) -> bool:
    if seen.status_code != HTTPStatus.OK:
        return False
    snapshot = seen.json()
    return snapshot["status"] == "RUNNING" or "identified" in snapshot["waitingFor"]


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
        found = functions.list_event_source_mappings(FunctionName=stack.called(logical_id))
        states = [one["State"] for one in found["EventSourceMappings"]]
        results = [one.get("LastProcessingResult", "") for one in found["EventSourceMappings"]]
        if states and all(state in {"Enabled", "Enabling", "Updating", "Creating"} for state in states):
            yield good(what)
            for result in results:
                if result.startswith("PROBLEM"):  # Lambda's own word
                    yield wrong(f"the mapping of {logical_id} says {result}", "its function's log says why")
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
    """None rings, and none has been muted or deleted."""
    kinds = [stack.of_type(f"AWS::CloudWatch::{kind}") for kind in ("Alarm", "CompositeAlarm")]
    names = sorted(physical.rpartition(":")[2] for kind in kinds for physical in kind.values())
    found = list(_alarms(stack, names))
    if missing := set(names) - {one["AlarmName"] for one in found}:
        yield wrong(f"{len(missing)} alarms are gone, such as {min(missing)}", "deploy again")
    # Those that tell nobody are parts of another one, such as the clock of the working hours.
    telling = [one for one in found if one["AlarmActions"]]
    if muted := [one["AlarmName"] for one in telling if not one["ActionsEnabled"]]:
        names_of_them = " ".join(muted)
        yield wrong(
            f"alarms are muted: {', '.join(muted)}",
            f"aws cloudwatch enable-alarm-actions --alarm-names {names_of_them}",
        )
    if ringing := [one["AlarmName"] for one in telling if one["StateValue"] == "ALARM"]:
        yield wrong(f"alarms ring: {', '.join(ringing)}", "docs/operations.md, when an alarm rings")
    else:
        yield good(f"none of {len(names)} alarms rings")


def _alarms(stack: Patient, names: list[str]) -> Iterator[Any]:
    pages = stack.client("cloudwatch").get_paginator("describe_alarms")
    for some in batched(names, 100, strict=False):
        for page in pages.paginate(AlarmNames=list(some), AlarmTypes=["MetricAlarm", "CompositeAlarm"]):
            yield from (*page["MetricAlarms"], *page["CompositeAlarms"])


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
    # What functions of others have reserved is theirs alone.
    free = int(limits["UnreservedConcurrentExecutions"]) + reserved
    if reserved > quota - UNRESERVED:
        yield wrong(f"{reserved} are reserved of a concurrency of {quota}", "lower the reservations")
    elif needed > free:
        yield wrong(
            f"{given['ReadRateLimit']} calls a second that wait {given['MaxWaitSeconds']} s take {needed} "
            f"functions at once, and this account and region has {free} for them",
            "ask AWS for a higher quota of concurrent executions, or lower ReadRateLimit or MaxWaitSeconds",
        )
    else:
        yield good(f"a concurrency of {free} carries {needed}")


CHECKS: tuple[Check, ...] = (
    deployed, runnable, aliases, secrets, companies, call, mappings, schedule, lost, parked, subscriptions,
    alarms, concurrency, access_log, log_retention,
)  # fmt: skip


def examine(stack: Patient) -> Iterator[Finding]:
    """Do all the checks, whatever one of them comes upon."""
    for check in CHECKS:
        try:
            yield from check(stack)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in DENIED | NOT_OFFERED:
                state = "DENIED" if code in DENIED else "?"
                what = f"{check.__name__.replace('_', ' ')} can't be checked: {error.operation_name} ({code})"
                yield Finding(state, what, "ask somebody with more rights" if code in DENIED else "")
            else:
                yield wrong(f"{check.__name__.replace('_', ' ')}: {code}", str(error))
        except (BotoCoreError, KeyError) as error:
            what = f"{check.__name__.replace('_', ' ')}: {type(error).__name__} {error}"
            yield wrong(what, "part of the stack is gone: deploy again")


def main(arguments: list[str]) -> int:
    """Print what was found; 0 when all is well."""
    parser = argparse.ArgumentParser(prog="python -m operations.doctor")
    parser.add_argument("stack")
    parser.add_argument("--api-url", default="", help="where the API is, if not where its output says")
    given = parser.parse_args(arguments)
    try:
        stack = Patient.of(deployment_of(given.stack).session(), given.stack, given.api_url)
    except (NotConfigured, BotoCoreError, ClientError) as error:
        print(f"WRONG  {given.stack} can't be looked at: {error}")
        return 1
    states = set()
    for finding in examine(stack):
        print(f"{finding.state:<6} {finding.what}")
        if finding.todo:
            print(f"       -> {finding.todo}")
        states.add(finding.state)
    if "WRONG" in states:
        print("something is wrong")
        return 1
    if "DENIED" in states:
        print("nothing is wrong as far as this role may look")
        return 2
    print(f"all is well with {given.stack}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
