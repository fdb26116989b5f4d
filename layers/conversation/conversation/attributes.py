"""Participant data: a flat map of strings on the conversation that both sides write, key by key.

Clients may fill most of it and no more, so that a journey's own write always finds room. Attributes that a
journey has declared as its own are written by journeys alone: an IVR that reads them believes them.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from conversation.errors import AttributeReserved, InvalidRequest, RequestTooLarge

MAX_NAME_LENGTH = 64
MAX_VALUE_LENGTH = 1_000

_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME_LENGTH}}}")
# What an error says of a name that is wrong; the rest of a long one helps nobody.
_QUOTED_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Room:
    """How many attributes, and how many UTF-8 bytes of all names and values."""

    count: int
    bytes: int


# What a conversation holds, and what of it clients may fill: the rest is for its journeys.
TOTAL_ROOM = Room(count=50, bytes=32 * 1024)
CLIENT_ROOM = Room(count=40, bytes=28 * 1024)


def check_change(change: object) -> dict[str, str | None]:
    """Return what a client sent as a change, once it is known to be valid.

        check_change({"reason": "billing", "draft": None})  # sets the one, deletes the other

    Raises InvalidRequest naming the attribute that is wrong.
    """
    if not isinstance(change, dict):
        raise InvalidRequest("attributes must be a JSON object of strings; null deletes an attribute")
    if len(change) > TOTAL_ROOM.count:
        raise InvalidRequest(f"send at most {TOTAL_ROOM.count} attributes")
    for name, value in change.items():
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"the attribute name {_quoted(name)} must be 1 to {MAX_NAME_LENGTH} characters"
                " of A-Z a-z 0-9 _ -"
            )
        if value is not None:
            _check_value(name, value)
    if total_bytes(change) > TOTAL_ROOM.bytes:
        raise RequestTooLarge(f"attributes must not exceed {TOTAL_ROOM.bytes:,} bytes in total")
    return change


def _check_value(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidRequest(f"attribute {name} must be a string, or null to delete it")
    if len(value) > MAX_VALUE_LENGTH:
        raise InvalidRequest(f"attribute {name} must not exceed {MAX_VALUE_LENGTH:,} characters")
    if not _is_unicode(value):
        raise InvalidRequest(f"attribute {name} must not contain an unpaired surrogate")
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise InvalidRequest(f"attribute {name} must not contain control characters, such as a line break")


def check_initial(attributes: object) -> dict[str, str]:
    """Return the attributes that a client starts a conversation with; nothing is there yet to delete.

    Raises InvalidRequest, and RequestTooLarge when they are more than clients may fill.
    """
    checked = check_change(attributes)
    initial = {name: value for name, value in checked.items() if value is not None}
    plan_client_change({}, initial)
    return initial


def total_bytes(attributes: Mapping[str, str | None]) -> int:
    """Count what the limits in bytes are about: the UTF-8 bytes of all names and values."""
    return sum(len(name.encode()) + len((value or "").encode()) for name, value in attributes.items())


class Plan(NamedTuple):
    """A change that fits, measured against the attributes that were read.

    `before` holds what each touched attribute was (None: absent) and `after` what it becomes. `count_delta`
    and `byte_delta` say how much room the change takes, or gives back when negative. The change still fits
    when the conversation holds up to `room` at the moment of the write.
    """

    before: Mapping[str, str | None]
    after: Mapping[str, str | None]
    count_delta: int
    byte_delta: int
    room: Room


def plan_change(current: Mapping[str, str], change: Mapping[str, str | None]) -> Plan | None:
    """Work out what a journey has to write, or None when the conversation already is as it wants it.

    Raises InvalidRequest or RequestTooLarge when it would not fit beside what is there.
    """
    after = {name: value for name, value in change.items() if current.get(name) != value}
    if not after:
        return None
    merged = _merge(current, after)
    count_delta, byte_delta = len(merged) - len(current), total_bytes(merged) - total_bytes(current)
    if count_delta > 0 and len(merged) > TOTAL_ROOM.count:
        raise InvalidRequest(f"a conversation holds at most {TOTAL_ROOM.count} attributes; delete some first")
    if byte_delta > 0 and total_bytes(merged) > TOTAL_ROOM.bytes:
        raise RequestTooLarge(
            f"a conversation's attributes have at most {TOTAL_ROOM.bytes:,} bytes together; delete some"
        )
    room = Room(TOTAL_ROOM.count - count_delta, TOTAL_ROOM.bytes - byte_delta)
    return Plan({name: current.get(name) for name in after}, after, count_delta, byte_delta, room)


def plan_client_change(
    current: Mapping[str, str],
    change: Mapping[str, str | None],
    journey_attributes: frozenset[str] = frozenset(),
    deletable: frozenset[str] = frozenset(),
) -> Plan | None:
    """Work out what a client has to write: as `plan_change`, within what clients may fill.

    Raises AttributeReserved for one of `journey_attributes`, unless it is deleted and may be.
    """
    for name, value in change.items():
        if name in journey_attributes and not (value is None and name in deletable):
            raise AttributeReserved(
                f"attribute {name} is written by a journey of this conversation; use another name"
            )
    plan = plan_change(current, change)
    if plan is None:
        return None
    before = {name: value for name, value in current.items() if name not in journey_attributes}
    of_clients = {
        name: value for name, value in _merge(current, plan.after).items() if name not in journey_attributes
    }
    count_left = CLIENT_ROOM.count - len(of_clients)
    bytes_left = CLIENT_ROOM.bytes - total_bytes(of_clients)
    # What a client deletes of a journey's own makes no room for more of the client's.
    if len(of_clients) > len(before) and count_left < 0:
        raise InvalidRequest(
            f"clients may write at most {CLIENT_ROOM.count} attributes of a conversation; delete some first"
        )
    if total_bytes(of_clients) > total_bytes(before) and bytes_left < 0:
        raise RequestTooLarge(
            f"clients may write at most {CLIENT_ROOM.bytes:,} bytes of attributes together; delete some"
        )
    # Whatever others add before the write may be a client's.
    room = Room(
        min(plan.room.count, len(current) + count_left),
        min(plan.room.bytes, total_bytes(current) + bytes_left),
    )
    return Plan(plan.before, plan.after, plan.count_delta, plan.byte_delta, room)


def _merge(current: Mapping[str, str], change: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in {**current, **change}.items() if value is not None}


def _quoted(name: str) -> str:
    return json.dumps(name if len(name) <= _QUOTED_LENGTH else f"{name[:_QUOTED_LENGTH]}…")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
