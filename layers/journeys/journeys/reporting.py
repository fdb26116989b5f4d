"""What operators see of a workflow: never its state, nor an error's message, which may quote the caller."""

from __future__ import annotations

from traceback import extract_tb
from typing import TYPE_CHECKING

from conversation.observability import count, logger
from journeys.names import conversation_id_of

if TYPE_CHECKING:
    from stepmark import Snapshot


def about(workflow_id: str) -> None:
    """Let every line from here on, to the end of the invocation, say which workflow it is about."""
    logger.thread_safe_append_keys(workflow_id=workflow_id, conversation_id=conversation_id_of(workflow_id))


def report(snapshot: Snapshot) -> None:
    """Log where a workflow stands."""
    at = sorted(thread.at for thread in snapshot.threads.values())
    logger.info("journey", status=snapshot.status, at=at)


def report_parked(workflow_id: str, at: tuple[str, ...]) -> None:
    """Log and count that a workflow now waits for a person to repair it; `stepmark show` has its error."""
    logger.error("journey parked", workflow_id=workflow_id, at=sorted(at))
    count("JourneyParked")


def report_failed(error: BaseException) -> None:
    """Log and count that a journey could not go on: what went wrong, and where in the code."""
    logger.error(
        "journey failed",
        error=_chain(error),
        code=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)],
    )
    count("JourneyFailed")


def _chain(error: BaseException | None) -> list[str]:
    """The types of an error and of what has caused it."""
    return [] if error is None else [type(error).__name__, *_chain(error.__cause__)]
