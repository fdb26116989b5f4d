"""No log line of a whole run tells who called: conftest.py lets this file run last, and it reads them all."""

import base64
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import phonenumbers
import pytest

from local.companies import CREDENTIALS, SOURCES, Behaviour, Companies, Customer, Fault, invented_customer
from local.emulator.stack import Stack
from local.ivr import Ivr
from local.system import System

# What a telephone number looks like, whoever's it is: E.164, as it stands or in a URL, and the URIs of IVRs.
NUMBER = re.compile(r"(?:\+|%2B|tel:|sip:)\d{6,}", re.IGNORECASE)
# The user name that all demo companies give us is the stack's own name, which stands in every line.
SECRETS = {secret for credentials in CREDENTIALS.values() for secret in credentials.values()} - {"meanwhile"}
# Shorter texts stand in lines by chance.
SHORTEST_ATTRIBUTE = 8
# What the retention journey writes by itself; "identification timed out" is a line.
OUTCOMES = {"approved", "timed out"}
LINES_OF_ONE_INVOCATION = 3  # START, END, REPORT
LINES_OF_A_PAGE = 10_000


@dataclass(frozen=True)
class Log:
    """One log: a log group, or the emulator's own."""

    name: str
    lines: list[str]


def conversations_that_leave_traces(ivr: Ivr, companies: Companies) -> None:
    """Known callers, companies at fault and requests that are refused, with data in all of them."""
    for position, fault in enumerate((None, Fault.WRONG_SCHEMA, Fault.MALFORMED_JSON, Fault.SERVER_ERROR)):
        number = f"+3363998700{position}"
        for source in SOURCES:
            companies.know(source, {number: invented_customer(source, number)})
            companies.behave(source, by_number={number: Behaviour(fault=fault)})
        conversation_id = str(uuid.uuid4())
        ivr.start(conversation_id, number, {"reason": "the caller wants to speak of a divorce"})
        ivr.read(conversation_id, wait=20)
        ivr.set_attributes(conversation_id, {"note": "card 4111 1111 1111 1111"})
        ivr.start(conversation_id, "+33639987099")
        ivr.start(str(uuid.uuid4()), f"{number}{number}")
        ivr.http.get("/conversations/" + quote(f"tel:{number}"))


# What a supervisor sends, what goes on to the CRM, and the client's own words where nothing expects any.
DECISION = {"by": "Marguerite Beauchemin", "reason": "a widow since November, be kind"}
OFFER = "two months free"
UNLISTED = "three months without any invoice"
FIELD = "mother-in-law-moved-in"


def journeys_that_leave_traces(stack: Stack, ivr: Ivr, companies: Companies) -> None:
    """A journey to its end, one that is refused whatever it sends, and faults in what runs them."""
    number = "+33639987011"
    companies.know(
        "gamma",
        {number: Customer(customer_id="G-987011", first_name="Léontine", last_name="Vasseur", segment="vip")},
    )
    conversation_id = str(uuid.uuid4())
    ivr.start(conversation_id, number, {"reason": "cancel"})
    workflow_id = ivr.start_journey(conversation_id, "retention", {"offer": OFFER}).document["workflowId"]
    wait_until(lambda: ivr.workflow(workflow_id).document["state"]["crm_note"] != "")
    wait_until(lambda: "approve" in ivr.workflow(workflow_id).document["waitingFor"])
    refused = [
        ivr.send_event(workflow_id, "approve", {"by": DECISION["by"], "reason": 7}),
        ivr.send_event(workflow_id, "approve", {FIELD: DECISION["reason"]}),
        ivr.send_event(workflow_id, quote(DECISION["reason"]), DECISION),
        ivr.start_journey(conversation_id, "retention", {FIELD: DECISION["reason"]}),
        ivr.start_journey(conversation_id, "retention", {"offer": {FIELD: number}}),
        ivr.start_journey(conversation_id, "retention", {"offer": UNLISTED}),
    ]
    assert [reply.status for reply in refused] == [400, 400, 409, 400, 400, 400]
    with unreadable(stack, workflow_id):
        assert ivr.send_event(workflow_id, "approve", DECISION).status == 503
    wait_until(lambda: ivr.send_event(workflow_id, "approve", DECISION, key="click").status == 200)
    wait_until(lambda: ivr.workflow(workflow_id).document["status"] == "FINISHED")
    functions = stack.session.client("lambda", endpoint_url=stack.endpoint)
    for name, event in (
        ("sweep_journeys", {"lookAtAll": True}),
        ("run_journey", {"Records": [{
            "messageId": "1", "receiptHandle": "1", "attributes": {"ApproximateReceiveCount": "1"},
            "body": json.dumps({"number": number, "reason": DECISION["reason"]}),
        }]}),
        ("notify_journeys", {"Records": [{"eventID": "1", "dynamodb": {"SequenceNumber": "1", "NewImage": {
            "conversationId": {"S": conversation_id}, "journeys": {"SS": ["retention"]},
            "attributes": {"M": {"reason": {"S": DECISION["reason"]}}}, "callerNumber": {"S": number},
        }}}]}),
    ):  # fmt: skip
        functions.invoke(FunctionName=function_named(stack, name), Payload=json.dumps(event))


@contextmanager
def unreadable(stack: Stack, workflow_id: str) -> Iterator[None]:
    """Put a text where a journey's state has a number, for the length of a `with` block."""
    client = stack.session.client("dynamodb", endpoint_url=stack.endpoint)
    where: dict[str, Any] = {
        "TableName": stack.outputs["WorkflowTableName"],
        "Key": {"workflowId": {"S": workflow_id}},
    }

    def store(state: str) -> None:
        client.update_item(
            **where,
            UpdateExpression="SET #state = :state",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={":state": {"S": state}},
        )

    state = client.get_item(**where)["Item"]["state"]["S"]
    store(json.dumps(json.loads(state) | {"answer_within_seconds": DECISION["reason"]}))
    try:
        yield
    finally:
        store(state)


def function_named(stack: Stack, service: str) -> str:
    functions = stack.session.client("lambda", endpoint_url=stack.endpoint)
    (name,) = [
        function["FunctionName"]
        for page in functions.get_paginator("list_functions").paginate()
        for function in page["Functions"]
        if function["FunctionName"].startswith(f"{stack.name}-")
        and function["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] == service
    ]
    return name


def wait_until(condition: Callable[[], bool], seconds: float = 90) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, f"not so within {seconds} s"
        time.sleep(0.5)


def logs(system: System, stack: Stack) -> list[Log]:
    client = stack.session.client("logs", endpoint_url=stack.endpoint)
    groups = [
        group["logGroupName"]
        for page in client.get_paginator("describe_log_groups").paginate()
        for group in page["logGroups"]
        if stack.name in group["logGroupName"]
    ]
    return [
        *(Log(group, list(read(client, group))) for group in groups),
        Log("emulator", system.emulator.log.read_text(errors="replace").splitlines()),
    ]


def read(client: Any, group: str) -> Iterator[str]:
    """Every line of a log group, some of them twice: the emulator answers 10,000 and has no second page."""
    start = 0
    while True:
        events = client.filter_log_events(logGroupName=group, startTime=start, limit=LINES_OF_A_PAGE)[
            "events"
        ]
        yield from (event["message"] for event in events)
        if len(events) < LINES_OF_A_PAGE:
            return
        assert events[-1]["timestamp"] > start, "a whole page within a millisecond"
        start = events[-1]["timestamp"]


def what_nobody_may_read(stack: Stack) -> dict[str, set[str]]:
    """Numbers, names, customer ids and attributes of every conversation in the table, what was sent to a
    journey, and all secrets.
    """
    client = stack.session.client("dynamodb", endpoint_url=stack.endpoint)
    found: dict[str, set[str]] = {"number": set(), "name": set(), "customer": set(), "attribute": set()}
    for page in client.get_paginator("scan").paginate(TableName=stack.table_name):
        for item in page["Items"]:
            if "callerNumber" in item:
                number = phonenumbers.parse(item["callerNumber"]["S"])
                found["number"].add(str(number.national_number))
            found["attribute"] |= {
                value
                for value in texts(item["attributes"]["M"]).values()
                if len(value) >= SHORTEST_ATTRIBUTE and value not in OUTCOMES
            }
            identities = [match["M"] for match in item["otherMatches"]["M"].values()]
            identities += [item["identity"]["M"]] if "identity" in item else []
            for identity in map(texts, identities):
                found["name"] |= {identity["displayName"], identity["firstName"], identity["lastName"]}
                found["customer"].add(identity["customerId"])
    found["event"] = {*DECISION.values(), UNLISTED, FIELD}
    secrets = {stack.api_key, *SECRETS}
    found["secret"] = secrets | {
        base64.b64encode(f"{user}:{password}".encode()).decode()
        for user, password in ((CREDENTIALS["beta"]["username"], CREDENTIALS["beta"]["password"]),
                               (CREDENTIALS["gamma"]["clientId"], CREDENTIALS["gamma"]["clientSecret"]))
    }  # fmt: skip
    return found


def texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {name: value["S"] for name, value in attributes.items() if "S" in value}


def spellings(text: str) -> set[str]:
    """The ways in which a text may stand in a log line."""
    return {text, quote(text), quote(text, safe=""), json.dumps(text)[1:-1]} - {""}


def pattern(values: set[str]) -> re.Pattern[str]:
    """All spellings of some texts, each standing for itself and not as a part of a longer word."""
    alternatives = sorted(
        {spelling for value in values for spelling in spellings(value)}, key=len, reverse=True
    )
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, alternatives)) + r")(?!\w)")


@pytest.fixture(scope="module")
def all_logs(system: System | None, stack: Stack, ivr: Ivr, companies: Companies) -> list[Log]:
    assert system is not None, "companies skips what is not for the emulator"
    conversations_that_leave_traces(ivr, companies)
    journeys_that_leave_traces(stack, ivr, companies)
    return logs(system, stack)


def test_every_function_has_written_lines(all_logs: list[Log]) -> None:
    """There is something to find: each function has run, and written more than the platform did for it."""
    lines = {log.name.rpartition("-")[2]: log.lines for log in all_logs}
    services = {"start_identification", "read_conversation", "set_attributes"}
    services |= {"journeys_api", "run_journey", "notify_journeys", "sweep_journeys"}
    for service in services | {f"lookup_{source}" for source in SOURCES}:
        invocations = sum(line.startswith("START RequestId") for line in lines[service])
        assert invocations > 0
        assert len(lines[service]) > LINES_OF_ONE_INVOCATION * invocations
        assert any(f'"service":"{service}"' in line for line in lines[service])


@pytest.mark.parametrize("kind", ["number", "name", "customer", "attribute", "event", "secret"])
def test_no_line_tells_who_called(all_logs: list[Log], stack: Stack, kind: str) -> None:
    secret_texts = what_nobody_may_read(stack)[kind]
    assert secret_texts, "the run had nothing that could show"
    searched = pattern(secret_texts)
    if kind == "number":
        # Digits are searched for within longer ones: the country code stands before them.
        searched = re.compile("|".join(secret_texts))
    assert found(all_logs, searched) == []


def test_no_line_holds_what_looks_like_a_number(all_logs: list[Log]) -> None:
    assert found(all_logs, NUMBER) == []


def found(all_logs: list[Log], searched: re.Pattern[str]) -> list[str]:
    return [f"{log.name}: {line[:300]}" for log in all_logs for line in log.lines if searched.search(line)]


@pytest.mark.parametrize(
    "line",
    ["customer Élise Delmas", "customer \\u00c9lise", "GET /p?name=%C3%89lise", '{"firstName":"Élise"}'],
)
def test_a_name_is_found_however_it_is_written(line: str) -> None:
    assert pattern({"Élise"}).search(line)
    assert not pattern({"Inès"}).search(line)


@pytest.mark.parametrize(
    "line", ["GET /customers?phone=%2B33612345678", "+33612345678", "sip:33612345678@host"]
)
def test_a_number_is_found_however_it_is_written(line: str) -> None:
    assert NUMBER.search(line)


def test_a_timestamp_is_no_number() -> None:
    assert not NUMBER.search('"timestamp":"2026-11-21 20:36:18,628+0000","at":1795293378628')
