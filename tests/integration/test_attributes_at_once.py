"""Many writers of attributes at once: none is lost, and no limit is passed."""

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversation import aws
from conversation.attributes import CLIENT_ROOM
from tests.support.clock import Clock
from tests.support.cloud import TABLE, Cloud
from tests.support.faults import at


@pytest.fixture(autouse=True)
def _started(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.kill_executions(monkeypatch)
    cloud.start("6c5c", attributes={"reason": "billing"})


def attributes(cloud: Cloud) -> dict[str, str]:
    kept: dict[str, str] = cloud.read("6c5c").body["attributes"]
    return kept


def assert_the_size_is_right(cloud: Cloud) -> None:
    """The item carries its attributes' size for the limit's sake; it must not drift."""
    item = cloud.item("6c5c")
    assert item is not None
    size = sum(len(name.encode()) + len(value.encode()) for name, value in attributes(cloud).items())
    assert item["attributeBytes"] == {"N": str(size)}


def test_forty_writers_of_different_attributes(cloud: Cloud, threads: ThreadPoolExecutor) -> None:
    answers = threads.map(lambda index: cloud.set_attributes("6c5c", {f"a{index}": str(index)}), range(39))
    assert {answer.status for answer in answers} == {200}
    assert attributes(cloud) == {"reason": "billing"} | {f"a{index}": str(index) for index in range(39)}
    assert_the_size_is_right(cloud)


def test_forty_writers_of_two_attributes_each_get_no_more_than_forty(
    cloud: Cloud, threads: ThreadPoolExecutor
) -> None:
    cloud.set_attributes("6c5c", {"reason": None})
    changes = [{f"a{index}": "x", f"b{index}": "x"} for index in range(40)]
    answers = list(threads.map(lambda change: cloud.set_attributes("6c5c", change), changes))
    assert Counter(answer.status for answer in answers) == {200: 20, 400: 20}
    written = [change for change, answer in zip(changes, answers, strict=True) if answer.status == 200]
    assert attributes(cloud) == dict(itertools.chain.from_iterable(change.items() for change in written))
    for answer in answers:
        if answer.status == 400:
            assert (
                answer.body["error"]["message"]
                == "clients may write at most 40 attributes of a conversation; delete some first"
            )


def test_writers_of_large_values_get_no_more_than_28_kb(cloud: Cloud, threads: ThreadPoolExecutor) -> None:
    """Each takes 3,072 bytes, so nine fit beside the 13 of `reason`, and no tenth."""
    changes = [{f"{letter}{index:023}": "x" * 1_000 for letter in "abc"} for index in range(20)]
    answers = list(threads.map(lambda change: cloud.set_attributes("6c5c", change), changes))
    assert Counter(answer.status for answer in answers) == {200: 9, 413: 11}
    assert_the_size_is_right(cloud)
    assert sum(len(name) + len(value) for name, value in attributes(cloud).items()) == 9 * 3_072 + 13


def test_28_kb_fit_to_the_byte(cloud: Cloud) -> None:
    cloud.set_attributes("6c5c", {"reason": None})
    nearly = {f"{index:024}": "x" * 1_000 for index in range(27)}
    assert cloud.set_attributes("6c5c", nearly).status == 200
    assert cloud.set_attributes("6c5c", {"z" * 24: "é" * 500 + "x"}).status == 413
    assert cloud.set_attributes("6c5c", {"z" * 24: "é" * 500}).status == 200
    assert_the_size_is_right(cloud)
    item = cloud.item("6c5c")
    assert item is not None
    assert item["attributeBytes"] == {"N": str(CLIENT_ROOM.bytes)}
    assert cloud.set_attributes("6c5c", {"a": ""}).status == 413
    # What gives room back is always taken.
    assert cloud.set_attributes("6c5c", {"z" * 24: "shorter"}).status == 200
    assert cloud.set_attributes("6c5c", dict.fromkeys(nearly)).status == 200
    assert attributes(cloud) == {"z" * 24: "shorter"}
    assert_the_size_is_right(cloud)


def test_writers_of_the_same_attribute_leave_the_value_of_one_of_them(
    cloud: Cloud, threads: ThreadPoolExecutor
) -> None:
    values = [f"value-{index}" for index in range(12)]
    answers = list(threads.map(lambda value: cloud.set_attributes("6c5c", {"reason": value}), values))
    assert {answer.status for answer in answers} == {200}
    assert attributes(cloud)["reason"] in values
    assert_the_size_is_right(cloud)


def test_a_change_is_written_whole_or_not_at_all(cloud: Cloud, threads: ThreadPoolExecutor) -> None:
    """Two writers of the same three attributes: never two of one and one of the other."""
    changes = [dict.fromkeys(("a", "b", "c"), str(writer)) for writer in range(8)]
    answers = list(threads.map(lambda change: cloud.set_attributes("6c5c", change), changes))
    for answer in answers:
        assert len({answer.body["attributes"][name] for name in ("a", "b", "c")}) == 1


def test_deleting_and_writing_the_same_attribute(cloud: Cloud, threads: ThreadPoolExecutor) -> None:
    changes: list[dict[str, str | None]] = [{"reason": value} for value in (None, "sales") for _ in range(6)]
    answers = list(threads.map(lambda change: cloud.set_attributes("6c5c", change), changes))
    assert {answer.status for answer in answers} == {200}
    assert attributes(cloud) in ({}, {"reason": "sales"})
    assert_the_size_is_right(cloud)


def test_what_is_deleted_twice_or_was_never_there_is_no_error(cloud: Cloud) -> None:
    before = cloud.read("6c5c").body["updatedAt"]
    answer = cloud.set_attributes("6c5c", {"never": None})
    assert (answer.status, answer.body["attributes"]) == (200, {"reason": "billing"})
    assert answer.body["updatedAt"] == before
    for _ in range(2):
        answer = cloud.set_attributes("6c5c", {"reason": None})
        assert (answer.status, answer.body["attributes"]) == (200, {})
    assert answer.body["updatedAt"] > before


def test_a_refused_change_writes_nothing(cloud: Cloud) -> None:
    before = cloud.item("6c5c")
    too_many = {f"a{index}": "x" for index in range(40)}
    assert cloud.set_attributes("6c5c", too_many).status == 400
    assert cloud.item("6c5c") == before


def test_a_conversation_that_is_deleted_meanwhile_stays_deleted(cloud: Cloud) -> None:
    def delete() -> None:
        cloud.dynamodb.delete_item(TableName=TABLE, Key={"conversationId": {"S": "6c5c"}})

    with at(aws.dynamodb(), "UpdateItem", "before", delete):
        assert cloud.set_attributes("6c5c", {"a": "b"}).status == 404
    assert cloud.item("6c5c") is None


def test_an_expired_conversation_takes_no_attributes(cloud: Cloud, clock: Clock) -> None:
    clock.advance(24 * 3600 + 1)
    before = cloud.item("6c5c")
    assert cloud.set_attributes("6c5c", {"a": "b"}).status == 404
    assert cloud.item("6c5c") == before


NAMES = st.sampled_from(["reason", "status", "sources", "size", "a-b", "a_b", "0", "-", "expiresAt"])
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(changes=st.lists(st.dictionaries(NAMES, VALUES | st.none(), max_size=4), min_size=1, max_size=5))
def test_any_changes_one_after_another_add_up(changes: list[dict[str, str | None]], cloud: Cloud) -> None:
    """Also with names that DynamoDB reserves or that the item itself uses."""
    expected: dict[str, str | None] = dict(attributes(cloud))
    for change in changes:
        expected |= change
        answer = cloud.set_attributes("6c5c", change)
        assert answer.status == 200
        assert answer.body["attributes"] == {name: x for name, x in expected.items() if x is not None}
    assert_the_size_is_right(cloud)
    assert cloud.read("6c5c").body["status"] in {"ONGOING", "TIMED_OUT"}
