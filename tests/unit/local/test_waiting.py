"""Waiting for a condition: what it gives back, when it gives up, and that it hides no error."""

import pytest

from local.errors import NotInTime
from local.waiting import wait_until


def test_what_has_come_true_is_given_back() -> None:
    looks = iter([None, "", 0, "there"])
    assert wait_until(lambda: next(looks), seconds=60, pause=0) == "there"


def test_what_never_comes_true_ends_in_time_with_what_was_seen_last() -> None:
    with pytest.raises(NotInTime, match=r"not so within 0 s; at last: \[\]"):
        wait_until(list, seconds=0, pause=0)


def test_an_error_ends_the_wait() -> None:
    def look() -> bool:
        raise OSError("the server has gone")

    with pytest.raises(OSError, match="gone"):
        wait_until(look, seconds=60)
