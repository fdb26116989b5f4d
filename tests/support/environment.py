"""The environment of a function, for code that a test calls without the function around it."""

from collections.abc import Iterator
from contextlib import contextmanager

from conversation.settings import environment


@contextmanager
def variables(**given: str) -> Iterator[None]:
    """Let settings be read from these alone for the length of a `with` block."""
    before = environment.set(given)
    try:
        yield
    finally:
        environment.reset(before)
