"""A start that broke off at any point is repaired by the IVR's own repetition, and harms nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import EndpointConnectionError

from conversation import aws, timestamps
from conversation.start import CLAIM_DURATION
from tests.support.clock import Clock
from tests.support.cloud import Cloud, knows, knows_nobody
from tests.support.faults import Killed, at, failing, refused

CLAIM_SECONDS = CLAIM_DURATION.total_seconds()


@pytest.fixture(autouse=True)
def _lookups(cloud: Cloud) -> None:
    cloud.lookups.update(alpha=knows_nobody, beta=knows_nobody, gamma=knows("gamma", "G-1042"))


def ends_well(cloud: Cloud) -> None:
    document = cloud.wait_for_end("6c5c")
    cloud.wait_for_executions()
    assert document["status"] == "SUCCESS"
    final = cloud.read("6c5c").body
    assert final["identity"]["customerId"] == "G-1042"
    assert final["sources"] == {"alpha": "NO_MATCH", "beta": "NO_MATCH", "gamma": "MATCH"}
    assert final["otherMatches"] == {}


@pytest.mark.parametrize(
    "error",
    [
        refused("ThrottlingException"),
        refused("StateMachineDeleting"),
        refused("AccessDeniedException"),
        lambda: EndpointConnectionError(endpoint_url="https://states.example"),
    ],
)
def test_a_start_that_step_functions_refuses_may_be_repeated_at_once(
    error: Callable[[], Exception], cloud: Cloud
) -> None:
    with failing(aws.step_functions(), "StartExecution", "before", error=error):
        refusal = cloud.start("6c5c")
    assert refusal.status == 503
    assert refusal.headers["Retry-After"] == "1"
    assert refusal.body["error"]["code"] == "TEMPORARILY_UNAVAILABLE"
    assert cloud.executions() == []
    # The claim was given back: had it not been, this one would wait for it to run out.
    with failing(aws.dynamodb(), "GetItem", "before", error=AssertionError) as waits:
        assert cloud.start("6c5c").status == 202
    assert waits.count == 0
    assert len(cloud.executions()) == 1
    ends_well(cloud)


def test_while_step_functions_is_away_every_repetition_is_503(cloud: Cloud) -> None:
    with failing(aws.step_functions(), "StartExecution", "before", error=refused("ServiceUnavailable")):
        assert [cloud.start("6c5c").status for _ in range(3)] == [503, 503, 503]
    assert cloud.start("6c5c").status == 202
    ends_well(cloud)


def test_of_twenty_repetitions_after_a_failure_one_starts(cloud: Cloud, threads: ThreadPoolExecutor) -> None:
    with failing(aws.step_functions(), "StartExecution", "before", error=refused("ThrottlingException")):
        cloud.start("6c5c")
    answers = list(threads.map(lambda _: cloud.start("6c5c"), range(20)))
    assert sorted(answer.status for answer in answers) == [200] * 19 + [202]
    assert len(cloud.executions()) == 1
    ends_well(cloud)


def test_killed_between_the_write_and_the_start(cloud: Cloud, clock: Clock) -> None:
    with (
        failing(aws.step_functions(), "StartExecution", "before", error=Killed),
        pytest.raises(Killed),
    ):
        cloud.start("6c5c")
    assert cloud.read("6c5c").body["status"] == "ONGOING"
    assert cloud.executions() == []
    clock.advance(CLAIM_SECONDS)
    answer = cloud.start("6c5c")
    assert (answer.status, answer.body["status"]) == (202, "ONGOING")
    assert len(cloud.executions()) == 1
    ends_well(cloud)


def test_a_repetition_that_comes_early_waits_for_the_claim_to_run_out(cloud: Cloud) -> None:
    """In real time: the claim lasts three seconds, an IVR's request five and more."""
    with (
        failing(aws.step_functions(), "StartExecution", "before", error=Killed),
        pytest.raises(Killed),
    ):
        cloud.start("6c5c")
    assert cloud.start("6c5c").status == 202
    assert len(cloud.executions()) == 1
    ends_well(cloud)


def test_twenty_early_repetitions_start_one_execution(cloud: Cloud, threads: ThreadPoolExecutor) -> None:
    with (
        failing(aws.step_functions(), "StartExecution", "before", error=Killed),
        pytest.raises(Killed),
    ):
        cloud.start("6c5c")
    answers = list(threads.map(lambda _: cloud.start("6c5c"), range(20)))
    assert sorted(answer.status for answer in answers) == [200] * 19 + [202]
    assert len(cloud.executions()) == 1
    ends_well(cloud)


def test_killed_again_while_repairing(cloud: Cloud, clock: Clock) -> None:
    for _ in range(2):
        with (
            failing(aws.step_functions(), "StartExecution", "before", error=Killed),
            pytest.raises(Killed),
        ):
            cloud.start("6c5c")
        clock.advance(CLAIM_SECONDS)
    assert cloud.start("6c5c").status == 202
    assert len(cloud.executions()) == 1
    ends_well(cloud)


def test_killed_between_the_start_and_its_note_a_second_one_does_no_harm(cloud: Cloud, clock: Clock) -> None:
    with failing(aws.dynamodb(), "UpdateItem", "before", error=Killed), pytest.raises(Killed):
        cloud.start("6c5c")
    assert len(cloud.executions()) == 1
    clock.advance(CLAIM_SECONDS)
    cloud.start("6c5c")
    ends_well(cloud)


def test_a_lost_answer_of_start_execution_and_its_repetition_run_at_most_a_harmless_second_one(
    cloud: Cloud,
) -> None:
    """StartExecution of an Express machine is not idempotent: the SDK must not send it again by itself."""
    with failing(aws.step_functions(), "StartExecution", "after") as failures:
        assert cloud.start("6c5c").status == 503
    assert failures.count == 1
    assert cloud.start("6c5c").status == 202
    ends_well(cloud)
    assert len(cloud.executions()) == 2


@pytest.mark.parametrize("slow", ["PutItem", "UpdateItem"])
def test_a_slow_table_lets_no_second_request_start(slow: str, cloud: Cloud, clock: Clock) -> None:
    """Whoever calls StartExecution holds a claim that lasts until the call must have ended."""
    if slow == "UpdateItem":  # the claim that a repetition takes over
        with failing(aws.step_functions(), "StartExecution", "before", error=Killed), pytest.raises(Killed):
            cloud.start("6c5c")
        clock.advance(CLAIM_SECONDS)
    slow_calls: list[str] = []
    remaining: list[float] = []

    def dawdle() -> None:
        if not slow_calls:
            slow_calls.append(slow)
            clock.advance(CLAIM_SECONDS - 0.1)

    def look_at_the_claim() -> None:
        item = cloud.item("6c5c")
        assert item is not None
        until = timestamps.from_text(item["startClaimedUntil"]["S"])
        remaining.append((until - clock.now()).total_seconds())

    with (
        at(aws.dynamodb(), slow, "after", dawdle),
        at(aws.step_functions(), "StartExecution", "before", look_at_the_claim),
    ):
        assert cloud.start("6c5c").status == 202
    assert slow_calls == [slow]
    assert [seconds >= aws.STEP_FUNCTIONS_SECONDS - 0.1 for seconds in remaining] == [True]
    ends_well(cloud)


def test_when_every_answer_of_start_execution_is_lost_the_work_is_done_all_the_same(cloud: Cloud) -> None:
    with failing(aws.step_functions(), "StartExecution", "after"):
        assert cloud.start("6c5c").status == 503
    ends_well(cloud)
    assert cloud.start("6c5c").status == 200


def test_a_claim_that_cannot_be_given_back_runs_out(cloud: Cloud, clock: Clock) -> None:
    with (
        failing(aws.step_functions(), "StartExecution", "before", error=refused("ThrottlingException")),
        failing(aws.dynamodb(), "UpdateItem", "before", error=refused("InternalServerError")),
    ):
        assert cloud.start("6c5c").status == 503
    clock.advance(CLAIM_SECONDS)
    assert cloud.start("6c5c").status == 202
    assert len(cloud.executions()) == 1
    ends_well(cloud)


def test_without_the_table_nothing_is_started(cloud: Cloud) -> None:
    with failing(aws.dynamodb(), "PutItem", "before", error=refused("InternalServerError")):
        refusal = cloud.start("6c5c")
    assert refusal.status == 503
    assert refusal.headers["Retry-After"] == "1"
    assert cloud.item("6c5c") is None
    assert cloud.executions() == []
