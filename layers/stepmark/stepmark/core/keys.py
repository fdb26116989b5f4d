"""Idempotency keys: the same on every attempt, and no two of anything have the same."""

from __future__ import annotations

import re
from urllib.parse import quote

_VERSION = re.compile("0|[1-9][0-9]*")
_OWN = {("setup",), ("teardown",), ("look",)}


def key_of(workflow_id: str, thread: str, since: int, *purpose: str) -> str:
    """The key of a step, or of what is done about an event.

        key_of("request-7", "main", 3) == "request-7/main/3"

    purpose: nothing for a step; an event's name, and its id if it has one, for its handler; an event's name,
    no id, and "setup", "teardown" or "look" for those.

    Slashes join the parts as long as no other parts would give the same; else bars join them, escaped.
    """
    parts = [workflow_id, thread, str(since), *purpose]
    said = [part for part in parts if part]
    plain = "/".join(said)
    is_taken = purpose[1:] in _OWN  # by what is done about that event without an id
    if not is_taken and _parts(plain) == said:
        return plain
    return "|".join(quote(part, safe="") for part in parts)


def _parts(plain: str) -> list[str]:
    """How a key of slashes is read: of all that could be the workflow's id, the shortest is it."""
    pieces = plain.split("/")
    for place in range(max(2, len(pieces) - 3), len(pieces)):
        if _VERSION.fullmatch(pieces[place]):
            return ["/".join(pieces[: place - 1]), *pieces[place - 1 :]]
    return []
