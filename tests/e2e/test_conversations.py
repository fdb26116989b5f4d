"""The timeline that an IVR lives through, over HTTP, against the deployed template and the demo companies."""

import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.companies import SOURCES, Behaviour, Companies, Fault, Source, invented_customer
from local.emulator.stack import Stack
from local.emulator.warm_up import warm_up_api
from local.ivr import Ivr, Reply


def new_id() -> str:
    return str(uuid.uuid4())


def identity_of(source: Source, number: str) -> dict[str, str | int]:
    customer = invented_customer(source, number)
    return {
        "source": source,
        "customerId": customer.customer_id,
        "displayName": f"{customer.first_name} {customer.last_name}",
        "firstName": customer.first_name,
        "lastName": customer.last_name,
        "segment": customer.segment,
        "candidates": 1,
    }


def know(companies: Companies, number: str, *sources: Source) -> None:
    for source in sources:
        companies.know(source, {number: invented_customer(source, number)})


def test_the_first_match_is_visible_while_the_other_companies_are_still_asked(
    ivr: Ivr, companies: Companies
) -> None:
    number, conversation_id = "+33639981001", new_id()
    know(companies, number, "gamma")
    for source in ("alpha", "beta"):
        companies.behave(source, by_number={number: Behaviour(latency=3)})

    started = ivr.start(conversation_id, number, {"reason": "billing"})
    seen = ivr.read(conversation_id, wait=20).document

    assert started.status == 202
    assert started.document["status"] == "ONGOING"
    assert seen["status"] == "SUCCESS"
    assert seen["identity"] == identity_of("gamma", number)
    assert seen["sources"] == {"alpha": "PENDING", "beta": "PENDING", "gamma": "MATCH"}
    assert seen["attributes"] == {"reason": "billing"}
    # The others answer later; that changes their own entries and nothing else.
    ended = wait_for_every_source(ivr, conversation_id)
    assert ended["sources"] == {"alpha": "NO_MATCH", "beta": "NO_MATCH", "gamma": "MATCH"}
    assert (ended["status"], ended["identity"]) == ("SUCCESS", seen["identity"])
    assert ended["elapsedMs"] == seen["elapsedMs"]


def wait_for_every_source(ivr: Ivr, conversation_id: str) -> dict[str, object]:
    give_up_at = time.monotonic() + 15
    while True:
        document = ivr.read(conversation_id).document
        if "PENDING" not in document["sources"].values():
            return document
        assert time.monotonic() < give_up_at, document["sources"]
        time.sleep(0.1)


def test_a_second_match_goes_to_the_other_matches(ivr: Ivr, companies: Companies) -> None:
    number, conversation_id = "+33639981002", new_id()
    know(companies, number, "alpha", "gamma")
    companies.behave("alpha", by_number={number: Behaviour(latency=1.5)})

    ivr.start(conversation_id, number)
    first = ivr.read(conversation_id, wait=20).document
    last = wait_for_every_source(ivr, conversation_id)

    assert first["identity"] == identity_of("gamma", number)
    assert first["otherMatches"] == {}
    assert last["identity"] == first["identity"]
    assert last["otherMatches"] == {"alpha": identity_of("alpha", number)}
    assert last["sources"] == {"alpha": "MATCH", "beta": "NO_MATCH", "gamma": "MATCH"}


def test_nobody_knows_the_caller(ivr: Ivr) -> None:
    conversation_id = new_id()
    ivr.start(conversation_id, "+33639981003")
    ended = ivr.read(conversation_id, wait=20).document
    assert ended["status"] == "NOT_FOUND"
    assert ended["identity"] is None
    assert ended["sources"] == dict.fromkeys(SOURCES, "NO_MATCH")


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.CONNECTION_CLOSED, Fault.WRONG_SCHEMA])
def test_a_company_that_cannot_answer_makes_an_unknown_caller_a_failure(
    ivr: Ivr, companies: Companies, fault: Fault
) -> None:
    number, conversation_id = f"+3363998201{list(Fault).index(fault)}", new_id()
    companies.behave("beta", by_number={number: Behaviour(fault=fault)})
    ivr.start(conversation_id, number)
    ended = ivr.read(conversation_id, wait=20).document
    assert ended["status"] == "FAILED"
    assert ended["sources"] == {"alpha": "NO_MATCH", "beta": "UNAVAILABLE", "gamma": "NO_MATCH"}


def test_a_company_that_never_answers_does_not_keep_a_known_caller_waiting(
    ivr: Ivr, companies: Companies
) -> None:
    number, conversation_id = "+33639981004", new_id()
    know(companies, number, "alpha")
    companies.behave("beta", by_number={number: Behaviour(fault=Fault.TIMEOUT)})
    companies.behave("gamma", by_number={number: Behaviour(fault=Fault.SLOW_DRIP)})

    ivr.start(conversation_id, number)
    seen = ivr.read(conversation_id, wait=20).document
    assert (seen["status"], seen["sources"]["beta"]) == ("SUCCESS", "PENDING")
    ended = wait_for_every_source(ivr, conversation_id)
    assert ended["sources"] == {"alpha": "MATCH", "beta": "UNAVAILABLE", "gamma": "UNAVAILABLE"}
    assert ended["status"] == "SUCCESS"


def test_a_caller_unknown_to_companies_that_never_answer_is_concluded_before_the_deadline(
    ivr: Ivr, companies: Companies
) -> None:
    number, conversation_id = "+33639981005", new_id()
    for source in SOURCES:
        companies.behave(source, by_number={number: Behaviour(fault=Fault.TIMEOUT)})
    ivr.start(conversation_id, number)
    ended = ivr.read(conversation_id, wait=20).document
    assert ended["status"] == "FAILED"
    assert ended["sources"] == dict.fromkeys(SOURCES, "UNAVAILABLE")
    assert str(ended["updatedAt"]) < str(ended["deadlineAt"])


@pytest.mark.parametrize("number", ["anonymous", "", "+266696687", "sip:anonymous@anonymous.invalid"])
def test_a_withheld_number_is_answered_at_once(ivr: Ivr, number: str) -> None:
    conversation_id = new_id()
    started = ivr.start(conversation_id, number)
    assert started.status == 202
    assert (started.document["status"], started.document["reason"]) == ("NOT_FOUND", "WITHHELD_NUMBER")
    assert ivr.start(conversation_id, number).status == 200
    assert ivr.read(conversation_id).document["status"] == "NOT_FOUND"


def test_a_repeated_start_runs_nothing_twice(ivr: Ivr, companies: Companies) -> None:
    number, conversation_id = "+33639981006", new_id()
    know(companies, number, "beta")
    assert ivr.start(conversation_id, number).status == 202
    assert ivr.read(conversation_id, wait=20).document["status"] == "SUCCESS"
    wait_for_every_source(ivr, conversation_id)

    repeated = ivr.start(conversation_id, f"tel:{number};ext=7")

    assert repeated.status == 200
    assert repeated.document["status"] == "SUCCESS"
    assert [companies.requests().lookups[source][number] for source in SOURCES] == [1, 1, 1]
    conflict = ivr.start(conversation_id, "+33639981007")
    assert (conflict.status, conflict.document["error"]["code"]) == (409, "CALLER_NUMBER_CONFLICT")


@pytest.mark.parametrize("at_once", [4, pytest.param(20, marks=pytest.mark.long)])
def test_equal_starts_at_once_run_one_execution(
    at_once: int, ivr: Ivr, companies: Companies, stack: Stack
) -> None:
    warm_up_api(stack, at_once=at_once, functions=["StartIdentificationFunction"])
    number, conversation_id = f"+336399811{at_once:02}", new_id()
    know(companies, number, "gamma")
    barrier = threading.Barrier(at_once)

    def start(_: int) -> Reply:
        barrier.wait(timeout=30)
        return ivr.start(conversation_id, number)

    with ThreadPoolExecutor(at_once) as threads:
        replies = list(threads.map(start, range(at_once)))

    assert Counter(reply.status for reply in replies) == {202: 1, 200: at_once - 1}
    assert ivr.read(conversation_id, wait=20).document["status"] == "SUCCESS"
    wait_for_every_source(ivr, conversation_id)
    assert [companies.requests().lookups[source][number] for source in SOURCES] == [1, 1, 1]


def test_gamma_gets_a_new_token_when_the_old_one_dies(ivr: Ivr, companies: Companies) -> None:
    number = "+33639981009"
    know(companies, number, "gamma")
    for _ in range(2):
        companies.kill_tokens()
        conversation_id = new_id()
        ivr.start(conversation_id, number)
        assert ivr.read(conversation_id, wait=20).document["identity"] == identity_of("gamma", number)


def test_both_sides_write_attributes(ivr: Ivr) -> None:
    conversation_id = new_id()
    ivr.start(conversation_id, "+33639981010", {"language": "fr", "draft": "x"})
    changed = ivr.set_attributes(conversation_id, {"reason": "billing", "draft": None})
    assert changed.status == 200
    assert changed.document["attributes"] == {"language": "fr", "reason": "billing"}
    flat = ivr.read(conversation_id, flat=True).document
    assert (flat["attribute_language"], flat["attribute_reason"]) == ("fr", "billing")
    assert all(isinstance(value, str) for value in flat.values())
    assert ivr.set_attributes("no-such-conversation", {"a": "b"}).status == 404
    assert ivr.set_attributes(conversation_id, {"a": "x" * 1001}).status == 400


def test_the_gateway_refuses_in_the_same_words_as_the_functions(ivr: Ivr, stack: Stack) -> None:
    without_key = ivr.http.get("/conversations/x", headers={"x-api-key": ""})
    wrong_key = ivr.http.get("/conversations/x", headers={"x-api-key": "wrong"})
    no_route = ivr.http.get("/customers")
    no_object = ivr.http.post("/conversations", content="[1]", headers={"Content-Type": "application/json"})
    assert stack.api_key not in without_key.text
    answers = [(reply.status_code, reply.json()["error"]["code"]) for reply in (without_key, wrong_key)]
    assert answers == [(403, "FORBIDDEN")] * 2
    assert (no_route.status_code, no_route.json()["error"]["code"]) == (404, "ROUTE_NOT_FOUND")
    assert (no_object.status_code, no_object.json()["error"]["code"]) == (400, "INVALID_REQUEST")
