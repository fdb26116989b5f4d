"""State classes: what of them is stored, and how.

What a step leaves behind is written as JSON and read back before anything is committed, so that a workflow
which goes on in the same process sees exactly what one that was picked up elsewhere sees.
"""

from __future__ import annotations

import dataclasses
from copy import deepcopy
from dataclasses import MISSING, is_dataclass
from functools import cached_property, lru_cache, partial
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, get_type_hints

from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json
from typing_extensions import TypedDict

from stepmark.errors import StateError, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepmark.workflow import Workflow


class Codec:
    """Stores and restores the fields of one state class.

        codec = codec_of(Approval)
        text = codec.dump(Approval(user="x"))
        same = codec.load(text)

    Values are kept when they come back equal from JSON; a value that would not is a StateError naming the
    field.
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
        self._cached = frozenset(
            name
            for base in cls.__mro__
            for name, value in vars(base).items()
            if isinstance(value, cached_property)
        )

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
        after = self._load(text)
        if before != after:
            for name in self.fields:
                if not _survived(before[name], after[name]):
                    raise StateError(
                        f"field {name!r} of {self.cls.__qualname__} can't be stored: it comes back changed; "
                        f"annotate it with what it holds, a {type(before[name]).__name__}"
                    )
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
            where = ".".join(map(str, fault["loc"]))
            raise StateError(
                f"field {where!r} of {self.cls.__qualname__} can't be restored: {fault['msg']}"
            ) from error
        except Exception as error:  # a validator of the user's may raise anything
            reason = f"{type(error).__name__}: {text_of(error)}"
            raise StateError(f"the state of {self.cls.__qualname__} can't be restored: {reason}") from error
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

    def _culprit(self, values: dict[str, Any], error: Exception) -> str:
        for name, value in values.items():
            try:
                self._adapter.dump_json({name: value}, warnings="error", round_trip=True)
            except (PydanticSerializationError, ValueError, RecursionError):
                return (
                    f"field {name!r} of {self.cls.__qualname__} can't be stored: "
                    f"it holds a {type(value).__name__} that does not fit its annotation"
                )
        return f"the state of {self.cls.__qualname__} can't be stored: {error}"


@lru_cache(maxsize=1024)
def codec_of(cls: type[Workflow]) -> Codec:
    """The codec of a state class, made once."""
    return Codec(cls)


def _survived(before: Any, after: Any) -> bool:
    """Whether a value came back from JSON as it was, classes without __eq__ included."""
    if type(before) is not type(after):
        return False
    if before == after:
        return True
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(_survived(before[key], after[key]) for key in before)
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(_survived, before, after))
    if is_dataclass(before) and not isinstance(before, type):
        names = [field.name for field in dataclasses.fields(before)]
        return all(_survived(getattr(before, name), getattr(after, name)) for name in names)
    return False
