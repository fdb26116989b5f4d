"""Three hundred conversations, twenty at a time: each gets its own caller's identity and none is lost."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from local.companies import SOURCES, Behaviour, Companies, Source, invented_customer
from local.emulator.stack import Stack
from local.emulator.warm_up import warm_up
from local.ivr import Ivr

CONVERSATIONS = 300
AT_ONCE = 20  # as many calls as two cores carry
# What the IVR asks meanwhile. If all did nothing but wait, their readers, each of which asks DynamoDB ten
# times a second, would leave the emulator too little for the lookups.
QUESTION_SECONDS = 2


class Call(NamedTuple):
    """One caller, and the only company that knows them."""

    conversation_id: str
    number: str
    source: Source


@pytest.mark.long
@pytest.mark.timeout(1200, func_only=True)  # three hundred calls at the emulator's pace
def test_each_of_300_conversations_gets_its_own_callers_identity(
    ivr: Ivr, companies: Companies, stack: Stack
) -> None:
    warm_up(stack, companies, ivr, at_once=AT_ONCE)
    calls = [
        Call(str(uuid.uuid4()), f"+3363997{n:04}", SOURCES[n % len(SOURCES)]) for n in range(CONVERSATIONS)
    ]
    for source in SOURCES:
        companies.behave(source, Behaviour(latency=0.1))
        companies.know(
            source,
            {call.number: invented_customer(source, call.number) for call in calls if call.source == source},
        )

    def take(call: Call) -> str:
        if call in calls[:AT_ONCE]:  # the first ones call one after the other, not all in one instant
            time.sleep(QUESTION_SECONDS * calls.index(call) / AT_ONCE)
        started = ivr.start(call.conversation_id, call.number)
        if started.status != 202:
            return f"start answered {started.status}"
        time.sleep(QUESTION_SECONDS)
        ended = ivr.read(call.conversation_id, wait=20).document
        expected = invented_customer(call.source, call.number).customer_id
        found = (ended["identity"] or {}).get("customerId")
        return "right" if found == expected else f"{ended['status']} {ended['sources']}"

    with ThreadPoolExecutor(AT_ONCE) as threads:
        outcomes = list(threads.map(take, calls))

    assert [outcome for outcome in outcomes if outcome != "right"] == []
    assert len(outcomes) == CONVERSATIONS
