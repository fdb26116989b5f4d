"""Start the functions' execution environments before anything is shown or measured."""

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
from botocore.config import Config

from local.companies import SOURCES, Behaviour, Companies, invented_customer
from local.emulator.stack import Stack
from local.errors import NotInTime, WarmUpError
from local.ivr import Ivr
from local.parallel import in_parallel
from local.waiting import wait_until

if TYPE_CHECKING:
    from conversation.sources.lookup import LookupEvent

_DEADLINE_SECONDS = 600  # twenty environments of each function are a hundred processes to start
_ANSWERS_DEADLINE_SECONDS = 15
# Long enough for calls that are made at once to overlap, so that each gets an environment of its own.
_LATENCY_SECONDS = 0.5
_API_EVENTS: Mapping[str, object] = {
    "StartIdentificationFunction": {"body": '{"conversationId": "warm-up", "callerNumber": "anonymous"}'},
    "SetAttributesFunction": {"pathParameters": {"conversationId": "warm-up"}, "body": "{}"},
    "ReadConversationFunction": {"pathParameters": {"conversationId": "warm-up"}},
}


def warm_up(stack: Stack, companies: Companies, ivr: Ivr, *, at_once: int = 1) -> None:
    """Take `at_once` conversations at a time until all go through well, then forget their customers.

    warm_up(stack, companies, ivr, at_once=2)

    Raises `WarmUpError` after ten minutes.
    """
    warm_up_api(stack, at_once=at_once)
    # Not through conversations at first: a lookup that a cold start makes late fails, and the emulator then
    # ends its environment, so that the next one is as late.
    warm_up_lookups(stack, companies, at_once=at_once)
    numbers = _prepare_callers(companies, at_once)
    answers: list[Mapping[str, str]] = []

    def all_known() -> bool:
        answers[:] = in_parallel(lambda number: _take_call(ivr, number), numbers)
        if all(answer == dict.fromkeys(SOURCES, "MATCH") for answer in answers):
            return True
        warm_up_lookups(stack, companies, at_once=at_once)
        return False

    def late() -> WarmUpError:
        return WarmUpError(f"after {_DEADLINE_SECONDS} s the functions still answer {answers}")

    wait_until(all_known, seconds=_DEADLINE_SECONDS, late=late)
    companies.forget()


def warm_up_lookups(stack: Stack, companies: Companies, *, at_once: int = 1) -> None:
    """Start `at_once` environments of each lookup function, with calls that no deadline ends.

    Needed again after a lookup that failed: the emulator ends its environment, where AWS keeps it.
    """
    deadline_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    calls: list[tuple[str, object]] = []
    for source in SOURCES:
        for number in _prepare_callers(companies, at_once):
            event: LookupEvent = {
                "conversationId": "warm-up",
                "callerNumber": number,
                "deadlineAt": deadline_at,
            }
            calls.append((f"Lookup{source.capitalize()}Function", event))
    _invoke_at_once(stack, calls)


def warm_up_api(stack: Stack, *, at_once: int = 1, functions: Sequence[str] = tuple(_API_EVENTS)) -> None:
    """Start `at_once` environments of each function behind the API; no company is asked about anybody."""
    _invoke_at_once(stack, [(name, _API_EVENTS[name]) for name in functions for _ in range(at_once)])


def _invoke_at_once(stack: Stack, calls: Sequence[tuple[str, object]]) -> None:
    """Invoke functions, by their names in the template, past the API and its time-outs."""
    resources = stack.session.client("cloudformation", endpoint_url=stack.endpoint)
    functions = stack.session.client(
        "lambda",
        endpoint_url=stack.endpoint,
        config=Config(
            read_timeout=_DEADLINE_SECONDS,
            retries={"total_max_attempts": 1},
            max_pool_connections=len(calls),
        ),
    )
    names = {
        name: resources.describe_stack_resource(StackName=stack.name, LogicalResourceId=name)[
            "StackResourceDetail"
        ]["PhysicalResourceId"]
        for name, _ in calls
    }
    in_parallel(
        lambda call: functions.invoke(FunctionName=names[call[0]], Payload=json.dumps(call[1])), calls
    )


def _prepare_callers(companies: Companies, count: int) -> list[str]:
    numbers = [f"+3363999{n:04}" for n in range(count)]
    behaviour = Behaviour(latency=_LATENCY_SECONDS if count > 1 else 0)
    for source in SOURCES:
        companies.know(source, {number: invented_customer(source, number) for number in numbers})
        companies.behave(source, by_number=dict.fromkeys(numbers, behaviour))
    return numbers


def _take_call(ivr: Ivr, number: str) -> Mapping[str, str]:
    conversation_id = f"warm-up-{uuid.uuid4()}"
    try:
        ivr.start(conversation_id, number)
    except httpx.TimeoutException:  # a hundred processes start: it is not warm yet
        return {}
    sources: Mapping[str, str] = ivr.read(conversation_id, wait=20).document["sources"]

    def answered() -> bool:
        nonlocal sources
        sources = ivr.read(conversation_id).document["sources"]
        return "PENDING" not in sources.values()

    with suppress(NotInTime):  # the call is taken once more
        wait_until(answered, seconds=_ANSWERS_DEADLINE_SECONDS)
    return sources
