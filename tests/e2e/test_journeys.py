"""The retention journey over HTTP, against the deployed template and the demo companies."""

import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.companies import Companies, Customer
from local.emulator.stack import Stack
from local.emulator.warm_up import warm_up
from local.ivr import Ivr
from operations import look_at_all

# The emulator asks streams and queues about once a second, on a machine that may have other things to do.
DEADLINE_SECONDS = 90
APPROVAL = {"by": "Ada", "reason": "with us for ten years"}


class Call:
    """One caller's conversation and journey."""

    def __init__(self, ivr: Ivr, companies: Companies, number: str, *, segment: Any = "vip") -> None:
        self.ivr = ivr
        self.conversation_id = str(uuid.uuid4())
        self.workflow_id = ""  # known once the journey has started
        self.customer_id = f"G-{uuid.uuid4()}"
        customer = Customer(
            customer_id=self.customer_id, first_name="Marguerite", last_name="Deschamps", segment=segment
        )
        companies.know("gamma", {number: customer})
        assert ivr.start(self.conversation_id, number).status == 202

    def identified(self) -> "Call":
        assert self.ivr.read(self.conversation_id, wait=20).document["status"] == "SUCCESS"
        return self

    def journey(self, fields: Mapping[str, object] | None = None) -> None:
        reply = self.ivr.start_journey(self.conversation_id, "retention", fields)
        assert reply.status == 202
        self.workflow_id = reply.document["workflowId"]

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The workflow as soon as it is as wanted; a 503 is asked again, as the README tells IVRs to."""
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while True:
            reply = self.ivr.workflow(self.workflow_id)
            if reply.status == 200 and condition(reply.document):
                return reply.document
            assert reply.status in {200, 503}, reply
            assert time.monotonic() < give_up_at, reply
            time.sleep(0.2)

    def to_supervisor(self, fields: Mapping[str, object] | None = None) -> None:
        self.journey(fields)
        assert self.ivr.set_attributes(self.conversation_id, {"reason": "cancel"}).status == 200
        self.until(lambda document: "approve" in document["waitingFor"])

    def end(self) -> dict[str, Any]:
        return self.until(lambda document: document["status"] in {"FINISHED", "CANCELLED", "PARKED"})

    def attributes(self) -> dict[str, str]:
        attributes: dict[str, str] = self.ivr.read(self.conversation_id).document["attributes"]
        return attributes


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("event", "ending"), [("approve", "approved"), ("deny", "denied")])
def test_a_supervisor_answers(ivr: Ivr, companies: Companies, event: str, ending: str) -> None:
    call = Call(ivr, companies, f"+3363998400{len(event)}")
    call.to_supervisor({"offer": "two months free"})
    assert call.attributes()["retention"] == "asked"
    answer = ivr.send_event(call.workflow_id, event, APPROVAL)
    assert (answer.status, answer.document) == (200, {"output": ending})
    ended = call.end()
    assert (ended["status"], ended["result"]) == ("FINISHED", ending)
    assert ended["state"]["crm_note"].startswith("N-")
    assert companies.requests().notes[call.customer_id] == 1
    assert call.attributes()["retention"] == ending


@pytest.mark.timeout(300)
def test_nobody_answers(ivr: Ivr, companies: Companies) -> None:
    call = Call(ivr, companies, "+33639984010")
    call.to_supervisor({"answer_within_seconds": 3})
    assert call.end()["result"] == "timed out"
    assert call.attributes()["retention"] == "timed out"


@pytest.mark.timeout(300)
def test_the_caller_hangs_up(ivr: Ivr, companies: Companies) -> None:
    call = Call(ivr, companies, "+33639984011")
    call.to_supervisor()
    cancelled = ivr.cancel(call.workflow_id)
    assert (cancelled.status, cancelled.document["status"]) == (200, "CANCELLED")
    late = ivr.send_event(call.workflow_id, "approve", APPROVAL)
    assert (late.status, late.document["error"]["code"]) == (409, "WORKFLOW_CLOSED")
    assert call.attributes()["retention"] == "asked"


@pytest.mark.timeout(300)
def test_repeats_and_refusals(ivr: Ivr, companies: Companies) -> None:
    call = Call(ivr, companies, "+33639984012")
    call.to_supervisor({"offer": "one month free"})
    again = ivr.start_journey(call.conversation_id, "retention", {"offer": "two months free"})
    assert (again.status, again.document["workflowId"]) == (200, call.workflow_id)
    refused = {
        "payload": ivr.send_event(call.workflow_id, "approve", {"by": 7}),
        "event": ivr.send_event(call.workflow_id, "nonsense", None),
        "workflow": ivr.send_event(f"{uuid.uuid4()}~retention~{uuid.uuid4().hex[:16]}", "approve", APPROVAL),
        "journey": ivr.start_journey(call.conversation_id, "nonsense"),
        "conversation": ivr.start_journey(str(uuid.uuid4()), "retention"),
        "field": ivr.start_journey(call.conversation_id, "retention", {"segment": "vip"}),
    }
    assert {name: (reply.status, reply.document["error"]["code"]) for name, reply in refused.items()} == {
        "payload": (400, "INVALID_REQUEST"),
        "event": (409, "UNKNOWN_EVENT"),
        "workflow": (404, "WORKFLOW_NOT_FOUND"),
        "journey": (404, "JOURNEY_NOT_FOUND"),
        "conversation": (404, "CONVERSATION_NOT_FOUND"),
        "field": (400, "INVALID_REQUEST"),
    }
    answers = [ivr.send_event(call.workflow_id, "approve", APPROVAL, key="click-1") for _ in range(2)]
    assert [(answer.status, answer.document) for answer in answers] == [(200, {"output": "approved"})] * 2
    ended = call.end()
    assert ended["state"]["offer"] == "one month free"
    assert ivr.send_event(call.workflow_id, "approve", APPROVAL, key="click-1").status == 200
    assert ivr.send_event(call.workflow_id, "approve", APPROVAL, key="click-2").status == 409
    assert companies.requests().notes[call.customer_id] == 1


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("count", "clients"), [(6, 2), pytest.param(20, 4, marks=pytest.mark.long)])
def test_journeys_at_once(count: int, clients: int, ivr: Ivr, companies: Companies, stack: Stack) -> None:
    fields = {number: {"answer_within_seconds": 2 if number % 3 == 2 else 600} for number in range(count)}
    # All go on at once; a few clients drive them, since each concurrent call starts a process here.
    # Those of identification are started first: two cores take longer for them than callers wait.
    warm_up(stack, companies, ivr, at_once=clients)
    with ThreadPoolExecutor(clients) as threads:
        numbers = [f"+33639984{100 + count + number}" for number in range(count)]
        calls = list(threads.map(lambda number: Call(ivr, companies, number).identified(), numbers))
        list(threads.map(lambda number: calls[number].journey(fields[number]), range(count)))
        list(threads.map(lambda call: ivr.set_attributes(call.conversation_id, {"reason": "cancel"}), calls))

        def answer(number: int) -> str:
            call = calls[number]
            if number % 3 < 2:
                call.until(lambda document: "approve" in document["waitingFor"])
                event = ("approve", "deny")[number % 3]
                assert ivr.send_event(call.workflow_id, event, APPROVAL, key="k").status == 200
            return str(call.end()["result"])

        endings = list(threads.map(answer, range(count)))
    assert endings == [("approved", "denied", "timed out")[number % 3] for number in range(count)]
    assert [companies.requests().notes[call.customer_id] for call in calls] == [1] * count


@pytest.mark.timeout(300)
def test_every_journey_looks_when_an_operator_asks_for_it(
    ivr: Ivr, companies: Companies, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stack.endpoint is not None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", stack.endpoint)  # as an operator's shell may have it
    waiting = [Call(ivr, companies, f"+3363998{number:04}").identified() for number in range(7100, 7112)]
    for call in waiting:
        call.to_supervisor()
    function = look_at_all.function_of(stack.session, stack.name)
    told = sum(told.journeys for told in look_at_all.look_at_all(stack.session, function))
    assert told >= len(waiting), "more than one batch"
    for call in waiting:
        assert ivr.cancel(call.workflow_id).document["status"] == "CANCELLED"
