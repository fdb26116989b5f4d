"""The API answers as docs/openapi.yaml says, whatever it is sent; Schemathesis makes requests from that.

A walk follows the document's links, from a start to its journey and the journey's events; what the document
forbids is refused and changes nothing; and so is what no document can say: bytes that are no JSON, and fields
and payloads that do not fit a journey.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core import NOT_SET
from schemathesis.core.parameters import ParameterLocation

from local.companies import Companies, Customer
from local.emulator.stack import Stack
from local.ivr import Ivr
from local.system import System
from tests.support.bad_requests import bad_decisions, bad_fields, json_values
from tests.support.openapi import OPERATIONS, PATH

if TYPE_CHECKING:
    import httpx
    from mypy_boto3_dynamodb import DynamoDBClient
    from schemathesis.core.transport import Response
    from schemathesis.schemas import BaseSchema

type Operation = tuple[str, str]

START: Operation = ("/conversations", "POST")
READ: Operation = ("/conversations/{conversationId}", "GET")
CHANGE: Operation = ("/conversations/{conversationId}/attributes", "PATCH")
BEGIN: Operation = ("/conversations/{conversationId}/journeys/{journey}", "POST")
SEE: Operation = ("/workflows/{workflowId}", "GET")
SEND: Operation = ("/workflows/{workflowId}/events/{event}", "POST")
CANCEL: Operation = ("/workflows/{workflowId}", "DELETE")

# Where a walk leads is left to chance; the last steps, an event for one, are rare.
ROUNDS = 6
APPROVAL = {"by": "Ada", "reason": "with us for ten years"}


def schema(mode: GenerationMode) -> "BaseSchema":
    """The document as a source of requests: of good ones, or of such that are bad in one place at least."""
    found = schemathesis.openapi.from_path(PATH)
    # Other query parameters or headers make no request bad; the key's absence is the gateway's own matter.
    found.config.generation.update(modes=[mode], with_security_parameters=False, allow_extra_parameters=False)
    found.config.checks.ignored_auth.enabled = False
    # A cancelled workflow can still be read: that is no use after free.
    found.config.checks.use_after_free.enabled = False
    # What is too large together is not so in any one place, which is all that a schema speaks of.
    for check in (found.config.checks.positive_data_acceptance, found.config.checks.negative_data_rejection):
        check.expected_statuses = [*check.expected_statuses, "413"]
    return found


GOOD = schema(GenerationMode.POSITIVE)
BAD = schema(GenerationMode.NEGATIVE)

# Requests at the emulator's pace, which others on the machine share.
many_requests = pytest.mark.timeout(600, func_only=True)


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


def where(stack: Stack) -> dict[str, Any]:
    """Where a case is sent, and with which key."""
    return {"base_url": stack.api_url, "headers": {"x-api-key": stack.api_key}, "timeout": 35}


# --- the walk ----------------------------------------------------------------------------------------------


class Walk(GOOD.as_state_machine()):  # type: ignore[misc] # made at run time
    """Requests that follow the document's links; subclasses say where to, and for whom."""

    stack: ClassVar[Stack]
    caller: ClassVar[str]
    met: ClassVar[Counter[tuple[str, str, int]]]

    def setup(self) -> None:
        self.id = new_id()
        self.workflows: set[str] = set()

    def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
        del case
        return where(self.stack)

    def before_call(self, case: Case[Any]) -> None:
        """Say what the document leaves to the companies and to each journey."""
        body: Any = case.body
        operation = (case.operation.path, case.method)
        if operation == START:
            # Its own, or a walk that is taken again would find what it has left the first time.
            conversation_id = f"{self.id}-{body['conversationId']}"[:128]
            case.body = {**body, "conversationId": conversation_id}
            if len(body["conversationId"]) % 4:
                case.body |= {"callerNumber": self.caller, "attributes": {"reason": "cancel"}}
        elif operation == BEGIN:
            case.body = {"answer_within_seconds": 300}
        elif operation == SEND:
            case.body = dict(APPROVAL)

    def call(self, case: Case[Any], **arguments: Any) -> "Response":
        """Send a request once more while it is answered with 503, as the README tells an IVR to."""
        give_up_at = time.monotonic() + 60
        while (response := case.call(**arguments)).status_code == 503 and time.monotonic() < give_up_at:
            time.sleep(float(response.headers["retry-after"][0]))
        return response

    def after_call(self, response: "Response", case: Case[Any]) -> None:
        super().after_call(response, case)
        self.met[case.operation.path, case.method, response.status_code] += 1
        if case.operation.path == BEGIN[0] and response.status_code == 202:
            self.workflows.add(response.json()["workflowId"])

    def teardown(self) -> None:
        for workflow_id in self.workflows:
            answered(CANCEL, self.stack, 200, workflowId=workflow_id)


@pytest.fixture
def caller(companies: Companies, stack: Stack) -> Iterator[str]:
    """A caller whom gamma knows; conversations that a test makes up are removed in the end."""
    number = "+33639985010"
    customer = Customer(customer_id="G-5", first_name="Apolline", last_name="Berthier", segment="vip")
    companies.know("gamma", {number: customer})
    client = stack.session.client("dynamodb", endpoint_url=stack.endpoint)
    before = items(client, stack.table_name, "conversationId")
    yield number
    # Made-up texts may stand in some log line by chance, and a later test looks for all that are kept.
    for name in items(client, stack.table_name, "conversationId").keys() - before.keys():
        client.delete_item(TableName=stack.table_name, Key={"conversationId": {"S": name}})


@many_requests
@pytest.mark.parametrize(("walks", "steps"), [(25, 12), pytest.param(80, 20, marks=pytest.mark.long)])
def test_a_walk_along_the_links_meets_what_is_documented_alone(
    walks: int, steps: int, stack: Stack, caller: str
) -> None:
    met: Counter[tuple[str, str, int]] = Counter()

    class WalkHere(Walk):
        pass

    WalkHere.stack, WalkHere.caller, WalkHere.met = stack, caller, met
    missed = set(OPERATIONS)
    for _ in range(ROUNDS):
        WalkHere.run(settings=settings(over_http(walks), stateful_step_count=steps))
        missed -= {(path, method) for path, method, status in met if status in {200, 202}}
        if not missed:
            return
    pytest.fail(f"no walk has led to {missed}: {met}")


# --- what a walk meets by chance alone ---------------------------------------------------------------------


def answered(operation: Operation, stack: Stack, status: int, body: Any = NOT_SET, **parameters: Any) -> Any:
    """Send a request; its answer has that status and is as documented."""
    path, method = operation
    in_path = {name: value for name, value in parameters.items() if f"{{{name}}}" in path}
    query = {name: value for name, value in parameters.items() if name not in in_path}
    media_type = None if body is NOT_SET else "application/json"
    case = GOOD[path][method].Case(path_parameters=in_path, query=query, body=body, media_type=media_type)
    response = case.call(**where(stack))
    case.validate_response(response)
    assert response.status_code == status, response.text
    return response.json()


def test_good_requests_are_answered_as_documented(stack: Stack) -> None:
    conversation_id = new_id()
    start = {
        "conversationId": conversation_id,
        "callerNumber": "+33639985001",
        "attributes": {"queue": "sales"},
    }
    assert answered(START, stack, 202, start)["status"] == "ONGOING"
    answered(START, stack, 200, start)
    ended = answered(READ, stack, 200, conversationId=conversation_id, wait=20)
    assert ended["status"] != "ONGOING"
    change = {"reason": "billing", "queue": None}
    changed = answered(CHANGE, stack, 200, change, conversationId=conversation_id)
    assert changed["attributes"] == {"reason": "billing"}
    flat = answered(READ, stack, 200, conversationId=conversation_id, format="flat")
    assert flat["attribute_reason"] == "billing"


def test_a_withheld_number_is_answered_as_documented(stack: Stack) -> None:
    start = {"conversationId": new_id(), "callerNumber": "anonymous"}
    withheld = answered(START, stack, 202, start)
    assert withheld["reason"] == "WITHHELD_NUMBER"
    answered(READ, stack, 200, conversationId=withheld["conversationId"])
    answered(READ, stack, 200, conversationId=withheld["conversationId"], format="flat")


def test_refusals_are_answered_as_documented(stack: Stack) -> None:
    known = new_id()
    answered(START, stack, 202, {"conversationId": known, "callerNumber": "anonymous"})
    answered(START, stack, 409, {"conversationId": known, "callerNumber": "+33639985002"})
    answered(START, stack, 400, {"conversationId": new_id(), "callerNumber": "1" * 256})
    answered(READ, stack, 404, conversationId=new_id())
    answered(READ, stack, 400, conversationId=known, wait=21)
    answered(CHANGE, stack, 404, {"reason": "billing"}, conversationId=new_id())
    much = {f"n{number}": "é" * 1000 for number in range(17)}
    answered(CHANGE, stack, 413, much, conversationId=known)


def test_journeys_are_answered_as_documented(stack: Stack) -> None:
    conversation_id = new_id()
    answered(START, stack, 202, {"conversationId": conversation_id, "callerNumber": "anonymous"})
    retention = {"conversationId": conversation_id, "journey": "retention"}
    workflow_id = answered(BEGIN, stack, 202, {}, **retention)["workflowId"]
    answered(BEGIN, stack, 200, {}, **retention)
    answered(SEE, stack, 200, workflowId=workflow_id)
    answered(CANCEL, stack, 200, workflowId=workflow_id)
    answered(BEGIN, stack, 404, {}, conversationId=new_id(), journey="retention")
    answered(BEGIN, stack, 404, {}, conversationId=conversation_id, journey="nonsense")
    answered(BEGIN, stack, 400, {"answer_within_seconds": -1}, **retention)
    answered(SEE, stack, 404, workflowId=f"{new_id()}~retention")
    answered(SEND, stack, 409, APPROVAL, workflowId=workflow_id, event="approve")


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


def is_refused(operation: Operation, status: int, response: "httpx.Response | Response") -> None:
    """Fail unless the answer is a documented refusal that tells nothing of the inside."""
    path, method = operation
    assert 400 <= status < 500, response.text
    assert str(status) in OPERATIONS[operation]["responses"]
    BAD[path][method].validate_response(response)
    for trace in ("Traceback", "app.py", "/var/task", "Error:"):
        assert trace not in response.text


@many_requests
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation[1])
@pytest.mark.parametrize(
    ("examples", "distinct"), [(150, 30), pytest.param(450, 90, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_requests_that_the_document_forbids_are_refused_and_write_nothing(
    operation: Operation, examples: int, distinct: int, stack: Stack, aims: dict[str, str]
) -> None:
    path, method = operation
    sent: set[tuple[str, ...]] = set()

    @over_http(examples)
    @given(case=BAD[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE))
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
        response = case.call(**where(stack))
        case.validate_response(response)
        is_refused(operation, response.status_code, response)

    with nothing_written(stack):
        send()
    assert len(sent) >= distinct, "so few prove little: how many repeat is left to chance"


some_or_many = pytest.mark.parametrize("examples", [30, pytest.param(200, marks=pytest.mark.long)])
not_json = st.binary(max_size=200).filter(lambda body: not body.strip().startswith(b"{"))
not_an_object = json_values.filter(lambda value: not isinstance(value, dict)).map(json.dumps).map(str.encode)
# Letters that no word for a withheld number is made of; more digits than any number has.
not_a_number = st.text(alphabet="jxz!? ", min_size=1).filter(str.strip) | st.text("123456789", min_size=25)


@many_requests
@some_or_many
@pytest.mark.parametrize("operation", [START, CHANGE, BEGIN, SEND], ids="-".join)
def test_bodies_that_no_schema_thinks_of_are_refused_and_write_nothing(
    operation: Operation, examples: int, ivr: Ivr, stack: Stack, aims: dict[str, str]
) -> None:
    path, method = operation

    @over_http(examples)
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
        is_refused(operation, response.status_code, response)

    with nothing_written(stack):
        send()


@many_requests
@some_or_many
@pytest.mark.parametrize(
    ("operation", "bodies"), [(BEGIN, bad_fields), (SEND, bad_decisions)], ids=["fields", "payloads"]
)
def test_fields_and_payloads_that_fit_nowhere_are_refused_and_write_nothing(
    *,
    operation: Operation,
    bodies: st.SearchStrategy[object],
    examples: int,
    ivr: Ivr,
    stack: Stack,
    aims: dict[str, str],
) -> None:
    path, method = operation

    @over_http(examples)
    @given(body=bodies)
    def send(body: object) -> None:
        response = ivr.http.request(
            method,
            path.format(**aims),
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        is_refused(operation, response.status_code, response)
        assert response.status_code == 400

    with nothing_written(stack):
        send()


@many_requests
@some_or_many
def test_callers_that_are_no_number_are_their_own_doing(examples: int, ivr: Ivr) -> None:
    @over_http(examples)
    @given(number=not_a_number)
    @example(number="+1" * 200)
    @example(number="sip:twelve@example.com")
    @example(number="tel:+33612345678901234567")
    @example(number="+33\u0660\u0661")
    def send(number: str) -> None:
        response = ivr.http.post("/conversations", json={"conversationId": new_id(), "callerNumber": number})
        if len(number) > 255:
            is_refused(START, response.status_code, response)
            return
        assert response.status_code == 202
        document = response.json()
        GOOD[START[0]][START[1]].validate_response(response)
        assert (document["status"], document["callerNumber"], document["sources"]) == ("NOT_FOUND", None, {})
        assert document["reason"] in {"UNUSABLE_NUMBER", "WITHHELD_NUMBER"}

    send()
