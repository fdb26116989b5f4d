"""A change of attributes is checked to the character, and planned so that it never breaks a limit."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation.attributes import (
    TOTAL_ROOM,
    Plan,
    Room,
    check_change,
    check_initial,
    plan_change,
    plan_client_change,
    total_bytes,
)
from conversation.errors import AttributeReserved, InvalidRequest, RequestTooLarge

# 32 attributes of 24 + 1,000 bytes are 32 KB to the byte.
FULL = {f"{index:024}": "x" * 1_000 for index in range(32)}


def numbered(count: int, first: int = 0) -> dict[str, str]:
    return {f"a{index}": "x" for index in range(first, first + count)}


def test_the_limits_of_the_api() -> None:
    assert TOTAL_ROOM.count == 50
    assert TOTAL_ROOM.bytes == 32_768
    assert total_bytes(FULL) == TOTAL_ROOM.bytes


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"reason": "billing", "draft": None},
        {"AZaz09_-": ""},
        {"n" * 64: "v" * 1_000},
        {"emoji": "👋" * 1_000},  # characters count, not bytes
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
        {"nul": "\x00"},
        {"reason": "two\nlines"},
        {"reason": "a\ttab"},
        {"reason": "\x1b[31mred"},
        {"reason": "\x7f"},
        {"reason": "c1 \x9b"},
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
        InvalidRequest, match="attribute secret_thing must not exceed 1,000 characters"
    ) as refusal:
        check_change({"secret_thing": "hunter2" * 200})
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("name", ["with space", "é", "x" * 65, "line\nbreak"])
def test_the_refusal_quotes_the_name_that_is_wrong(name: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_change({"good": "x", name: "x"})
    assert json.dumps(name) in str(refusal.value)


def test_clients_fill_forty_attributes_and_journeys_the_rest() -> None:
    forty = numbered(40)
    assert check_initial(forty) == forty
    assert plan_client_change(numbered(39), {"new": "x"}) is not None
    with pytest.raises(InvalidRequest, match="at most 40 attributes of a conversation; delete some first"):
        plan_client_change(forty, {"new": "x"})
    with pytest.raises(InvalidRequest, match="at most 40 attributes"):
        check_initial(numbered(41))
    assert plan_change(forty, dict.fromkeys([f"own{index}" for index in range(10)], "x")) is not None


def test_what_a_journey_has_written_takes_no_room_of_clients() -> None:
    own = frozenset(f"own{index}" for index in range(5))
    held = {**numbered(39), **dict.fromkeys(own, "x")}
    assert plan_client_change(held, {"new": "x"}, own) is not None
    with pytest.raises(InvalidRequest, match="at most 40"):
        plan_client_change({**held, "new": "x"}, {"newer": "x"}, own)


def test_a_journeys_words_are_no_client_room() -> None:
    held = {**numbered(40), "say": "Hello"}
    own = frozenset({"say"})
    with pytest.raises(InvalidRequest, match="at most 40"):
        plan_client_change(held, {"say": None, "new": "x"}, own, own)
    assert plan_client_change(held, {"say": None, "a0": None, "new": "x"}, own, own) is not None


def test_clients_fill_28_kb_to_the_byte() -> None:
    held = dict(list(FULL.items())[:27])
    last = "0" * 23 + "a"
    assert plan_client_change(held, {last: "x" * 1_000}) is not None
    with pytest.raises(RequestTooLarge, match="at most 28,672 bytes of attributes together; delete some"):
        plan_client_change(held, {last + "b": "x" * 1_000})


def test_a_conversation_that_is_fuller_than_clients_may_make_it_takes_what_gives_room_back() -> None:
    over = numbered(45)
    for change in ({"a0": "y"}, {"a0": None}, {"a0": None, "new": "x"}):
        assert plan_client_change(over, change) is not None


@pytest.mark.parametrize(
    "change", [{"say": "x"}, {"retention": "approved"}, {"retention": None}, {"a": "1", "say": ""}]
)
def test_a_journeys_own_attributes_are_not_for_clients(change: dict[str, str | None]) -> None:
    own, deletable = frozenset({"say", "retention"}), frozenset({"say"})
    with pytest.raises(AttributeReserved):
        plan_client_change({"say": "Hello"}, change, own, deletable)
    assert plan_client_change({"say": "Hello"}, {"say": None}, own, deletable) is not None


def test_the_first_attributes_leave_out_what_is_null() -> None:
    assert check_initial({"reason": "billing", "draft": None}) == {"reason": "billing"}


def test_nothing_to_do_is_no_plan() -> None:
    assert plan_change({"a": "1"}, {"a": "1", "gone": None}) is None


def test_a_plan_holds_only_what_changes() -> None:
    plan = plan_change({"a": "1", "b": "2"}, {"a": "1", "b": None, "c": "345"})
    assert plan == Plan(
        before={"b": "2", "c": None},
        after={"b": None, "c": "345"},
        count_delta=0,
        byte_delta=2,
        room=Room(50, 32_766),
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
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=1_000) | st.sampled_from(
    ["", "x" * 1_000, "👋" * 1_000]
)
HELD = st.dictionaries(NAMES, VALUES, max_size=50).filter(lambda held: total_bytes(held) <= TOTAL_ROOM.bytes)
CHANGES = st.dictionaries(NAMES, VALUES | st.none(), max_size=50)


def merged(current: Mapping[str, str], change: Mapping[str, str | None]) -> dict[str, str]:
    """What a change means, in one line: the model that plan_change is held against."""
    return {name: value for name, value in {**current, **change}.items() if value is not None}


@given(current=HELD, change=CHANGES)
def test_a_plan_applied_is_the_change_applied(current: dict[str, str], change: dict[str, str | None]) -> None:
    expected = merged(current, change)
    fits = len(expected) <= TOTAL_ROOM.count and total_bytes(expected) <= TOTAL_ROOM.bytes
    try:
        plan = plan_change(current, change)
    except RequestTooLarge:
        assert not fits
        assert len(expected) <= TOTAL_ROOM.count
        return
    except InvalidRequest:
        assert len(expected) > TOTAL_ROOM.count
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
