"""What stepmark's tests share; prints the seed of the random ones, so that a run can be repeated."""

import pytest
from stepmark import session

from tests.stepmark.random.run import begin_at_once
from tests.stepmark.random.settings import EXAMPLES, SEED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"stepmark's random tests: STEPMARK_SEED={SEED} STEPMARK_EXAMPLES={EXAMPLES}")


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps with `into` run before anything else: the order of turns then does not depend on the machine."""
    monkeypatch.setattr(session, "begin", begin_at_once)
