"""Participant data: a flat map of text on the conversation that both sides write, key by key."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from conversation.errors import InvalidRequest, RequestTooLarge

MAXIMUM_COUNT = 50
MAXIMUM_NAME_LENGTH = 64
MAXIMUM_VALUE_LENGTH = 1_000
MAXIMUM_TOTAL_BYTES = 32 * 1024

_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAXIMUM_NAME_LENGTH}}}")


def check_change(change: object) -> dict[str, str | None]:
    """Return what a client sent as a change, once it is known to be one.

        check_change({"reason": "billing", "draft": None})  # sets the one, deletes the other

    Raises InvalidRequest naming the attribute that is wrong.
    """
    if not isinstance(change, dict):
        raise InvalidRequest("attributes must be an object of texts, with null for those to delete")
    if len(change) > MAXIMUM_COUNT:
        raise InvalidRequest(f"send at most {MAXIMUM_COUNT} attributes")
    for name, value in change.items():
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"attribute names must have 1 to {MAXIMUM_NAME_LENGTH} characters of A-Z a-z 0-9 _ -"
            )
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"attribute {name} must be a text, or null to delete it")
        if value is not None and len(value) > MAXIMUM_VALUE_LENGTH:
            raise InvalidRequest(f"attribute {name} must have at most {MAXIMUM_VALUE_LENGTH:,} characters")
        if value is not None and not _is_unicode(value):
            raise InvalidRequest(f"attribute {name} must not contain half of a surrogate pair")
    if total_bytes(change) > MAXIMUM_TOTAL_BYTES:
        raise RequestTooLarge(f"attributes must have at most {MAXIMUM_TOTAL_BYTES:,} bytes together")
    return change


def check_initial(attributes: object) -> dict[str, str]:
    """Return the attributes that a client starts a conversation with; nothing is there yet to delete."""
    checked = check_change(attributes)
    return {name: value for name, value in checked.items() if value is not None}


def total_bytes(attributes: Mapping[str, str | None]) -> int:
    """Count what the limit of 32 KB is about: the UTF-8 bytes of all names and values."""
    return sum(len(name.encode()) + len((value or "").encode()) for name, value in attributes.items())


@dataclass(frozen=True, slots=True)
class Plan:
    """A change that fits, measured against the attributes that were read.

    `before` holds what each touched attribute was (None: absent) and `after` what it becomes. `count_delta`
    and `byte_delta` say how much room the change takes, or gives back when negative.
    """

    before: Mapping[str, str | None]
    after: Mapping[str, str | None]
    count_delta: int
    byte_delta: int


def plan_change(current: Mapping[str, str], change: Mapping[str, str | None]) -> Plan | None:
    """Work out what to write, or None when the conversation already is as the change wants it.

    Raises InvalidRequest or RequestTooLarge when it would not fit beside what is there.
    """
    after = {name: value for name, value in change.items() if current.get(name) != value}
    if not after:
        return None
    before = {name: current.get(name) for name in after}
    merged = {name: value for name, value in {**current, **after}.items() if value is not None}
    if len(merged) > MAXIMUM_COUNT:
        raise InvalidRequest(f"a conversation holds at most {MAXIMUM_COUNT} attributes; delete some first")
    if total_bytes(merged) > MAXIMUM_TOTAL_BYTES:
        raise RequestTooLarge(
            f"a conversation's attributes have at most {MAXIMUM_TOTAL_BYTES:,} bytes together; delete some"
        )
    return Plan(before, after, len(merged) - len(current), total_bytes(merged) - total_bytes(current))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
