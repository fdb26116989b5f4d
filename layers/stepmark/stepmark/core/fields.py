"""The fields of a state class: their annotations, and their defaults."""

from __future__ import annotations

import dataclasses
from copy import deepcopy
from dataclasses import MISSING, dataclass, field
from functools import partial
from inspect import get_annotations
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import BaseModel

from stepmark.core.generics import arguments_of, with_arguments
from stepmark.errors import StateError, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepmark.definition.workflow import Workflow


@dataclass(slots=True)
class Fields:
    """The annotations of all fields, and the defaults of those that have one.

    made: the fields whose default may be another one each time. from_others: those whose default is made of
    the other fields' values.
    """

    cls: type[Workflow]
    annotations: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Callable[[], Any]] = field(default_factory=dict)
    from_others: dict[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict)

    def required(self) -> dict[str, Any]:
        """The annotations of the fields without a default."""
        optional = self.constants.keys() | self.made.keys() | self.from_others.keys()
        return {name: each for name, each in self.annotations.items() if name not in optional}

    def default(self, name: str) -> Any:
        """The default of a field that has no stored value; StateError when there is none."""
        cls = self.cls.__qualname__
        begin = f"field {name!r} of {cls} has no stored value"
        if name in self.from_others:
            raise StateError(
                f"{begin}, and its default_factory takes the other fields, which have changed since the "
                "start: give it a default of its own"
            )
        if name not in self.constants and name not in self.made:
            raise StateError(f"{begin}: give it a default")
        try:
            return self._made(name, {})
        except Exception as error:
            brief = f"{begin}, and its default raised {type(error).__name__}"
            raise StateError(f"{brief}: {text_of(error)}", brief=brief) from error

    def sample(self, blank: Callable[[Any], Any]) -> dict[str, Any]:
        """The defaults of all fields, as for a new object; a blank value of its type where there is none."""
        found: dict[str, Any] = {}
        required = self.required()
        for name, annotation in self.annotations.items():
            if name in required:
                found[name] = blank(annotation)
                continue
            try:
                found[name] = self._made(name, found)
            except Exception:  # noqa: BLE001 - a function of the user's, which may need what is not here
                found[name] = blank(annotation)
        return found

    def _made(self, name: str, others: dict[str, Any]) -> Any:
        if name in self.constants:
            return deepcopy(self.constants[name])
        return self.made[name]() if name in self.made else self.from_others[name](dict(others))


def fields_of(cls: type[Workflow]) -> Fields:
    """The fields of a dataclass or a pydantic model; StateError when it is neither, or can't be stored."""
    return _of_model(cls) if issubclass(cls, BaseModel) else _of_dataclass(cls)


def _of_dataclass(cls: type[Workflow]) -> Fields:
    if "__dataclass_params__" not in cls.__dict__:
        raise StateError(
            f"{cls.__qualname__} must be a dataclass or a pydantic model: put @dataclass above it"
        )
    found = Fields(cls)
    hints = _hints(cls)
    for each in dataclasses.fields(cls):  # type: ignore[arg-type] # it is one: checked above
        found.annotations[each.name] = hints[each.name]
        if each.default_factory is not MISSING:
            found.made[each.name] = each.default_factory
        elif each.default is not MISSING:
            found.constants[each.name] = each.default
    return found


def _hints(cls: type[Workflow]) -> dict[str, Any]:
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise StateError(f"an annotation of {cls.__qualname__} can't be resolved: {error}") from error
    given = arguments_of(cls)
    for name, hint in hints.items():
        owner = next(base for base in cls.__mro__ if name in get_annotations(base))
        hints[name] = with_arguments(hint, given.get(owner, {}))
    return hints


def _of_model(cls: type[BaseModel]) -> Fields:
    if cls.__private_attributes__:
        name = next(iter(cls.__private_attributes__))
        raise StateError(
            f"{name!r} of {cls.__qualname__} is a private attribute, which is not stored: "
            "declare a field, or a cached_property for what can be made again"
        )
    if cls.model_config.get("extra") == "allow":
        raise StateError(f"{cls.__qualname__} allows extra fields, which would not be stored: declare them")
    found = Fields(cls)  # type: ignore[arg-type] # it is a Workflow too
    for name, each in cls.model_fields.items():
        annotation: Any = each.annotation
        for metadata in each.metadata:
            annotation = Annotated[annotation, metadata]
        found.annotations[name] = annotation
        if each.default_factory is None:
            if not each.is_required():
                found.constants[name] = each.default
        elif each.default_factory_takes_validated_data:
            found.from_others[name] = partial(_made_of_others, each)
        else:
            found.made[name] = partial(each.get_default, call_default_factory=True)
    return found


def _made_of_others(described: Any, others: dict[str, Any]) -> Any:
    return described.get_default(call_default_factory=True, validated_data=others)
