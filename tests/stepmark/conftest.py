"""What stepmark's tests share; prints the seed of the random ones, so that a run can be repeated."""

import pytest
from stepmark.runtime import actions, flights

from tests.stepmark.random.run import InTheAir, begin_at_once
from tests.stepmark.random.settings import EXAMPLES, SEED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"stepmark's random tests: STEPMARK_SEED={SEED} STEPMARK_EXAMPLES={EXAMPLES}")


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps with `into` run before anything else: the order of turns then does not depend on the machine."""
    monkeypatch.setattr(actions, "begin", begin_at_once)


@pytest.fixture
def in_the_air(monkeypatch: pytest.MonkeyPatch) -> InTheAir:
    """Steps with `into` are in the air while the other threads have their turns."""
    air = InTheAir()
    monkeypatch.setattr(actions, "begin", air.begin)
    monkeypatch.setattr(flights, "wait", air.wait)
    return air
