"""Whatever call to AWS a function dies at: every journey ends right, and no commit counts twice."""

from collections import Counter

import pytest

from tests.support.cloud import Cloud
from tests.support.journeys import APPROVAL, Calls, World, calls, new_id, repeat, running


def live_through(world: World, conversation_id: str) -> None:
    """One call from its start to the supervisor's answer."""
    world.begin(conversation_id)
    world.give_reason(conversation_id)
    assert repeat(lambda: world.start(conversation_id)).status in {200, 202}
    world.settle()
    world.identify(conversation_id)
    world.recover(lambda: "approve" in world.get(conversation_id)["waitingFor"])
    answer = repeat(lambda: world.send(conversation_id, "approve", APPROVAL, key="click"))
    if answer.status == 503:  # the workflow belongs to a function that has died, until its lease is over
        assert answer.headers["Retry-After"]
        world.recover(lambda: world.get(conversation_id)["status"] == "FINISHED")
        answer = world.send(conversation_id, "approve", APPROVAL, key="click")
    assert (answer.status, answer.body) == (200, {"output": "approved"})
    world.recover(lambda: world.get(conversation_id)["status"] == "FINISHED")


def check(world: World, conversation_id: str, seen: Calls) -> None:
    ended = world.get(conversation_id)
    assert (ended["result"], ended["state"]["decided"], ended["error"]) == ("approved", APPROVAL, None)
    assert world.attributes(conversation_id)["retention"] == "approved"
    doubled = [commit for commit, count in Counter(seen.commits).items() if count > 1]
    assert doubled == []


@pytest.mark.timeout(900)
def test_a_crash_at_any_call_changes_nothing_in_the_end(cloud: Cloud) -> None:
    with running(cloud) as world, calls() as seen:
        first = new_id()
        live_through(world, first)
        check(world, first, seen)
        whole = list(seen.made)
        assert {"PutItem Workflows", "GetItem Workflows", "SendMessage"} <= set(whole)
        for number in range(len(whole)):
            for where in ("crash_before", "crash_after"):
                seen.clear()
                setattr(seen, where, number)
                conversation_id = new_id()
                try:
                    live_through(world, conversation_id)
                    check(world, conversation_id, seen)
                except AssertionError as error:
                    raise AssertionError(f"{where} call {number}, {whole[number]}: {seen.made}") from error
                assert seen.crashed, f"{where} call {number} never came"


def time_out(world: World, conversation_id: str) -> None:
    """One call whose supervisor has longer than SQS can delay a message, and never answers."""
    world.begin(conversation_id, {"reason": "cancel"})
    world.identify(conversation_id)
    repeat(lambda: world.start(conversation_id, {"answer_within_seconds": 20_000}))
    world.recover(lambda: "too late" in world.get(conversation_id)["waitingFor"])
    world.settle(20_010)
    world.recover(lambda: world.get(conversation_id)["status"] == "FINISHED")
    assert world.get(conversation_id)["result"] == "timed out"


@pytest.mark.timeout(900)
def test_a_crash_while_a_timer_is_set_or_fires_loses_no_timer(cloud: Cloud) -> None:
    with running(cloud) as world, calls() as seen:
        time_out(world, new_id())
        whole = list(seen.made)
        assert "CreateSchedule" in whole
        for number in range(len(whole)):
            for where in ("crash_before", "crash_after"):
                seen.clear()
                setattr(seen, where, number)
                try:
                    time_out(world, new_id())
                except AssertionError as error:
                    raise AssertionError(f"{where} call {number}, {whole[number]}: {seen.made}") from error
                assert seen.crashed, f"{where} call {number} never came"
