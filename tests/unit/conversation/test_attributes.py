"""A change of attributes is checked to the character, and planned so that it never breaks a limit."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation.attributes import (
    MAXIMUM_COUNT,
    MAXIMUM_TOTAL_BYTES,
    Plan,
    check_change,
    check_initial,
    plan_change,
    total_bytes,
)
from conversation.errors import InvalidRequest, RequestTooLarge

# 32 attributes of 24 + 1,000 bytes are 32 KB to the byte.
FULL = {f"{index:024}": "x" * 1_000 for index in range(32)}


def numbered(count: int, first: int = 0) -> dict[str, str]:
    return {f"a{index}": "x" for index in range(first, first + count)}


def test_the_limits_of_the_api() -> None:
    assert MAXIMUM_COUNT == 50
    assert MAXIMUM_TOTAL_BYTES == 32_768
    assert total_bytes(FULL) == MAXIMUM_TOTAL_BYTES


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"reason": "billing", "draft": None},
        {"AZaz09_-": ""},
        {"n" * 64: "v" * 1_000},
        {"emoji": "👋" * 1_000},  # characters count, not bytes
        {"nul": "\x00"},
        {"-": None},
        numbered(50),
        dict.fromkeys(numbered(50)),
        FULL,
    ],
)
def test_a_change_at_the_limits_passes_as_it_is(change: dict[str, str | None]) -> None:
    assert check_change(change) == change


@pytest.mark.parametrize(
    "change",
    [
        None,
        [],
        "reason=billing",
        7,
        True,
        {"": "empty name"},
        {"n" * 65: "v"},
        {"with space": "v"},
        {"with.dot": "v"},
        {"newline\n": "v"},
        {"é": "v"},
        {"٣": "v"},
        {"reason": 7},
        {"reason": True},
        {"reason": 1.5},
        {"reason": ["billing"]},
        {"reason": {"S": "billing"}},
        {"reason": "v" * 1_001},
        {"reason": "\ud800"},
        {"reason": "\udfff\ud83d"},
        numbered(51),
        dict.fromkeys(numbered(51)),
    ],
)
def test_a_change_over_a_limit_is_refused(change: object) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_change(change)
    assert not isinstance(refusal.value, RequestTooLarge)


def test_one_byte_over_32_kb_is_too_large() -> None:
    with pytest.raises(RequestTooLarge):
        check_change({**FULL, "b": ""})


def test_the_refusal_names_the_attribute_and_keeps_its_value_to_itself() -> None:
    with pytest.raises(
        InvalidRequest, match="attribute secret_thing must have at most 1,000 characters"
    ) as refusal:
        check_change({"secret_thing": "hunter2" * 200})
    assert "hunter2" not in str(refusal.value)


def test_the_first_attributes_leave_out_what_is_null() -> None:
    assert check_initial({"reason": "billing", "draft": None}) == {"reason": "billing"}


def test_nothing_to_do_is_no_plan() -> None:
    assert plan_change({"a": "1"}, {"a": "1", "gone": None}) is None


def test_a_plan_holds_only_what_changes() -> None:
    plan = plan_change({"a": "1", "b": "2"}, {"a": "1", "b": None, "c": "345"})
    assert plan == Plan(
        before={"b": "2", "c": None}, after={"b": None, "c": "345"}, count_delta=0, byte_delta=2
    )


def test_fifty_attributes_fit_and_the_next_one_does_not() -> None:
    assert plan_change(numbered(49), numbered(1, first=49)) is not None
    with pytest.raises(InvalidRequest, match="at most 50 attributes; delete some first"):
        plan_change(numbered(50), numbered(1, first=50))


def test_a_full_conversation_takes_other_values_deletions_and_exchanges() -> None:
    full = numbered(50)
    for change in ({"a0": "y"}, {"a0": None}, {"a0": None, "new": "x"}):
        assert plan_change(full, change) is not None


def test_32_kb_fit_to_the_byte() -> None:
    nearly_full = dict(list(FULL.items())[:-1])
    last = "0" * 23 + "a"
    assert plan_change(nearly_full, {last: "x" * 1_000}) is not None
    with pytest.raises(RequestTooLarge, match="at most 32,768 bytes together; delete some"):
        plan_change(nearly_full, {last + "b": "x" * 1_000})
    assert plan_change(FULL, {next(iter(FULL)): "y" * 1_000}) is not None


NAMES = st.sampled_from([f"a{index}" for index in range(60)])
VALUES = st.text(max_size=1_000) | st.sampled_from(["", "x" * 1_000, "👋" * 1_000])
HELD = st.dictionaries(NAMES, VALUES, max_size=50).filter(
    lambda held: total_bytes(held) <= MAXIMUM_TOTAL_BYTES
)
CHANGES = st.dictionaries(NAMES, VALUES | st.none(), max_size=50)


def merged(current: Mapping[str, str], change: Mapping[str, str | None]) -> dict[str, str]:
    """What a change means, in one line: the model that plan_change is held against."""
    return {name: value for name, value in {**current, **change}.items() if value is not None}


@given(current=HELD, change=CHANGES)
def test_a_plan_applied_is_the_change_applied(current: dict[str, str], change: dict[str, str | None]) -> None:
    expected = merged(current, change)
    fits = len(expected) <= MAXIMUM_COUNT and total_bytes(expected) <= MAXIMUM_TOTAL_BYTES
    try:
        plan = plan_change(current, change)
    except RequestTooLarge:
        assert not fits
        assert len(expected) <= MAXIMUM_COUNT
        return
    except InvalidRequest:
        assert len(expected) > MAXIMUM_COUNT
        return
    if plan is None:
        assert expected == current
        return
    assert fits
    assert merged(current, plan.after) == expected
    assert plan.count_delta == len(expected) - len(current)
    assert plan.byte_delta == total_bytes(expected) - total_bytes(current)
    for name, before in plan.before.items():
        assert current.get(name) == before != plan.after[name]


@given(
    change=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=8), inner)
        ),
    )
)
def test_any_json_is_a_change_or_refused(change: object) -> None:
    try:
        checked = check_change(change)
    except InvalidRequest:
        return
    assert checked == change
    assert all(value is None or isinstance(value, str) for value in checked.values())
