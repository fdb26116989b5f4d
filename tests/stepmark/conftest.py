"""What stepmark's tests share; prints the seed of the random ones, so that a failing run can be repeated."""

import pytest
from stepmark import session

from tests.stepmark.random.run import begin_at_once
from tests.stepmark.random.settings import EXAMPLES, SEED


def pytest_report_header() -> str:
    return f"stepmark: STEPMARK_SEED={SEED} STEPMARK_EXAMPLES={EXAMPLES}"


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps with `into` run before anything else: the order of turns then does not depend on the machine."""
    monkeypatch.setattr(session, "begin", begin_at_once)
