"""Companies that answer as a test tells them to, behind the project's own HTTP client."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from conversation import http_client
from conversation.sources import client, gamma
from tests.support.companies import Company, Reply


@pytest.fixture(autouse=True)
def _no_pause_before_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_RETRY_AFTER_SECONDS", 0)


@pytest.fixture(autouse=True)
def _no_tokens_from_before() -> Iterator[None]:
    gamma._tokens.clear()
    gamma._raw_clients.clear()
    yield
    gamma._tokens.clear()
    gamma._raw_clients.clear()


@pytest.fixture
def company(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Company]:
    """A company with its replies to come; all is the client's own but the wire."""

    def make(*replies: Reply, **more: Any) -> Company:
        made = Company(list(replies), **more)
        transport = httpx.MockTransport(made.handle)
        monkeypatch.setattr(http_client, "_transport", lambda: transport)
        return made

    return make
