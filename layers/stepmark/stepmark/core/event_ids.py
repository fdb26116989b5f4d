"""What tells an event from all others: the id it was sent with, its own name, and the thread it is for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepmark.core.record import Event, Progress
    from stepmark.core.tree import Tree

_ANONYMOUS = "stepmark-"
_QUALIFIED = re.compile(r"(\d+):(\d*):(.*)", re.DOTALL)


def anonymous(sender: str) -> str:
    """The id of an event whose sender has given it none: it can't be repeated."""
    return f"{_ANONYMOUS}{sender}"


def is_anonymous(event_id: str) -> bool:
    """Whether an event has no id but its sender's."""
    return event_id.startswith(_ANONYMOUS)


def qualified(event_id: str, event: str, thread: str | None) -> str:
    """An id as it is stored: the lengths come first, so that no two events share one.

    Another event with the same id is another request: who says `deny` must never be told `approved`.
    """
    length = "" if thread is None else len(thread)
    return f"{len(event)}:{length}:{event}{thread or ''}{event_id}"


def as_known(message: Event, progress: Progress, tree: Tree | None) -> str:
    """The id under which the record knows an event, or will know it.

    A repeat may call the event by another of its names, and releases before this one have stored the sender's
    id as it was.
    """
    found = _QUALIFIED.fullmatch(message.event_id)
    if found is None or _knows(progress, message.event_id):
        return message.event_id
    given = found[3][int(found[1]) + int(found[2] or 0) :]
    events = {} if tree is None else tree.shape.events
    nodes = events.get(message.event)
    for name in [name for name, others in events.items() if others == nodes and name != message.event]:
        other = qualified(given, name, message.thread)
        if _knows(progress, other):
            return other
    kept = progress.event(given)
    is_it = kept is None or (kept.event, kept.thread) == (message.event, message.thread)
    is_it = is_it and not _QUALIFIED.fullmatch(given) and _knows(progress, given)
    return given if is_it else message.event_id


def _knows(progress: Progress, event_id: str) -> bool:
    return event_id in progress.outputs or progress.event(event_id) is not None
