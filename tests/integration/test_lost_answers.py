"""The SDK may lose the answer of a write that happened; no write of the store minds being sent again."""

from collections.abc import Iterator

import pytest

from conversation import aws
from conversation.start import CLAIM_DURATION
from tests.support.clock import Clock
from tests.support.cloud import Cloud
from tests.support.faults import Killed, failing, refused
from tests.support.machine import Machine

CLAIM_SECONDS = CLAIM_DURATION.total_seconds()
# The SDK sends a request twice: once is a stumble that nobody notices, twice is a failed call.
ONCE, ALWAYS = 1, None


@pytest.fixture(autouse=True)
def _machine(machine: Machine) -> Iterator[Machine]:
    """What the executions do is another matter."""
    return iter([machine])


def test_the_first_write_lost_once_is_a_start_like_any_other(cloud: Cloud) -> None:
    with (
        failing(aws.dynamodb(), "PutItem", "after", times=ONCE) as failures,
        failing(aws.dynamodb(), "GetItem", "before") as waits,
    ):
        answer = cloud.start("6c5c", attributes={"reason": "billing"})
    assert failures.count == 1
    assert waits.count == 0, "it must know its own write again, and not wait for whoever else made it"
    assert (answer.status, answer.body["status"]) == (202, "ONGOING")
    assert len(cloud.executions()) == 1
    assert cloud.start("6c5c").status == 200


def test_the_first_write_lost_for_good_is_repaired_by_the_repetition(cloud: Cloud, clock: Clock) -> None:
    with failing(aws.dynamodb(), "PutItem", "after", times=ALWAYS) as failures:
        assert cloud.start("6c5c", attributes={"reason": "billing"}).status == 503
    assert failures.count == 2
    assert cloud.executions() == []
    assert cloud.read("6c5c").body["status"] == "ONGOING"
    clock.advance(CLAIM_SECONDS)
    assert cloud.start("6c5c").status == 202
    assert len(cloud.executions()) == 1
    assert cloud.read("6c5c").body["attributes"] == {"reason": "billing"}


def test_a_withheld_start_lost_once_is_answered_all_the_same(cloud: Cloud) -> None:
    with failing(aws.dynamodb(), "PutItem", "after", times=ONCE):
        answer = cloud.start("6c5c", "anonymous")
    assert answer.status == 202
    assert answer.body["reason"] == "WITHHELD_NUMBER"
    assert cloud.start("6c5c", "anonymous").body == answer.body


def test_the_note_of_an_execution_lost_once_is_noted(cloud: Cloud) -> None:
    with failing(aws.dynamodb(), "UpdateItem", "after", times=ONCE) as failures:
        assert cloud.start("6c5c").status == 202
    assert failures.count == 1
    assert noted_execution(cloud) == cloud.executions()[0].exec_arn
    assert cloud.start("6c5c").status == 200
    assert len(cloud.executions()) == 1


@pytest.mark.parametrize("error", [Killed, refused("InternalServerError")])
def test_a_note_that_is_never_written_is_no_failed_start(error: type[BaseException], cloud: Cloud) -> None:
    with failing(aws.dynamodb(), "UpdateItem", "before", error=error):
        if error is Killed:
            with pytest.raises(Killed):
                cloud.start("6c5c")
        else:
            assert cloud.start("6c5c").status == 202
    assert len(cloud.executions()) == 1


def test_a_claim_given_back_whose_answer_is_lost_is_given_back(cloud: Cloud) -> None:
    with (
        failing(aws.step_functions(), "StartExecution", "before", error=refused("ThrottlingException")),
        failing(aws.dynamodb(), "UpdateItem", "after", times=ONCE) as failures,
    ):
        assert cloud.start("6c5c").status == 503
    assert failures.count == 1
    assert cloud.start("6c5c").status == 202
    assert len(cloud.executions()) == 1


@pytest.mark.parametrize("times", [ONCE, ALWAYS])
def test_a_claim_taken_over_whose_answer_is_lost_runs_out_and_is_taken_again(
    times: int | None, cloud: Cloud, clock: Clock
) -> None:
    with failing(aws.step_functions(), "StartExecution", "before", error=Killed), pytest.raises(Killed):
        cloud.start("6c5c")
    clock.advance(CLAIM_SECONDS)
    with failing(aws.dynamodb(), "UpdateItem", "after", times=times):
        first = cloud.start("6c5c").status
    assert first == (202 if times == ONCE else 503)
    clock.advance(CLAIM_SECONDS)
    assert cloud.start("6c5c").status == (200 if times == ONCE else 202)
    assert len(cloud.executions()) == 1


@pytest.mark.parametrize(
    "change",
    [{"reason": "sales"}, {"new": "👋"}, {"reason": None}, {"reason": "sales", "new": "1", "gone": None}],
)
@pytest.mark.parametrize("times", [ONCE, ALWAYS])
def test_attributes_whose_answer_is_lost_are_written_once(
    change: dict[str, str | None], times: int | None, cloud: Cloud
) -> None:
    initial = {"reason": "billing", "kept": "x"}
    expected = {name: value for name, value in {**initial, **change}.items() if value is not None}
    cloud.start("6c5c", attributes=initial)
    with failing(aws.dynamodb(), "UpdateItem", "after", times=times):
        answer = cloud.set_attributes("6c5c", change)
    assert answer.status == (200 if times == ONCE else 503)
    repeated = cloud.set_attributes("6c5c", change)
    assert repeated.status == 200
    assert repeated.body["attributes"] == expected
    item = cloud.item("6c5c")
    assert item is not None
    size = sum(len(name.encode()) + len(value.encode()) for name, value in expected.items())
    assert item["attributeBytes"] == {"N": str(size)}


@pytest.mark.parametrize("times", [ONCE, ALWAYS])
def test_a_time_out_whose_answer_is_lost_is_a_time_out(times: int | None, cloud: Cloud, clock: Clock) -> None:
    cloud.start("6c5c")
    clock.advance(10)
    with failing(aws.dynamodb(), "UpdateItem", "after", times=times):
        answer = cloud.read("6c5c")
    if times == ONCE:
        assert answer.body["status"] == "TIMED_OUT"
    else:
        assert answer.status == 503
    assert cloud.read("6c5c").body["status"] == "TIMED_OUT"


@pytest.mark.parametrize("code", ["ThrottlingException", "RequestLimitExceeded", "AccessDeniedException"])
def test_when_the_table_refuses_every_route_says_so_and_when_to_come_back(code: str, cloud: Cloud) -> None:
    cloud.start("6c5c")
    before = cloud.item("6c5c")
    with (
        failing(aws.dynamodb(), "GetItem", "before", error=refused(code)),
        failing(aws.dynamodb(), "PutItem", "before", error=refused(code)),
        failing(aws.dynamodb(), "UpdateItem", "before", error=refused(code)),
    ):
        for answer in (
            cloud.start("6c5c"),
            cloud.read("6c5c", wait="5"),
            cloud.set_attributes("6c5c", {"a": "b"}),
        ):
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert answer.body["error"]["code"] == "TEMPORARILY_UNAVAILABLE"
    assert cloud.item("6c5c") == before


def noted_execution(cloud: Cloud) -> str:
    item = cloud.item("6c5c")
    assert item is not None
    arn: str = item["executionArn"]["S"]
    return arn
