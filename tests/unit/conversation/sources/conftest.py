"""Companies that answer as a test tells them to, behind the project's own HTTP client."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conversation import http_client
from conversation.sources import gamma
from tests.support.companies import Company, Reply
from tests.support.wire import answered_by


@pytest.fixture(autouse=True)
def _no_tokens_from_before() -> Iterator[None]:
    gamma.forget()
    yield
    gamma.forget()


@pytest.fixture
def company() -> Iterator[Callable[..., Company]]:
    """A company with its replies to come; all is the client's own but the wire."""
    before = http_client.transport.get()

    def make(*replies: Reply, **more: Any) -> Company:
        made = Company(list(replies), **more)
        http_client.transport.set(answered_by(made.handle))
        return made

    yield make
    http_client.transport.set(before)
