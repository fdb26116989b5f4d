"""However often and however simultaneously a start is asked for, one execution works for the conversation."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.clock import Clock
from tests.support.cloud import CALLER, Answer, Cloud, knows, knows_nobody
from tests.support.machine import Machine


def statuses(answers: list[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def test_twenty_equal_starts_at_once_start_one_execution(cloud: Cloud, threads: ThreadPoolExecutor) -> None:
    cloud.lookups.update(alpha=knows_nobody, beta=knows_nobody, gamma=knows("gamma"))
    answers = list(threads.map(lambda _: cloud.start("6c5c"), range(20)))
    assert statuses(answers) == {202: 1, 200: 19}
    assert len(cloud.executions()) == 1
    assert cloud.wait_for_end("6c5c")["status"] == "SUCCESS"


def test_twenty_withheld_starts_at_once_write_one(cloud: Cloud, threads: ThreadPoolExecutor) -> None:
    answers = list(threads.map(lambda _: cloud.start("6c5c", "anonymous"), range(20)))
    assert statuses(answers) == {202: 1, 200: 19}
    assert len({answer.body["startedAt"] for answer in answers}) == 1


@pytest.mark.usefixtures("machine")
def test_of_twenty_numbers_for_one_conversation_one_wins(cloud: Cloud, threads: ThreadPoolExecutor) -> None:
    numbers = [f"+3361234{index:04}" for index in range(20)]
    answers = list(threads.map(lambda number: cloud.start("6c5c", number), numbers))
    assert statuses(answers) == {202: 1, 409: 19}
    [started] = [answer for answer in answers if answer.status == 202]
    assert cloud.read("6c5c").body["callerNumber"] == started.body["callerNumber"]
    assert len(cloud.executions()) == 1


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("number", ["+33612345679", "anonymous", None, "0612345678"])
def test_the_same_id_with_another_number_is_a_conflict(number: str | None, cloud: Cloud) -> None:
    cloud.start("6c5c", attributes={"reason": "billing"})
    before = cloud.item("6c5c")
    answer = cloud.start("6c5c", number, {"reason": "other"})
    assert answer.status == 409
    assert answer.body["error"]["code"] == "CALLER_NUMBER_CONFLICT"
    assert "612345678" not in answer.body["error"]["message"]
    assert cloud.item("6c5c") == before
    assert len(cloud.executions()) == 1


def test_a_withheld_conversation_takes_no_number_later(cloud: Cloud) -> None:
    cloud.start("6c5c", "anonymous")
    assert cloud.start("6c5c").status == 409
    assert cloud.executions() == []


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    "number", [f"tel:{CALLER};ext=7", f"sip:{CALLER}@carrier.example", "011 33 6 12 34 56 78"]
)
def test_the_same_number_in_another_form_is_the_same_start(number: str, cloud: Cloud) -> None:
    cloud.start("6c5c")
    assert cloud.start("6c5c", number).status == 200
    assert len(cloud.executions()) == 1


def test_a_start_repeated_after_the_end_answers_the_end(cloud: Cloud) -> None:
    cloud.lookups.update(alpha=knows_nobody, beta=knows_nobody, gamma=knows("gamma"))
    cloud.start("6c5c", attributes={"reason": "billing"})
    cloud.wait_for_end("6c5c")
    cloud.wait_for_executions()
    before = cloud.item("6c5c")
    answer = cloud.start("6c5c", attributes={"reason": "repeated"})
    assert answer.status == 200
    assert answer.body["status"] == "SUCCESS"
    assert answer.body["attributes"] == {"reason": "billing"}
    assert cloud.item("6c5c") == before
    assert len(cloud.executions()) == 1


def test_a_start_repeated_after_the_deadline_times_out(cloud: Cloud, machine: Machine, clock: Clock) -> None:
    cloud.start("6c5c")
    clock.advance(10)
    answer = cloud.start("6c5c")
    assert answer.status == 200
    assert answer.body["status"] == "TIMED_OUT"
    assert not machine.conclude("6c5c", "NOT_FOUND", clock.now())


@pytest.mark.usefixtures("machine")
def test_an_id_whose_conversation_has_expired_is_new_again(cloud: Cloud, clock: Clock) -> None:
    """DynamoDB deletes expired items up to days later; until then they lie there."""
    cloud.start("6c5c", attributes={"reason": "yesterday"})
    clock.advance(24 * 3600 - 60)
    assert cloud.read("6c5c").status == 200
    clock.advance(120)
    assert cloud.read("6c5c").status == 404
    assert cloud.set_attributes("6c5c", {"a": "b"}).status == 404
    answer = cloud.start("6c5c", "+33612345679")
    assert answer.status == 202
    assert answer.body["status"] == "ONGOING"
    assert answer.body["attributes"] == {}
    assert len(cloud.executions()) == 2
