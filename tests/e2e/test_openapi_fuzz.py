"""The API answers as docs/openapi.yaml says: good requests with documents, 1,000 bad ones with errors."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.parameters import ParameterLocation

from local.companies import Companies, Customer
from local.emulator.stack import Stack
from local.ivr import Ivr, Reply
from local.system import System
from tests.support.bad_requests import bad_decisions, bad_fields, json_values
from tests.support.openapi import OPERATIONS, PATH, validator

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Of 450 examples for an operation a third and more differ; seven operations make the thousand full.
EXAMPLES = 450
DISTINCT_REQUESTS = 145

START = ("/conversations", "POST")
READ = ("/conversations/{conversationId}", "GET")
CHANGE = ("/conversations/{conversationId}/attributes", "PATCH")
BEGIN = ("/conversations/{conversationId}/journeys/{journey}", "POST")
SEE = ("/workflows/{workflowId}", "GET")
SEND = ("/workflows/{workflowId}/events/{event}", "POST")
CANCEL = ("/workflows/{workflowId}", "DELETE")

API = schemathesis.openapi.from_path(PATH)
# Other query parameters or headers make no request bad, and the key's absence is the gateway's own matter.
API.config.generation.update(
    modes=[GenerationMode.NEGATIVE], with_security_parameters=False, allow_extra_parameters=False
)

# A thousand requests at the emulator's pace, which others on the machine share.
a_thousand_requests = pytest.mark.timeout(300, func_only=True)


def over_http(examples: int) -> settings:
    """Each example is a request: its time is no measure, and a failure is not worth thousands more."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )


def new_id() -> str:
    return str(uuid.uuid4())


# --- good requests -----------------------------------------------------------------------------------------


def as_documented(operation: tuple[str, str], reply: Reply, schema: str) -> dict[str, Any]:
    """The reply's document, once its status and its shape are found in the OpenAPI document."""
    assert str(reply.status) in OPERATIONS[operation]["responses"]
    validator(schema).validate(reply.document)
    return reply.document


def test_good_requests_are_answered_as_documented(ivr: Ivr) -> None:
    conversation_id, number = new_id(), "+33639985001"

    started = ivr.start(conversation_id, number, {"queue": "sales"})
    assert as_documented(START, started, "Conversation")["status"] == "ONGOING"
    assert started.status == 202
    repeated = ivr.start(conversation_id, number, {"queue": "sales"})
    as_documented(START, repeated, "Conversation")
    assert repeated.status == 200
    ended = as_documented(READ, ivr.read(conversation_id, wait=20), "Conversation")
    assert ended["status"] != "ONGOING"
    changed = ivr.set_attributes(conversation_id, {"reason": "billing", "queue": None})
    assert as_documented(CHANGE, changed, "Conversation")["attributes"] == {"reason": "billing"}
    flat = as_documented(READ, ivr.read(conversation_id, flat=True), "FlatConversation")
    assert flat["attribute_reason"] == "billing"


def test_a_withheld_number_is_answered_as_documented(ivr: Ivr) -> None:
    withheld = as_documented(START, ivr.start(new_id(), "anonymous"), "Conversation")
    assert withheld["reason"] == "WITHHELD_NUMBER"
    as_documented(READ, ivr.read(withheld["conversationId"]), "Conversation")
    as_documented(READ, ivr.read(withheld["conversationId"], flat=True), "FlatConversation")


def test_refusals_are_answered_as_documented(ivr: Ivr) -> None:
    known = new_id()
    ivr.start(known, "anonymous")
    refusals = [
        (START, ivr.start(known, "+33639985002"), 409),
        (START, ivr.start(new_id(), "1" * 256), 400),
        (READ, ivr.read(new_id()), 404),
        (READ, ivr.read(known, wait=21), 400),
        (CHANGE, ivr.set_attributes(new_id(), {"reason": "billing"}), 404),
        (CHANGE, ivr.set_attributes(known, {f"n{number}": "é" * 1000 for number in range(17)}), 413),
    ]
    for operation, reply, status in refusals:
        as_documented(operation, reply, "Error")
        assert reply.status == status


def test_journeys_are_answered_as_documented(ivr: Ivr) -> None:
    conversation_id = new_id()
    ivr.start(conversation_id, "anonymous")
    started = ivr.start_journey(conversation_id, "retention")
    workflow_id = as_documented(BEGIN, started, "StartedJourney")["workflowId"]
    as_documented(BEGIN, ivr.start_journey(conversation_id, "retention"), "StartedJourney")
    as_documented(SEE, ivr.workflow(workflow_id), "Workflow")
    early = ivr.send_event(workflow_id, "approve", {"by": "Ada", "reason": "kept for later"})
    as_documented(SEND, early, "Output" if early.status == 200 else "Error")
    as_documented(CANCEL, ivr.cancel(workflow_id), "Workflow")
    refusals = [
        (BEGIN, ivr.start_journey(new_id(), "retention"), 404),
        (BEGIN, ivr.start_journey(conversation_id, "nonsense"), 404),
        (BEGIN, ivr.start_journey(conversation_id, "retention", {"answer_within_seconds": -1}), 400),
        (SEE, ivr.workflow(f"{new_id()}~retention"), 404),
        (SEND, ivr.send_event(workflow_id, "approve", {"by": "Ada", "reason": "late"}), 409),
    ]
    for operation, reply, status in refusals:
        as_documented(operation, reply, "Error")
        assert reply.status == status


# --- bad requests ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conversation_id(system: System | None, ivr: Ivr) -> str:
    """A conversation with attributes that bad requests are aimed at, and that must come through unchanged."""
    if system is None:
        pytest.skip("who looks for unwanted writes must be the only one who writes")
    conversation_id = new_id()
    ivr.start(conversation_id, "+33639985003", {"reason": "billing"})
    assert ivr.read(conversation_id, wait=20).document["status"] != "ONGOING"
    return conversation_id


@pytest.fixture(scope="module")
def aims(ivr: Ivr, companies: Companies, conversation_id: str) -> dict[str, str]:
    """Path parameters that are all there: of a conversation without a journey, and of a journey that waits.

    A bad body that is sent to them is read to its end, for nothing else is wrong with its request.
    """
    number, waiting = "+33639985004", new_id()
    customer = Customer(customer_id="G-1", first_name="Apolline", last_name="Berthier", segment="vip")
    companies.know("gamma", {number: customer})
    ivr.start(waiting, number, {"reason": "cancel"})
    started = ivr.start_journey(waiting, "retention", {"answer_within_seconds": 100_000})
    workflow_id = started.document["workflowId"]
    give_up_at = time.monotonic() + 90
    while not at_rest(document := ivr.workflow(workflow_id).document):
        assert time.monotonic() < give_up_at, document
        time.sleep(0.5)
    path = {"journey": "retention", "workflowId": workflow_id, "event": "approve"}
    return {"conversationId": conversation_id, **path}


def at_rest(workflow: dict[str, Any]) -> bool:
    """The supervisor is asked and the CRM has its note: nothing more is written by itself."""
    return "approve" in workflow["waitingFor"] and bool(workflow["state"]["crm_note"])


@contextmanager
def nothing_written(stack: Stack) -> Iterator[None]:
    """Hold both tables against what they were before the `with` block."""
    client = stack.session.client("dynamodb", endpoint_url=stack.endpoint)
    tables = {stack.table_name: "conversationId", stack.outputs["WorkflowTableName"]: "workflowId"}
    before = {table: items(client, table, key) for table, key in tables.items()}
    yield
    for table, key in tables.items():
        after = items(client, table, key)
        assert after.keys() == before[table].keys()
        for name, item in before[table].items():
            # Lookups and journeys of an earlier test may still be at work on their own conversations.
            if not goes_on(item):
                assert after[name] == item


def goes_on(item: dict[str, Any]) -> bool:
    """Whether something else than a request may change an item: a lookup, a step, or a timer that is near."""
    if "workflowId" in item:
        return (
            item["status"]["S"] == "RUNNING"
            or float(item.get("dueAt", {"N": "inf"})["N"]) < time.time() + 3600
        )
    return "PENDING" in json.dumps(item)


def items(client: "DynamoDBClient", table: str, key: str) -> dict[str, Any]:
    pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return {item[key]["S"]: item for page in pages for item in page["Items"]}


def is_refused(status: int, content_type: str, text: str) -> None:
    """Fail unless this is an error document that tells the client what is wrong and nothing of the inside."""
    assert 400 <= status < 500, text
    assert content_type == "application/json"
    validator("Error").validate(json.loads(text))
    for trace in ("Traceback", "app.py", "/var/task", "Error:"):
        assert trace not in text


@a_thousand_requests
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation[1])
def test_requests_that_the_document_forbids_are_refused_and_write_nothing(
    operation: tuple[str, str], stack: Stack, aims: dict[str, str]
) -> None:
    path, method = operation
    sent: set[tuple[str, ...]] = set()
    key = {"x-api-key": stack.api_key}

    @over_http(EXAMPLES)
    @given(case=API[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def send(case: Case[Any]) -> None:
        components = case.meta.components if case.meta else {}
        if (
            case.path_parameters
            and (body := components.get(ParameterLocation.BODY))
            and body.mode.is_negative
        ):
            # The body is bad already: let it hit what is there.
            case.path_parameters.update({name: aims[name] for name in case.path_parameters})
        request = (str(case.path_parameters), str(case.query), repr(case.body))
        if request in sent:
            return
        sent.add(request)
        response = case.call(base_url=stack.api_url, headers=key, timeout=35)
        (content_type,) = response.headers["content-type"]
        is_refused(response.status_code, content_type, response.text)
        assert str(response.status_code) in OPERATIONS[operation]["responses"]

    with nothing_written(stack):
        send()
    assert len(sent) >= DISTINCT_REQUESTS


not_json = st.binary(max_size=200).filter(lambda body: not body.strip().startswith(b"{"))
not_an_object = json_values.filter(lambda value: not isinstance(value, dict)).map(json.dumps).map(str.encode)
# Letters that no word for a withheld number is made of; more digits than any number has.
not_a_number = st.text(alphabet="jxz!? ", min_size=1).filter(str.strip) | st.text("123456789", min_size=25)


@pytest.mark.parametrize("operation", [START, CHANGE, BEGIN, SEND], ids="-".join)
def test_bodies_that_no_schema_thinks_of_are_refused_and_write_nothing(
    operation: tuple[str, str], ivr: Ivr, stack: Stack, aims: dict[str, str]
) -> None:
    path, method = operation

    @over_http(120)
    @given(body=not_json | not_an_object)
    @example(body=b'{"conversationId": "a", "callerNumber": "\xff"}')
    @example(body=b'{"half of a pair": "\\ud800"}')
    @example(body=b'{"reason": "\\ud800"}')
    @example(body=b'{"reason": NaN}')
    @example(body=b"[" * 100_000)
    @example(body=b'{"a":' * 50_000)
    @example(body=b'{"reason": ' + b"1" * 5000 + b"}")
    @example(body=b'{"reason": "' + b"x" * 300_000 + b'"}')
    @example(body=b"" if operation in {START, CHANGE} else b" ")  # journeys may do without a body
    def send(body: bytes) -> None:
        assume(body or operation in {START, CHANGE})
        response = ivr.http.request(
            method,
            path.format(**aims),
            content=body,
            headers={"Content-Type": "application/json"},
        )
        is_refused(response.status_code, response.headers["content-type"], response.text)

    with nothing_written(stack):
        send()


@pytest.mark.parametrize(
    ("operation", "bodies"), [(BEGIN, bad_fields), (SEND, bad_decisions)], ids=["fields", "payloads"]
)
def test_fields_and_payloads_that_fit_nowhere_are_refused_and_write_nothing(
    operation: tuple[str, str],
    bodies: st.SearchStrategy[object],
    ivr: Ivr,
    stack: Stack,
    aims: dict[str, str],
) -> None:
    path, method = operation

    @over_http(200)
    @given(body=bodies)
    def send(body: object) -> None:
        response = ivr.http.request(
            method,
            path.format(**aims),
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        is_refused(response.status_code, response.headers["content-type"], response.text)
        assert response.status_code == 400

    with nothing_written(stack):
        send()


def test_callers_that_are_no_number_are_their_own_doing(ivr: Ivr) -> None:
    @over_http(100)
    @given(number=not_a_number)
    @example(number="+1" * 200)
    @example(number="sip:twelve@example.com")
    @example(number="tel:+33612345678901234567")
    @example(number="+33\u0660\u0661")
    def send(number: str) -> None:
        response = ivr.http.post("/conversations", json={"conversationId": new_id(), "callerNumber": number})
        if len(number) > 255:
            is_refused(response.status_code, response.headers["content-type"], response.text)
            return
        assert response.status_code == 202
        document = response.json()
        validator("Conversation").validate(document)
        assert (document["status"], document["callerNumber"], document["sources"]) == ("NOT_FOUND", None, {})
        assert document["reason"] in {"UNUSABLE_NUMBER", "WITHHELD_NUMBER"}

    send()
