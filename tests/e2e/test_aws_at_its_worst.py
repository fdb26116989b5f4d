"""Conversations and journeys while AWS misbehaves towards the functions: none lost, none wrong, none doubled.

The emulator's own calls, those of the state machine, its queues and its timers, are as always. For as many as
were seen to go through it in five minutes: WORST_CONVERSATIONS=300 WORST_JOURNEYS=50.
"""

import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from local import companies as demo
from local import ivr as ivr_module
from local.companies import SOURCES, Behaviour, Companies, Customer, invented_customer
from local.emulator import deployment, ministack
from local.emulator.stack import Stack
from local.emulator.warm_up import warm_up
from local.ivr import Ivr, Reply
from tests.support.aws_at_its_worst import Worst, at_its_worst

SEED = 20261127
RATE = 0.1
CONVERSATIONS = int(os.environ.get("WORST_CONVERSATIONS", "100"))
JOURNEYS = int(os.environ.get("WORST_JOURNEYS", "15"))
AT_ONCE = 8
REPEATS, SECONDS = 12, 300
APPROVAL = {"by": "Ada", "reason": "with us for ten years"}


@dataclass(frozen=True)
class BadDay:
    """A stack whose functions reach AWS through the proxy alone."""

    aws: Worst
    stack: Stack
    companies: Companies
    ivr: Ivr


@pytest.fixture(scope="module")
def bad_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadDay]:
    directory = tmp_path_factory.mktemp("worst")
    with (
        at_its_worst(SEED) as aws,
        demo.running(directory) as companies,
        ministack.running(directory, functions_call=aws.url) as emulator,
    ):
        aws.stands_for(emulator.endpoint)
        urls = {f"{source.capitalize()}Url": companies.base_url(source) for source in SOURCES}
        parameters = {**urls, "CrmUrl": companies.crm_url, "DefaultRegion": "FR", "ReadRateLimit": "1000"}
        with deployment.build_lock():
            deployment.build(directory)
            stack = deployment.deploy(directory, emulator.endpoint, parameters)
        with ivr_module.calling(stack) as ivr:
            warm_up(stack, companies, ivr, at_once=AT_ONCE)
            aws.rate = RATE
            yield BadDay(aws, stack, companies, ivr)
            aws.rate = 0.0


def patiently(ask: Callable[[], Reply]) -> Reply:
    """Ask again after 429 and 503, as the API tells an IVR to."""
    reply = ask()
    for _ in range(REPEATS):
        if reply.status not in {429, 503}:
            break
        time.sleep(1)
        reply = ask()
    return reply


@pytest.mark.long
@pytest.mark.timeout(1500, func_only=True)
def test_every_conversation_ends_as_it_should(bad_day: BadDay) -> None:
    numbers = [f"+3363995{n:04}" for n in range(CONVERSATIONS)]
    for position, source in enumerate(SOURCES):
        bad_day.companies.behave(source, Behaviour(latency=0.1))
        known = {number: invented_customer(source, number) for number in numbers[position :: len(SOURCES)]}
        bad_day.companies.know(source, known)

    def take(position: int) -> str:
        ivr, conversation_id, number = bad_day.ivr, str(uuid.uuid4()), numbers[position]
        source = SOURCES[position % len(SOURCES)]
        started = patiently(lambda: ivr.start(conversation_id, number))
        if started.status not in {200, 202}:
            return f"lost: start answered {started.status}"
        written = patiently(lambda: ivr.set_attributes(conversation_id, {"position": str(position)}))
        ended = patiently(lambda: ivr.read(conversation_id, wait=10))
        if written.status != 200 or ended.status != 200:
            return f"lost: {written.status}, {ended.status}"
        document = ended.document
        if document["attributes"] != {"position": str(position)}:
            return f"wrong: {document['attributes']}"
        if document["status"] == "SUCCESS":
            expected = invented_customer(source, number).customer_id
            return "right" if document["identity"]["customerId"] == expected else "wrong: somebody else"
        # A lookup that could not read its secret or write its answer in time is said, and nobody is guessed.
        unheard = document["sources"].get(source) in {"UNAVAILABLE", "PENDING"}
        return (
            f"said {document['status']}" if unheard else f"wrong: {document['status']} {document['sources']}"
        )

    with ThreadPoolExecutor(AT_ONCE) as threads:
        outcomes = Counter(threads.map(take, range(CONVERSATIONS)))
    print(f"{dict(outcomes)}; {bad_day.aws.requests} requests, of which {dict(bad_day.aws.happened)}")
    assert not [outcome for outcome in outcomes if outcome.startswith(("lost", "wrong"))], outcomes
    assert outcomes["right"] >= CONVERSATIONS * 0.97


@pytest.mark.long
@pytest.mark.timeout(1500, func_only=True)
def test_every_journey_ends_once(bad_day: BadDay) -> None:
    numbers = [f"+3363996{n:04}" for n in range(JOURNEYS)]
    customers = {
        number: Customer(customer_id=f"W-{uuid.uuid4()}", first_name="Jo", last_name="Dale", segment="vip")
        for number in numbers
    }
    bad_day.companies.know("gamma", customers)
    ivr = bad_day.ivr

    def run(number: str) -> str:
        conversation_id = str(uuid.uuid4())
        assert patiently(lambda: ivr.start(conversation_id, number)).status in {200, 202}
        started = patiently(lambda: ivr.start_journey(conversation_id, "retention"))
        assert started.status in {200, 202}, started
        workflow_id = started.document["workflowId"]
        reason = {"reason": "cancel"}
        assert patiently(lambda: ivr.set_attributes(conversation_id, reason)).status == 200
        key, until = str(uuid.uuid4()), time.monotonic() + SECONDS
        while time.monotonic() < until:
            seen = patiently(lambda: ivr.workflow(workflow_id))
            assert seen.status == 200, seen
            if seen.document["status"] not in {"RUNNING", "WAITING"}:
                return f"{seen.document['status']} {seen.document['result']}"
            if "approve" in seen.document["waitingFor"]:
                patiently(lambda: ivr.send_event(workflow_id, "approve", APPROVAL, key=key))
            time.sleep(0.5)
        return "lost"

    with ThreadPoolExecutor(AT_ONCE) as threads:
        endings = Counter(threads.map(run, numbers))
    notes = bad_day.companies.requests().notes
    noted = Counter(notes[customer.customer_id] for customer in customers.values())
    print(f"{dict(endings)}; notes {dict(noted)}; of {bad_day.aws.requests}: {dict(bad_day.aws.happened)}")
    assert endings == {"FINISHED approved": JOURNEYS}
    assert noted == {1: JOURNEYS}
