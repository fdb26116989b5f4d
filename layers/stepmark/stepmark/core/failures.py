"""What an error of the user's says: whether it is a failed attempt, whether to try again, and when."""

from __future__ import annotations

import math
import sys
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from stepmark.definition.retry import DEFAULT_RETRY, is_one_of
from stepmark.errors import PermanentError, leaves_of, text_of

if TYPE_CHECKING:
    from stepmark.core.record import Failure, Trouble
    from stepmark.core.tree import Node, Tree
    from stepmark.definition.retry import Retry

MAX_ASKED_SECONDS = 86_400.0  # of what an error asks for


def is_failure(error: BaseException, *, interrupted: bool) -> bool:
    """Whether an error is a failed attempt; else it is for whoever has called the engine.

    Python's own that are no Exception count: a step has called sys.exit(), or what it awaits was cancelled.
    interrupted: whether the process was, as by Ctrl-C.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(is_failure(each, interrupted=interrupted) for each in error.exceptions)
    if isinstance(error, KeyboardInterrupt):
        return not interrupted
    # who never made an event loop has not imported it, and is not to pay for it
    asyncio = sys.modules.get("asyncio.exceptions")
    cancelled = () if asyncio is None else (asyncio.CancelledError,)
    return isinstance(error, (Exception, SystemExit, GeneratorExit, *cancelled))


def note_failure(trouble: Trouble, what: str, error: BaseException, retry: Retry | None, now: float) -> None:
    """Note a failure, and when to try again."""
    trouble.attempt += 1
    trouble.failed_with(what, error, text_of(error))
    delays = [_delay(each, trouble.attempt, retry or DEFAULT_RETRY, now) for each in leaves_of(error)]
    trouble.parked = None in delays
    trouble.retry_at = None if trouble.parked else now + max(each for each in delays if each is not None)


def branch_for(tree: Tree, step: Node, error: BaseException) -> Node | None:
    """The branch of a step that has given up with that error, or None when none fits."""
    errors = leaves_of(error)
    return next((each for each in step.body if all(is_one_of(e, tree[each].on) for e in errors)), None)


def failures_around(failures: list[Failure], node: Node) -> list[Failure]:
    """Those of the steps in whose branches a statement stands."""
    names: set[str] = set()
    at = node.parent
    while at is not None and failures:
        names |= {at.name, *at.aliases}
        at = at.parent
    return [failure for failure in failures if failure.statement in names]


def _delay(error: BaseException, attempt: int, retry: Retry, now: float) -> float | None:
    """How long to wait after one error, None if it is not worth another attempt."""
    delay = None if isinstance(error, PermanentError) else retry.delay(attempt, error)
    return None if delay is None else max(delay, min(_asked_for(error, now), MAX_ASKED_SECONDS))


def _asked_for(error: BaseException, now: float) -> float:
    """How many seconds an error asks to be left alone: its `retry_after`, or an answer's `Retry-After`."""
    try:
        said: Any = getattr(error, "retry_after", None)
        if (
            said is None
        ):  # an answer's headers know upper and lower case alike, a dict of boto's has the latter
            said = error.response.headers.get("retry-after")  # type: ignore[attr-defined]
        if isinstance(said, str) and not said.strip().replace(".", "", 1).isdecimal():
            said = parsedate_to_datetime(said).timestamp() - now
        elif hasattr(said, "total_seconds"):
            said = said.total_seconds()
        seconds = float(said)
    except Exception:  # noqa: BLE001 - the user's classes may raise anything
        return 0.0
    return seconds if 0 < seconds < math.inf else 0.0
