"""What the comparison measures is what the caller hears."""

import pytest

from local.demo.comparison.ways import Call, Span


def test_silence_and_the_whole_time_are_told_apart() -> None:
    call = Call([Span("silence", 0.1), Span("voice", 2.0), Span("silence", 0.3)])
    assert call.silent_seconds == pytest.approx(0.4)
    assert call.seconds == pytest.approx(2.4)


def test_what_is_heard_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 13.5, 20.0, 20.25])
    monkeypatch.setattr("local.demo.comparison.ways.time.monotonic", lambda: next(clock))
    call = Call()
    with call.hears("silence"):
        pass
    with call.hears("voice"):
        pass
    assert call.heard == [Span("silence", 3.5), Span("voice", 0.25)]
