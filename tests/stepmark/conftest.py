"""What stepmark's tests share; prints the seed of the random ones, so that a run can be repeated."""

import pytest
from stepmark.runtime import actions, flights, timeouts

from tests.stepmark.random.run import InTheAir, begin_at_once, wait_or_hang, wait_or_hang_async
from tests.stepmark.random.settings import EXAMPLES, SEED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"stepmark's random tests: STEPMARK_SEED={SEED} STEPMARK_EXAMPLES={EXAMPLES}")


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps with `into` run before anything else: the order of turns then does not depend on the machine."""
    monkeypatch.setattr(actions, "begin", begin_at_once)
    _without_waiting(monkeypatch)


@pytest.fixture
def in_the_air(monkeypatch: pytest.MonkeyPatch) -> InTheAir:
    """Steps with `into` are in the air while the other threads have their turns."""
    air = InTheAir()
    monkeypatch.setattr(actions, "begin", air.begin)
    monkeypatch.setattr(flights, "wait", air.wait)
    _without_waiting(monkeypatch)
    return air


def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time-out is over as soon as the step hangs."""
    monkeypatch.setattr(timeouts, "wait", wait_or_hang)
    monkeypatch.setattr(timeouts, "_wait", wait_or_hang_async)
