"""State classes: what of them is stored, and how.

What a step leaves behind is written as JSON and read back before anything is committed, so that a workflow
which goes on in the same process sees exactly what one that was picked up elsewhere sees.
"""

from __future__ import annotations

import dataclasses
from copy import deepcopy
from dataclasses import MISSING, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache, partial
from types import MemberDescriptorType, NoneType
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict, get_type_hints
from uuid import UUID

from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json

from stepmark.core.values import MAX_DEPTH, nested_too_deep, too_deep
from stepmark.errors import StateError, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stepmark.definition.workflow import Workflow


class Codec:
    """Stores and restores the fields of one state class.

        codec = codec_of(Approval)
        text = codec.dump(Approval(user="x"))
        same = codec.load(text)

    Values are kept when they come back from JSON as they were, of the same types; a value that would not is a
    StateError naming the field. Only an int in a field of floats may become a float.
    """

    def __init__(self, cls: type[Workflow]) -> None:
        self.cls = cls
        self._required: tuple[str, ...] = ()
        self._defaults: dict[str, Callable[[], Any]] = {}
        annotations = self._model_fields(cls) if issubclass(cls, BaseModel) else self._dataclass_fields(cls)
        self.fields = tuple(annotations)
        self._names = frozenset(annotations)
        self._annotations = annotations
        try:
            # TypedDict's functional form takes names that are known only here
            shape = TypedDict(cls.__name__, {k: NotRequired[v] for k, v in annotations.items()})  # type: ignore[misc]
            self._adapter: TypeAdapter[Any] = TypeAdapter(shape)
        except PydanticSchemaGenerationError as error:
            raise StateError(self._unsupported(annotations, error)) from error
        self._slots = any(isinstance(getattr(cls, name, None), MemberDescriptorType) for name in self.fields)
        self._cached = _cached_properties(cls)

    def _dataclass_fields(self, cls: type[Workflow]) -> dict[str, Any]:
        if "__dataclass_params__" not in cls.__dict__:
            raise StateError(
                f"{cls.__qualname__} must be a dataclass or a pydantic model: put @dataclass above it"
            )
        hints = self._hints(cls)
        fields = dataclasses.fields(cls)  # type: ignore[arg-type] # it is one: checked above
        for field in fields:
            if field.default_factory is not MISSING:
                self._defaults[field.name] = field.default_factory
            elif field.default is not MISSING:
                self._defaults[field.name] = partial(deepcopy, field.default)
        names = [field.name for field in fields]
        self._required = tuple(name for name in names if name not in self._defaults)
        return {name: hints[name] for name in names}

    def _model_fields(self, cls: type[BaseModel]) -> dict[str, Any]:
        if cls.__private_attributes__:
            name = next(iter(cls.__private_attributes__))
            raise StateError(
                f"{name!r} of {cls.__qualname__} is a private attribute, which is not stored: "
                "declare a field, or a cached_property for what can be made again"
            )
        if cls.model_config.get("extra") == "allow":
            raise StateError(
                f"{cls.__qualname__} allows extra fields, which would not be stored: declare them"
            )
        annotations: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            annotation: Any = field.annotation
            for metadata in field.metadata:
                annotation = Annotated[annotation, metadata]
            annotations[name] = annotation
            if field.default_factory is not None:
                self._defaults[name] = partial(
                    field.get_default, call_default_factory=True, validated_data={}
                )
            elif not field.is_required():
                self._defaults[name] = partial(deepcopy, field.default)
        self._required = tuple(name for name in annotations if name not in self._defaults)
        return annotations

    def _hints(self, cls: type[Workflow]) -> dict[str, Any]:
        try:
            return get_type_hints(cls, include_extras=True)
        except NameError as error:
            raise StateError(f"an annotation of {cls.__qualname__} can't be resolved: {error}") from error

    def _unsupported(self, annotations: dict[str, Any], error: Exception) -> str:
        for name, annotation in annotations.items():
            try:
                TypeAdapter(annotation)
            except PydanticSchemaGenerationError:
                return (
                    f"field {name!r} of {self.cls.__qualname__} can't be stored: its type is {annotation!r}"
                )
        return f"{self.cls.__qualname__} can't be stored: {error}"

    def values(self, state: Workflow) -> dict[str, Any]:
        """The fields of a state, as they are."""
        own: dict[str, Any] | None = getattr(state, "__dict__", None)
        if own is not None and own.keys() == self._names:
            return own
        for name in own or ():
            if name not in self._names and name not in self._cached:
                raise StateError(
                    f"{name!r} is no field of {self.cls.__qualname__}: declare it, or it would be lost"
                )
        try:
            return {name: getattr(state, name) for name in self.fields}
        except AttributeError as error:
            raise StateError(f"field {error.name!r} of {self.cls.__qualname__} has no value") from error

    def dump(self, state: Workflow) -> str:
        """The state as JSON, without the check that it can be read back."""
        return self._dump(self.values(state))

    def load(self, text: str) -> Workflow:
        """The state from JSON; new fields get their defaults, fields that no longer exist are left out."""
        return self._make(self._load(text))

    def store(self, state: Workflow) -> tuple[str, Workflow]:
        """The state as JSON and as it comes back; a StateError names a field that does not survive."""
        before = self.values(state)
        text = self._dump(before)
        if text.count("[") + text.count("{") > MAX_DEPTH and too_deep(text):  # few have so many at all
            raise StateError(self._culprit(before, None))
        after = self._load(text)
        for name in self.fields:
            change = _change(before[name], after[name])
            if change is not None:
                raise StateError(f"field {name!r} of {self.cls.__qualname__} can't be stored: {change}")
        return text, self._make(after)

    def _dump(self, values: dict[str, Any]) -> str:
        try:
            return self._adapter.dump_json(values, warnings="error", round_trip=True).decode()
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise StateError(self._culprit(values, error)) from error

    def _load(self, text: str) -> dict[str, Any]:
        try:
            values: dict[str, Any] = self._adapter.validate_json(text, by_alias=False, by_name=True)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            name = self.cls.__qualname__
            if not fault["loc"]:  # it is no JSON, or has an integer of thousands of digits
                message = f"the state of {name} can't be restored: {fault['msg']}"
                raise StateError(message, brief=f"the state of {name} can't be restored") from error
            where = ".".join(map(str, fault["loc"]))
            message = f"field {where!r} of {name} can't be restored: {fault['msg']}"
            # the rest of the place may be a key of the data
            raise StateError(
                message, brief=f"field {fault['loc'][0]!r} of {name} can't be restored"
            ) from error
        except Exception as error:  # a validator of the user's may raise anything
            brief = f"the state of {self.cls.__qualname__} can't be restored: {type(error).__name__}"
            raise StateError(f"{brief}: {text_of(error)}", brief=brief) from error
        if len(values) != len(self.fields):
            for name, default in self._defaults.items():
                if name not in values:
                    values[name] = default()
            for name in self._required:
                if name not in values:
                    raise StateError(
                        f"field {name!r} of {self.cls.__qualname__} has no stored value: give it a default"
                    )
        return values

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of what is stored."""
        return self._adapter.json_schema()

    def required(self) -> dict[str, Any]:
        """The annotations of the fields without a default."""
        return {name: self._annotations[name] for name in self._required}

    def fill(self, values: dict[str, Any]) -> Workflow:
        """A state of these values, and the defaults of all other fields."""
        defaults = {name: default() for name, default in self._defaults.items()}
        return self._make(defaults | values)

    def changed(self, before: str, after: str) -> str | None:
        """The name of the first field that differs between two dumps."""
        if before == after:
            return None
        old, new = from_json(before), from_json(after)
        return next((name for name in self.fields if old.get(name) != new.get(name)), None)

    def _make(self, values: dict[str, Any]) -> Workflow:
        cls: Any = self.cls
        if issubclass(cls, BaseModel):
            model: Workflow = cls.model_construct(**values)
            return model
        state: Workflow = object.__new__(cls)
        if self._slots:
            for name, value in values.items():
                object.__setattr__(state, name, value)
        else:
            state.__dict__.update(values)
        return state

    def _culprit(self, values: dict[str, Any], error: Exception | None) -> str:
        for name, value in values.items():
            reason = None
            try:
                text = self._adapter.dump_json({name: value}, warnings="error", round_trip=True).decode()
                if too_deep(text):
                    reason = _TOO_DEEP
            except (PydanticSerializationError, ValueError, RecursionError):
                reason = f"it holds a {type(value).__name__} that does not fit its annotation"
                if isinstance(value, bytes):
                    reason = "its bytes are no UTF-8: annotate it with pydantic.Base64Bytes"
                elif nested_too_deep(value):
                    reason = _TOO_DEEP
            if reason is not None:
                return f"field {name!r} of {self.cls.__qualname__} can't be stored: {reason}"
        return f"the state of {self.cls.__qualname__} can't be stored: {error}"


_TOO_DEEP = f"with it, the state is nested more than {MAX_DEPTH} levels deep"


@lru_cache(maxsize=1024)
def codec_of(cls: type[Workflow]) -> Codec:
    """The codec of a state class, made once."""
    return Codec(cls)


# equal values of one of these types are the same
_PLAIN = frozenset({str, int, float, bool, NoneType, bytes, Decimal, date, timedelta, UUID})
_OTHER = "it comes back changed: annotate it with what it holds"


def _change(before: Any, after: Any) -> str | None:
    """What is not as it was in a value that came back from JSON, or None; to be equal is not enough."""
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
    match before:
        case _ if is_dataclass(before):
            return _change_of_fields(before, after)
        case datetime() | time():
            return _change_of_time(before, after)
        case dict():  # a TypedDict comes back in its own order
            same_keys = before.keys() == after.keys() and set(map(type, before)) == set(map(type, after))
            return not same_keys or _first_change(list(before.values()), [after[key] for key in before])
        case list() | tuple():
            return _first_change(before, after)
        case BaseModel():
            return _change_of_fields(before, after)
        case _:
            return bool(before != after)


def _first_change(before: Sequence[Any], after: Sequence[Any]) -> str | None:
    if _all_plain(before, after):
        return None if before == after else _OTHER
    if len(before) != len(after):
        return _OTHER
    return next((change for change in map(_change, before, after) if change is not None), None)


def _all_plain(before: Iterable[Any], after: Iterable[Any]) -> bool:
    """Whether a comparison of all at once will do; long lists are mostly such."""
    kinds = set(map(type, before))
    return len(kinds) <= 1 and kinds <= _PLAIN and kinds == set(map(type, after))


def _change_of_fields(before: Any, after: Any) -> str | None:
    private = "__pydantic_private__"
    if getattr(before, private, None) != getattr(after, private, None):
        return "its private attributes would be lost"
    extra = "__pydantic_extra__"
    if _change(getattr(before, extra, None), getattr(after, extra, None)) is not None:
        return "what it holds beyond its fields comes back changed"
    own, other = getattr(before, "__dict__", {}), getattr(after, "__dict__", {})
    if own and own == other:  # of fields of plain types alone: no look at each
        kinds = list(map(type, own.values()))
        if _PLAIN.issuperset(kinds) and kinds == list(map(type, other.values())):
            return None
    names, caches = _attributes(before.__class__)
    for name in own:
        if name not in names and name not in caches:
            return f"its {name!r} is no field, and would be lost"
    for name in names:
        change = _change(getattr(before, name, MISSING), getattr(after, name, MISSING))
        if change is not None:
            described = getattr(before, "__dataclass_fields__", {}).get(name)
            not_taken = described is not None and not described.init
            return f"its {name!r}: {'a field with init=False is not stored' if not_taken else change}"
    return None


@lru_cache(maxsize=1024)
def _attributes(cls: Any) -> tuple[dict[str, None], frozenset[str]]:
    """The names of a nested class's fields, in order, and those under which it caches properties."""
    names = (
        cls.model_fields if issubclass(cls, BaseModel) else [each.name for each in dataclasses.fields(cls)]
    )
    return dict.fromkeys(names), _cached_properties(cls)


def _cached_properties(cls: type) -> frozenset[str]:
    return frozenset(
        name
        for base in cls.__mro__
        for name, value in vars(base).items()
        if isinstance(value, cached_property)
    )


def _change_of_time(before: datetime | time, after: datetime | time) -> str | None:
    zone = before.tzinfo
    if zone is not None and zone.utcoffset(None) is None:
        return (
            f"of the time zone {zone} only the offset would come back: "
            "store the time in UTC, and the zone in a field of its own"
        )
    if before != after or before.fold != after.fold or (zone is None) != (after.tzinfo is None):
        return _OTHER
    return None
