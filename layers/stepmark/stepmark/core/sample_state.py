"""A state that nobody has given: every default, and the same blank value each time for what has none."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from inspect import isclass
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NewType,
    NotRequired,
    Required,
    TypeAliasType,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

from pydantic import BaseModel
from typing_extensions import ReadOnly  # noqa: UP035 - it came with Python 3.13

from stepmark.core.state import codec_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepmark.definition.workflow import Workflow

_FIXED: dict[Any, object] = {
    date: date(2000, 1, 1),
    datetime: datetime(2000, 1, 1, tzinfo=UTC),
    time: time(),
    Decimal: Decimal(0),
    UUID: UUID(int=0),
}


def sample_state(cls: type[Workflow]) -> Workflow:
    """A state with every default; fields without one get their type's blank value.

    That is the empty or the first one, an object of blank values, 1 January 2000, or None where the type
    allows that or nothing else is known.
    """
    return codec_of(cls).sample(lambda annotation: _blank(annotation, ()))


def _blank(annotation: Any, inside: tuple[Any, ...]) -> Any:
    """The blank value of a type; `inside` holds the classes around it, which may not come again."""
    annotation = _meant(annotation)
    origin, options = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return options[0]
    if origin is tuple and Ellipsis not in options:
        return tuple(_blank(option, inside) for option in options)
    cls = origin or annotation
    return _blank_of_class(cls, inside) if isclass(cls) and cls not in inside else None


def _meant(annotation: Any) -> Any:
    """What an alias stands for, what is annotated, and the type to choose of a union."""
    options = get_args(annotation)
    if isinstance(annotation, TypeAliasType):
        return _meant(annotation.__value__)
    if isinstance(annotation, NewType):
        return _meant(annotation.__supertype__)
    if get_origin(annotation) in {Union, UnionType}:
        return NoneType if NoneType in options else _meant(options[0])
    if get_origin(annotation) in {Annotated, Required, NotRequired, ReadOnly}:
        return _meant(options[0])
    return annotation


def _blank_of_class(cls: Any, inside: tuple[Any, ...]) -> Any:
    around = (*inside, cls)
    value: Any = None
    if cls in _FIXED:
        value = _FIXED[cls]
    elif issubclass(cls, Enum):
        value = next(iter(cls), None)
    elif issubclass(cls, BaseModel):
        required = {name: field.annotation for name, field in cls.model_fields.items() if field.is_required()}
        value = cls.model_construct(**{name: _blank(each, around) for name, each in required.items()})
    elif dataclasses.is_dataclass(cls):
        value = _blank_dataclass(cls, around)
    elif is_typeddict(cls):
        value = _blanks(cls, cls.__required_keys__, around)
    elif hasattr(cls, "_fields"):  # a NamedTuple
        value = cls(**_blanks(cls, cls._fields, around))
    else:
        with suppress(Exception):  # no value without arguments: the definition may not need one
            value = cls()
    return value


def _blank_dataclass(cls: Any, around: tuple[Any, ...]) -> Any:
    """Without its __init__ and __post_init__: they may want more than blank values."""
    made = object.__new__(cls)
    fields = dataclasses.fields(cls)
    blanks = _blanks(cls, [each.name for each in fields], around)
    for field in fields:
        value = blanks[field.name]
        if field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        object.__setattr__(made, field.name, value)
    return made


def _blanks(cls: Any, names: Iterable[str], around: tuple[Any, ...]) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: _blank(hints.get(name), around) for name in names}
