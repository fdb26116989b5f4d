"""What a running step can know about itself."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepContext:
    """The step (or handler) that runs now.

    attempt: 1 the first time. idempotency_key: the same on every attempt, another one each time a loop
    comes by. thread_id: the `id` of the Go that started the thread, as a string.
    """

    workflow_id: str
    thread: str
    thread_id: str | None
    statement: str
    attempt: int
    idempotency_key: str


_current: ContextVar[StepContext] = ContextVar("stepmark_step")


def current() -> StepContext:
    """The step that runs now.

        def charge(self) -> None:
            pay(self.amount, idempotency_key=current().idempotency_key)

    Raises LookupError outside of a step or handler.
    """
    return _current.get()


def is_inside(workflow_id: str) -> bool:
    """Whether the caller is a step or handler of that workflow."""
    context = _current.get(None)
    return context is not None and context.workflow_id == workflow_id
