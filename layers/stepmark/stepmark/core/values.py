"""What may enter a record: a value that JSON can hold, and that every reader can read again.

A value is accepted alone, and stored inside something deeper: an output within the list of outputs within the
progress, a payload's part within a list of the state. So what is accepted here keeps away from what the
parsers end at, and all that was accepted can be read wherever it is shown.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

# Levels of arrays and objects. The parser ends at 200 levels and a record adds 5 of its own; code that looks
# at each level of a value with functions of Python has 1,000 frames, and takes up to 4 for one.
MAX_DEPTH = 100

_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NO_NUMBERS = (b"NaN", b"Infinity")


def encode(value: object, what: str, error: Callable[[str], Exception]) -> str:
    """A value as JSON text, or that error saying what can't be stored."""
    return _checked(value, what, error)[0]


def settle(value: object, what: str, error: Callable[[str], Exception]) -> Any:
    """A value as JSON holds it, or that error saying what can't be stored."""
    return _checked(value, what, error)[1]


def _checked(value: object, what: str, error: Callable[[str], Exception]) -> tuple[str, Any]:
    try:
        text = to_json(value, inf_nan_mode="constants").decode()
        if not too_deep(text):
            bare = _without_strings(text)
            if any(name in bare for name in _NO_NUMBERS):
                raise error(f"{what} can't be stored as JSON: it holds a number that is not finite")
            return text, from_json(text)  # which refuses integers of thousands of digits
    except (ValueError, RecursionError) as problem:
        if not nested_too_deep(value):
            raise error(f"{what} can't be stored as JSON: {problem}") from problem
    raise error(f"{what} can't be stored as JSON: it is nested more than {MAX_DEPTH} levels deep")


def too_deep(text: str) -> bool:
    """Whether valid JSON text has more than MAX_DEPTH levels of arrays and objects."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    brackets = _without_strings(text).translate(_AS_ARRAYS, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):  # each round takes the innermost away
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


def nested_too_deep(value: object) -> bool:
    """Whether a value, which need not fit into JSON, has more than MAX_DEPTH levels of containers."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        inside: dict[int, Any] = {}  # by identity: a container that holds another twice is walked once
        for each in level:
            held = each.values() if isinstance(each, dict) else each
            if isinstance(each, dict | list | tuple | set | frozenset):
                inside |= {id(one): one for one in held}
        if not inside:
            return False
        level = list(inside.values())
    return True


def _without_strings(text: str) -> bytes:
    plain = text.replace("\\\\", "").replace('\\"', "") if "\\" in text else text
    return b"".join(plain.encode().split(b'"')[::2])


def read(text: str) -> Any:
    """Stored JSON; also what earlier releases stored deeper than they could read it. Raises ValueError."""
    try:
        return from_json(text)
    except ValueError:
        try:
            return json.loads(text)
        except RecursionError as error:
            raise ValueError(str(error)) from error


def read_or_none(text: str) -> Any:
    """The same, or None for what is no JSON."""
    try:
        return read(text)
    except ValueError:
        return None
