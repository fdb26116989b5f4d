"""Companies that answer as a test tells them to, behind the project's own HTTP client."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from conversation.sources import client, gamma
from tests.support.companies import Company, Reply


@pytest.fixture(autouse=True)
def _no_pause_before_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_RETRY_AFTER_SECONDS", 0)


@pytest.fixture(autouse=True)
def _no_tokens_from_before() -> Iterator[None]:
    gamma._tokens.clear()
    yield
    gamma._tokens.clear()


@pytest.fixture
def company(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Company]:
    """A company with its replies to come; the client keeps all settings of its own but the wire."""

    def make(*replies: Reply, **more: Any) -> Company:
        made = Company(list(replies), **more)
        monkeypatch.setattr(client._http(), "_transport", httpx.MockTransport(made.handle))
        return made

    return make
