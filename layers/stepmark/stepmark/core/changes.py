"""What is not as it was in a value that came back from JSON; to be equal is not enough."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import MISSING, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property, lru_cache
from types import NoneType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

# equal values of one of these types are the same
_PLAIN = frozenset({str, int, float, bool, NoneType, bytes, date, timedelta, UUID})
_UTC = timedelta()
_OTHER = "it comes back changed: annotate it with what it holds"


def change_of(before: Any, after: Any) -> str | None:
    """What is not as it was, or None."""
    kind = type(before)
    if kind is type(after):
        found = before != after if kind in _PLAIN else _change_within(before, after)
        return _OTHER if found is True else found or None
    if isinstance(before, datetime | time) and isinstance(after, datetime | time):  # tests make subclasses
        return _change_of_time(before, after)
    if kind is int and type(after) is float and before == after:
        return None
    return f"a {kind.__name__} comes back as a {type(after).__name__}: annotate it with what it holds"


def _change_within(before: Any, after: Any) -> str | bool | None:
    """What has changed, or True for something, in two values of one type."""
    if isinstance(before, BaseModel) or is_dataclass(before):
        return _change_of_fields(before, after)
    if isinstance(before, datetime | time):
        return _change_of_time(before, after)
    if isinstance(before, dict):
        return _change_of_dict(before, after)
    if isinstance(before, deque | list | tuple):
        return _first_change(before, after)
    if isinstance(before, set | frozenset):
        return _change_of_set(before, after)
    if isinstance(before, Decimal):  # 1.0 is equal to 1.00
        before, after = before.as_tuple(), after.as_tuple()
    return bool(before != after)


def _change_of_dict(before: Any, after: Any) -> str | bool | None:
    if isinstance(before, defaultdict) and before.default_factory is not after.default_factory:
        return "its default_factory would be lost: annotate it with the type that makes its defaults"
    if len(before) != len(after) or before.keys() != after.keys():
        return True
    if isinstance(before, OrderedDict | Counter) and list(before) != list(after):
        return True
    if not _all_plain(before, after):
        keys = {key: key for key in after}
        change = next((found for key in before if (found := change_of(key, keys[key])) is not None), None)
        if change is not None:
            return change
    # a TypedDict comes back in its own order
    return _first_change(list(before.values()), [after[key] for key in before])


def _change_of_set(before: AbstractSet[Any], after: AbstractSet[Any]) -> str | bool | None:
    if before != after:
        return True
    if _all_plain(before, after):
        return None
    theirs = {each: each for each in after}
    return next((found for each in before if (found := change_of(each, theirs[each])) is not None), None)


def _first_change(before: Sequence[Any], after: Sequence[Any]) -> str | None:
    if isinstance(before, deque) and before.maxlen != getattr(after, "maxlen", None):
        return f"its maxlen={before.maxlen} would be lost: use a list, and keep the length in a field"
    if _all_plain(before, after):
        return None if before == after else _OTHER
    if len(before) != len(after):
        return _OTHER
    return next((change for change in map(change_of, before, after) if change is not None), None)


def _all_plain(before: Iterable[Any], after: Iterable[Any]) -> bool:
    """Whether a comparison of all at once will do; long lists are mostly such."""
    kinds = set(map(type, before))
    return len(kinds) <= 1 and kinds <= _PLAIN and kinds == set(map(type, after))


def _change_of_fields(before: Any, after: Any) -> str | None:
    private = "__pydantic_private__"
    if getattr(before, private, None) != getattr(after, private, None):
        return "its private attributes would be lost"
    extra = "__pydantic_extra__"
    if change_of(getattr(before, extra, None), getattr(after, extra, None)) is not None:
        return "what it holds beyond its fields comes back changed"
    own, other = getattr(before, "__dict__", {}), getattr(after, "__dict__", {})
    if own and own == other:  # of fields of plain types alone: no look at each
        kinds = list(map(type, own.values()))
        if _PLAIN.issuperset(kinds) and kinds == list(map(type, other.values())):
            return None
    names, caches = attributes_of(before.__class__)
    for name in own:
        if name not in names and name not in caches:
            return f"its {name!r} is no field, and would be lost"
    for name in names:
        change = change_of(getattr(before, name, MISSING), getattr(after, name, MISSING))
        if change is not None:
            described = getattr(before, "__dataclass_fields__", {}).get(name)
            not_taken = described is not None and not described.init
            return f"its {name!r}: {'a field with init=False is not stored' if not_taken else change}"
    return None


@lru_cache(maxsize=1024)
def attributes_of(cls: Any) -> tuple[Mapping[str, None], frozenset[str]]:
    """The names of a nested class's fields, in order, and those under which it caches properties."""
    names = (
        cls.model_fields if issubclass(cls, BaseModel) else [each.name for each in dataclasses.fields(cls)]
    )
    return dict.fromkeys(names), cached_properties(cls)


def cached_properties(cls: type) -> frozenset[str]:
    """The names under which a class caches properties."""
    return frozenset(
        name
        for base in cls.__mro__
        for name, value in vars(base).items()
        if isinstance(value, cached_property)
    )


def _change_of_time(before: datetime | time, after: datetime | time) -> str | None:
    zone = before.tzinfo
    offset = None if zone is None else zone.utcoffset(None)
    is_named = isinstance(zone, timezone) and zone.tzname(None) != timezone(offset or _UTC).tzname(None)
    if zone is not None and (offset is None or is_named):
        return (
            f"of the time zone {zone} only the offset would come back: "
            "store the time in UTC, and the zone in a field of its own"
        )
    if before != after or before.fold != after.fold or (zone is None) != (after.tzinfo is None):
        return _OTHER
    return None
