"""What is stored of a state, beside the values that its class makes of it.

A deploy may have given a field another type, and an older or newer definition may have stored more than this
one knows. Neither may be destroyed by the next commit.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, RootModel
from pydantic_core import to_json

from stepmark.core.changes import attributes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    # from the state to a value in it: the names of fields and keys, and places in lists
    type Path = tuple[str | int, ...]

UNSET = "(unset)"  # the key of which fields of models were not set, in what is stored of a state
_PLAIN = frozenset({str, int, float, bool, NoneType, bytes, datetime, date, Decimal, UUID})  # hold nothing
_NUMBER = re.compile(r"\s*[+-]?[\d_.]+([eE][+-]?\d+)?\s*")


def parts_of(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What a container or an object holds, each with its path; of sets, what is made of several parts."""
    if isinstance(value, dict):
        for place, (key, each) in enumerate(value.items()):
            yield (*path, str.__str__(key) if isinstance(key, str) else place), each
    elif isinstance(value, list | tuple | deque):
        for place, each in enumerate(value):
            yield (*path, place), each
    elif isinstance(value, set | frozenset):  # which has no places
        several = [each for each in value if isinstance(each, tuple | frozenset) or _is_object(each)]
        yield from (((*path, _json(each)), each) for each in several)
    elif _is_object(value):
        for name in attributes_of(value.__class__)[0]:
            if hasattr(value, name):
                yield (*path, name), getattr(value, name)


def objects_in(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """All models and dataclasses within a value, each with its path, those around others first."""
    found: list[tuple[Path, Any]] = []
    ahead = [(path, value)]
    while ahead:
        path, value = ahead.pop()
        while isinstance(value, RootModel):
            value = value.root
        if _is_object(value):
            found.append((path, value))
        ahead += [part for part in parts_of(value, path) if part[1].__class__ not in _PLAIN]
    return found


def _is_object(value: Any) -> bool:
    return isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type))


def _json(value: Any) -> str:
    return to_json(value, by_alias=False, round_trip=True).decode()


# -- which fields of models were set ------------------------------------------------------------------


def unset_in(values: Mapping[str, Any], own: set[str] | None) -> list[list[Any]]:
    """The fields of models that were not set, by path; own: those of the state, if it is a model itself."""
    found: list[list[Any]] = []
    if own is not None and (unset := [name for name in values if name not in own]):
        found.append([[], unset])
    for name, value in values.items():
        for path, each in objects_in(value, (name,)):
            if isinstance(each, BaseModel):
                fields, given = attributes_of(each.__class__)[0], each.model_fields_set
                if unset := [field for field in fields if field not in given]:
                    found.append([list(path), unset])
    return found


def set_again(values: Mapping[str, Any], unset: list[list[Any]]) -> set[str]:
    """Have models know again which of their fields were set; those of the state itself are returned."""
    own = set(values)
    by_path = {tuple(path): set(names) for path, names in unset}
    own -= by_path.pop((), set())
    for name in {path[0] for path in by_path}:
        for path, each in objects_in(values.get(name), (name,)):
            if path in by_path and isinstance(each, BaseModel):
                each.__pydantic_fields_set__.difference_update(by_path[path])
    return own


# -- what this definition does not know ---------------------------------------------------------------


class Hidden(NamedTuple):
    """What is stored of an object within a state, and its class does not know."""

    path: Path
    owner: Any
    values: dict[str, Any]


def hidden_in(raw: Any, value: Any, path: Path) -> Iterator[Hidden]:
    """What a stored value has that the objects made of it don't."""
    for place, each in objects_in(value, path):
        stored, known = at(raw, place[len(path) :]), attributes_of(each.__class__)[0]
        if isinstance(stored, dict):
            beyond = {name: kept for name, kept in stored.items() if name not in known}
            if beyond and not getattr(each, "__pydantic_extra__", None):
                yield Hidden(place, each, beyond)


def put_back(raw: dict[str, Any], values: Mapping[str, Any], hidden: Iterable[Hidden]) -> None:
    """Put into what is to be stored what belongs to its objects and they do not know.

    An object is known by its identity, wherever it has gone; one that has taken the place of another of its
    class in a field, as model_copy() makes them, stands for that one.
    """
    there = [found for name in values for found in objects_in(values[name], (name,))]
    owners = {id(each): path for path, each in there}
    by_path = {path: each for path, each in there if all(isinstance(step, str) for step in path)}
    for path, owner, beyond in hidden:
        place = owners.get(id(owner))
        if place is None and type(by_path.get(path)) is type(owner):
            place = path
        stored = None if place is None else at(raw, place)
        if isinstance(stored, dict):
            stored |= {name: value for name, value in beyond.items() if name not in stored}


def at(raw: Any, path: Path) -> Any:
    """The stored value at a path, or None."""
    for step in path:
        if isinstance(raw, dict):
            raw = raw.get(step) if isinstance(step, str) else next(iter(list(raw.values())[step:]), None)
        elif isinstance(raw, list) and isinstance(step, int):
            raw = raw[step] if step < len(raw) else None
        elif isinstance(raw, list):  # made a set of
            raw = next((each for each in raw if _json(each) == step), None)
        else:
            return None
    return raw


# -- what another type would make of it ---------------------------------------------------------------


def is_bent(raw: Any, value: Any) -> bool:
    """Whether a value that was made of what is stored does not say all that is stored.

    For what even a strict reading accepts: text that is a number's, and has become one, or a time.
    """
    if isinstance(value, Decimal):
        return isinstance(raw, str) and str(value) != raw
    if isinstance(value, date | time | timedelta):
        return isinstance(raw, str) and _NUMBER.fullmatch(raw) is not None
    if isinstance(value, float):
        return isinstance(raw, int) and value != raw
    if isinstance(value, set | frozenset):
        texts = {str(each) for each in value if isinstance(each, Decimal)}
        return bool(texts) and not texts <= set(map(str, raw))
    if isinstance(value, dict) and isinstance(raw, dict) and _are_keys_bent(raw, value):
        return True
    return any(is_bent(at(raw, path), each) for path, each in parts_of(value))


def _are_keys_bent(raw: dict[str, Any], value: dict[Any, Any]) -> bool:
    numbers = [str(key) for key in value if type(key) in {int, Decimal}]
    times = any(isinstance(key, date | time | timedelta) for key in value)
    return not raw.keys() >= set(numbers) or (times and any(map(_NUMBER.fullmatch, raw)))


def same(one: Any, other: Any, *, more: bool = False) -> bool:
    """Whether two values of JSON are the same; lists may have come from sets, which have no order.

    more: objects of the first may have further keys.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        keys = one.keys() >= other.keys() if more else one.keys() == other.keys()
        return keys and all(same(one[key], other[key], more=more) for key in other)
    if isinstance(one, list) and isinstance(other, list):
        if len(one) == len(other) and all(same(*each, more=more) for each in zip(one, other, strict=True)):
            return True
        return sorted(map(to_json, one)) == sorted(map(to_json, other))
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    is_alike = type(one) is type(other) or (numbers and not isinstance(one, bool) and type(other) is not bool)
    return is_alike and bool(one == other)


def holds(container: Any, value: Any) -> bool:
    """Whether a value of JSON is, or has within it, another."""
    if same(container, value):
        return True
    inside = container.values() if isinstance(container, dict) else container
    return isinstance(container, dict | list) and any(holds(each, value) for each in inside)
