"""Many more readers that wait than may, beside new callers: the callers are identified all the same.

Each reader that waits holds a function. ReadRateLimit x MaxWaitSeconds + ReadBurstLimit bounds how many do:
as many as two cores carry beside identifications here, by default 660 of an account's 1,000.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest

from local import ivr as ivr_module
from local import system as system_module
from local.companies import SOURCES, Behaviour, invented_customer
from local.emulator.stack import Stack
from local.emulator.warm_up import warm_up
from local.ivr import Ivr
from local.system import System

READERS, CALLERS = 200, 50
CALLS_A_SECOND = 1
# The emulator is to start these functions before anything is measured.
AT_ONCE = 6
RATE_LIMIT, BURST_LIMIT = 0.5, 4
AGAIN_SECONDS = 8  # the emulator has other things to do than to turn readers away
NO_ANSWER = 0  # the emulator has one process for all that functions ask it
PARAMETERS = {
    "DefaultRegion": "FR",
    "ReadRateLimit": "1000",
    "ReadBurstLimit": "1000",
    "MaxWaitSeconds": "8",
    "ThrottlingRateLimit": "1000",
    "ThrottlingBurstLimit": "1000",
}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system_module.running(tmp_path_factory.mktemp("crowd"), parameters=PARAMETERS) as everything:
        yield everything


def wait_again_and_again(ivr: Ivr, conversation_id: str, over: threading.Event) -> Counter[int]:
    """What an IVR does while nothing comes: it reads and waits, and after 429 it reads again."""
    answers: Counter[int] = Counter()
    while not over.is_set():
        try:
            status = ivr.read(conversation_id, wait=20).status
        except httpx.TimeoutException:
            status = NO_ANSWER
        answers[status] += 1
        if status != 200:
            over.wait(AGAIN_SECONDS)
    return answers


def bound_readers(stack: Stack) -> None:
    """What ReadRateLimit and ReadBurstLimit set, once the functions are warm."""
    url = urlsplit(stack.outputs["ApiUrl"])
    where = "/~1conversations~1{conversationId}/GET/throttling"
    stack.session.client("apigateway", endpoint_url=stack.endpoint).update_stage(
        restApiId=str(url.hostname).partition(".")[0],
        stageName=url.path.strip("/"),
        patchOperations=[
            {"op": "replace", "path": f"{where}/rateLimit", "value": str(RATE_LIMIT)},
            {"op": "replace", "path": f"{where}/burstLimit", "value": str(BURST_LIMIT)},
        ],
    )


def conversation_that_nothing_concludes(crowded: System, ivr: Ivr) -> str:
    """A conversation that stays ONGOING for as long as the test goes on."""
    stack, conversation_id = crowded.stack, str(uuid.uuid4())
    assert ivr.start(conversation_id, "anonymous").status == 202
    table = stack.session.resource("dynamodb", endpoint_url=stack.endpoint).Table(stack.table_name)
    table.update_item(
        Key={"conversationId": conversation_id},
        UpdateExpression="SET #status = :ongoing, deadlineAt = :later REMOVE concludedAt, #reason",
        ExpressionAttributeNames={"#status": "status", "#reason": "reason"},
        ExpressionAttributeValues={
            ":ongoing": "ONGOING",
            ":later": (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    )
    assert ivr.read(conversation_id).document["status"] == "ONGOING"
    return conversation_id


@pytest.mark.long
@pytest.mark.timeout(900, func_only=True)
def test_every_new_caller_is_identified_within_the_deadline(crowded: System) -> None:
    numbers = [f"+3363994{n:04}" for n in range(CALLERS)]
    over, stack = threading.Event(), crowded.stack
    with ivr_module.calling(stack) as ivr:
        warm_up(stack, crowded.companies, ivr, at_once=AT_ONCE)
        for position, source in enumerate(SOURCES):
            crowded.companies.behave(source, Behaviour(latency=1.0))
            known = {
                number: invented_customer(source, number) for number in numbers[position :: len(SOURCES)]
            }
            crowded.companies.know(source, known)
        pending = conversation_that_nothing_concludes(crowded, ivr)
        bound_readers(stack)
        with ThreadPoolExecutor(READERS) as readers:
            waiting = [readers.submit(wait_again_and_again, ivr, pending, over) for _ in range(READERS)]
            time.sleep(2)  # the crowd is there before the first new caller
            conversations = []
            for number in numbers:
                conversations.append(str(uuid.uuid4()))
                assert ivr.start(conversations[-1], number).status == 202
                time.sleep(1 / CALLS_A_SECOND)
            time.sleep(10)  # the deadline of the last one
            over.set()
            answers = sum((one.result() for one in waiting), Counter[int]())
    table = stack.session.resource("dynamodb", endpoint_url=stack.endpoint).Table(stack.table_name)
    items = [table.get_item(Key={"conversationId": one})["Item"] for one in conversations]
    took = sorted(
        (
            datetime.fromisoformat(str(item["concludedAt"])) - datetime.fromisoformat(str(item["startedAt"]))
        ).total_seconds()
        for item in items
        if "concludedAt" in item
    )
    print(f"readers heard {dict(answers)}; identified after {took[0]:.1f} to {took[-1]:.1f} s")
    assert [item["status"] for item in items] == ["SUCCESS"] * CALLERS
    assert {200, 429} <= answers.keys() <= {200, 429, NO_ANSWER}
