"""Moments written as text compare as the moments do: DynamoDB conditions rest on that."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import timestamps

MOMENTS = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the time zone
    max_value=datetime(2999, 12, 31),  # noqa: DTZ001
    timezones=st.sampled_from(
        [UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-11))]
    ),
)


def test_the_format_is_the_one_of_step_functions() -> None:
    moment = datetime(2026, 11, 21, 19, 34, 1, 123_999, UTC)
    assert timestamps.to_text(moment) == "2026-11-21T19:34:01.123Z"


def test_a_whole_second_keeps_its_milliseconds() -> None:
    assert timestamps.to_text(datetime(2026, 11, 21, tzinfo=UTC)) == "2026-11-21T00:00:00.000Z"


def test_now_is_in_utc() -> None:
    before = datetime.now(UTC)
    assert before <= timestamps.now() <= datetime.now(UTC)
    assert timestamps.now().utcoffset() == timedelta(0)


@given(one=MOMENTS, other=MOMENTS)
def test_text_sorts_as_time_does(one: datetime, other: datetime) -> None:
    earlier, later = sorted((one, other))
    assert timestamps.to_text(earlier) <= timestamps.to_text(later)
    if later - earlier >= timedelta(milliseconds=1):
        assert timestamps.to_text(earlier) < timestamps.to_text(later)


@given(moment=MOMENTS)
def test_a_moment_comes_back_to_the_millisecond(moment: datetime) -> None:
    text = timestamps.to_text(moment)
    assert len(text) == 24
    assert timedelta(0) <= moment - timestamps.from_text(text) < timedelta(milliseconds=1)
    assert timestamps.to_text(timestamps.from_text(text)) == text


@pytest.mark.parametrize("text", ["2026-11-21T19:34:01.123456+00:00", "2026-11-21T20:34:01.123+01:00"])
def test_other_ways_to_write_a_moment_are_read(text: str) -> None:
    assert timestamps.to_text(timestamps.from_text(text)) == "2026-11-21T19:34:01.123Z"
