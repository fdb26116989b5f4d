"""What stepmark logs of a failed attempt: where it failed and how, never the state or a payload."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

from stepmark.errors import frames_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepmark.core.record import Trouble

_log = logging.getLogger("stepmark")


def log_failure(workflow_id: str, what: str, error: BaseException, trouble: Trouble | None) -> None:
    """Log one with its traceback; trouble: what was noted of it, None when an event's sender is told instead.

    What the error says is not in it, nor lines of source: both may quote anything. `Engine.get()` has the
    former.
    """
    level = logging.INFO if trouble is None else logging.ERROR if trouble.parked else logging.WARNING
    if not _log.isEnabledFor(level):
        return
    attempt = "" if trouble is None else f" at attempt {trouble.attempt}"
    where = "".join(f" ({frame})" for frame in frames_of(error)[-1:])
    text = f"workflow {workflow_id}: {what} failed{attempt}: {type(error).__name__}{where}"
    record = _log.makeRecord(_log.name, level, __file__, 0, "%s", (printable(text),), None)
    record.exc_text = "\n".join(map(printable, _traceback(error)))
    _log.handle(record)


def _traceback(error: BaseException) -> Iterator[str]:
    """As Python prints it, without what errors say and without lines of source."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _traceback(before)
        yield ""
        yield "which led to"
        yield ""
    yield "Traceback (most recent call last):"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
    yield type(error).__qualname__
    for number, each in enumerate(error.exceptions if isinstance(error, BaseExceptionGroup) else (), start=1):
        yield f"  {number}:"
        yield from (f"  {line}" for line in _traceback(each))
