"""State classes: what of them is stored, and how.

What a step leaves behind is written as JSON and read back before anything is committed, so that a workflow
which goes on in the same process sees exactly what one that was picked up elsewhere sees.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, SchemaSerializer, SchemaValidator, from_json, to_json

from stepmark.core.changes import cached_properties, change_of
from stepmark.core.fields import fields_of
from stepmark.core.schemas import has_any, validator_of, with_more_keys, without_checks
from stepmark.core.stored import (
    UNSET,
    Hidden,
    at,
    hidden_in,
    holds,
    is_bent,
    put_back,
    same,
    set_again,
    unset_in,
)
from stepmark.core.values import MAX_DEPTH, nested_too_deep, read, too_deep
from stepmark.errors import StateError, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stepmark.definition.workflow import Workflow


class Stored(NamedTuple):
    """A state as it is stored, and as it comes back.

    fields: the fields alone. beyond: what is stored under names that its class does not have. hidden: the
    same of objects within the state. new: it has a default that may be another one the next time.
    """

    text: str
    state: Workflow
    fields: str
    beyond: Mapping[str, Any] = {}
    hidden: tuple[Hidden, ...] = ()
    new: bool = False


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
        self._described = fields_of(cls)
        annotations = self._described.annotations
        self.fields = tuple(annotations)
        self._names = frozenset(annotations)
        try:
            # TypedDict's functional form takes names that are known only here
            shape = TypedDict(cls.__name__, {k: NotRequired[v] for k, v in annotations.items()})  # type: ignore[misc]
            self._adapter: TypeAdapter[Any] = TypeAdapter(shape)
        except PydanticSchemaGenerationError as error:
            raise StateError(self._unsupported(annotations, error)) from error
        schema = with_more_keys(self._adapter.core_schema)
        self._schema = schema
        self._validator, self._serializer = SchemaValidator(schema), SchemaSerializer(schema)
        self._own = issubclass(cls, BaseModel)
        self._models = self._own or has_any(schema, "model")
        self._sets = has_any(schema, "set", "frozenset")
        self._slots = any(isinstance(getattr(cls, name, None), MemberDescriptorType) for name in self.fields)
        self._cached = cached_properties(cls)

    @cached_property
    def _lenient(self) -> SchemaValidator:
        """Reads what was stored before, whatever the validators say of it now."""
        return validator_of(without_checks(self._schema))

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

    # -- writing --------------------------------------------------------------------------------------

    def dump(self, state: Workflow) -> str:
        """The fields of a state as JSON, without the check that they can be read back."""
        return self._dump(self.values(state))

    def store(self, state: Workflow, before: Stored | None = None) -> Stored:
        """The state as JSON and as it comes back; a StateError names a field that does not survive.

        before: as it was stored the last time. What the class does not know of that is kept, and values that
        were stored then are not checked by validators again.
        """
        values = self.values(state)
        text = self._dump(values)
        if text.count("[") + text.count("{") > MAX_DEPTH and too_deep(text):  # few have so many at all
            raise StateError(self._culprit(values, None))
        after = self._validated(text, before)
        for name in self.fields:
            change = change_of(values[name], after[name])
            if change is not None:
                raise StateError(f"field {name!r} of {self.cls.__qualname__} can't be stored: {change}")
        unset = unset_in(values, self._set_in(state)) if self._models else []
        made = self._make(after, unset)
        if unset and self._sets:
            self._check_unset(unset, made)
        if before is None or not (before.beyond or before.hidden):
            return Stored(_with(text, unset), made, text)
        if not before.hidden:
            return Stored(_with(text, unset, before.beyond), made, text, before.beyond)
        raw = from_json(text)
        put_back(raw, values, before.hidden)
        whole = _with(to_json(raw).decode(), unset, before.beyond)
        return Stored(whole, made, text, before.beyond, self._hidden(raw, after))

    def _hidden(self, raw: dict[str, Any], values: dict[str, Any]) -> tuple[Hidden, ...]:
        return tuple(
            each
            for name in self.fields
            if name in raw
            for each in hidden_in(raw[name], values[name], (name,))
        )

    def _set_in(self, state: Any) -> set[str] | None:
        return state.model_fields_set if self._own else None

    def _check_unset(self, unset: list[list[Any]], made: Workflow) -> None:
        """In a set, a model is found again by its text alone."""
        found = unset_in(self.values(made), self._set_in(made))
        for path, names in unset:
            if [path, names] not in found:
                where = path[0] if path else names[0]
                raise StateError(
                    f"field {where!r} of {self.cls.__qualname__} can't be stored: "
                    "it would be lost which fields of a model were set"
                )

    def _dump(self, values: dict[str, Any]) -> str:
        try:
            return self._to_json(values).decode()
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise StateError(self._culprit(values, error)) from error

    def _to_json(self, values: dict[str, Any]) -> bytes:
        return self._serializer.to_json(values, warnings="error", round_trip=True, by_alias=False)

    # -- reading --------------------------------------------------------------------------------------

    def load(self, text: str) -> Workflow:
        """The state from JSON; new fields get their defaults, fields that no longer exist are left out."""
        return self.restore(text).state

    def restore(self, text: str) -> Stored:
        """The same, and what is stored of it now: with the defaults of new fields, at every depth.

        A StateError names a field whose value the class would make another of.
        """
        values = self._validated(text, None, stored=True)
        beyond = {name: values.pop(name) for name in [*values] if name not in self._names}
        unset = _marks(beyond.pop(UNSET, []))
        missing = [name for name in self.fields if name not in values]
        for name in missing:
            values[name] = self._described.default(name)
        values = {name: values[name] for name in self.fields}
        if self._own and missing:
            unset = [mark for mark in unset if mark[0]] + [[[], [*_of_own(unset), *missing]]]
        again = self._dump(values)
        if missing:
            values = self._settled(values, missing, again)
        made = self._make(values, unset)
        if _with(again, unset, beyond) == text:
            return Stored(text, made, again, beyond)
        raw, now = read(text), from_json(again)
        self._check_bent(raw, now, values)
        hidden = self._hidden(raw, values)
        fields = again
        if hidden:
            put_back(now, values, hidden)
            again = to_json(now).decode()
        constant = self._described.constants
        new = any(not same(raw[name], now[name]) if name in raw else name not in constant for name in now)
        return Stored(_with(again, unset, beyond), made, fields, beyond, hidden, new)

    def _check_bent(self, raw: dict[str, Any], now: dict[str, Any], values: dict[str, Any]) -> None:
        for name in self.fields:
            if name in raw and not same(raw[name], now[name]) and is_bent(raw[name], values[name]):
                raise StateError(
                    f"field {name!r} of {self.cls.__qualname__} can't be restored: "
                    "its type would make another value of what is stored"
                )

    def _settled(self, values: dict[str, Any], missing: Iterable[str], text: str) -> dict[str, Any]:
        """The values with new defaults as they will come back; a StateError if these don't."""
        after = self._validated(text, None, stored=True)
        for name in missing:
            change = change_of(values[name], after[name])
            if change is not None:
                raise StateError(f"the default of field {name!r} of {self.cls.__qualname__}: {change}")
        return after

    def _validated(self, text: str, before: Stored | None, *, stored: bool = False) -> dict[str, Any]:
        """The values of JSON text: as strictly as a payload is read, unless they were stored before."""
        try:
            return _values_of(self._validator, text)
        except ValidationError as error:
            return self._validated_before(text, before, error, stored=stored)
        except Exception as error:  # a validator of the user's may raise anything
            raise self._raised(text, error) from error

    def _validated_before(
        self, text: str, before: Stored | None, error: ValidationError, *, stored: bool
    ) -> dict[str, Any]:
        faults = error.errors(include_url=False, include_input=False)
        if not all(fault["loc"] for fault in faults):  # no JSON, or an integer of thousands of digits
            raise self._unreadable(faults[0]) from error
        raw = read(text)
        wrong = {str(fault["loc"][0]) for fault in faults}
        for validator, strict in ((self._validator, False), (self._lenient, True), (self._lenient, False)):
            if validator is self._lenient and not (stored or _were_stored(faults, raw, before)):
                break
            values, now = self._if_read(validator, text, wrong, strict=strict)
            # a type that writes its values in another way than it reads them may be read less strictly
            more = validator is not self._validator
            if now and all(same(raw[name], now[name], more=more) for name in wrong):
                return values
        raise self._unreadable(faults[0]) from error

    def _if_read(
        self, validator: SchemaValidator, text: str, names: Iterable[str], *, strict: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The values, and these fields as they would be written; nothing when that fails."""
        try:
            values = _values_of(validator, text, strict=strict)
            return values, from_json(self._to_json({name: values[name] for name in names}))
        except Exception:  # noqa: BLE001 - the first error says what is wrong
            return {}, {}

    def _unreadable(self, fault: Any) -> StateError:
        name = self.cls.__qualname__
        if not fault["loc"]:
            message = f"the state of {name} can't be restored: {fault['msg']}"
            return StateError(message, brief=f"the state of {name} can't be restored")
        where = ".".join(map(str, fault["loc"]))
        message = f"field {where!r} of {name} can't be restored: {fault['msg']}"
        # the rest of the place may be a key of the data
        return StateError(message, brief=f"field {fault['loc'][0]!r} of {name} can't be restored")

    def _raised(self, text: str, error: Exception) -> StateError:
        """A function of the user's has raised, while what is stored was read."""
        brief = f"the state of {self.cls.__qualname__} can't be restored: {type(error).__name__}"
        for name, value in read(text).items():
            try:
                self._validator.validate_json(to_json({name: value}), strict=True, by_name=True)
            except ValidationError:
                continue
            except Exception:  # noqa: BLE001 - the user's function may raise anything
                return StateError(f"{brief} at field {name!r}: {text_of(error)}", brief=brief)
        return StateError(f"{brief}: {text_of(error)}", brief=brief)

    # -- states ---------------------------------------------------------------------------------------

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of what is stored."""
        return self._adapter.json_schema()

    def sample(self, blank: Callable[[Any], Any]) -> Workflow:
        """A state of every default, and of blank values of the types of fields that have none."""
        return self._make(self._described.sample(blank), [])

    def changed(self, before: str, after: str) -> str | None:
        """The name of the first field that differs between two dumps."""
        if before == after:
            return None
        old, new = from_json(before), from_json(after)
        return next((name for name in self.fields if old.get(name) != new.get(name)), None)

    def _make(self, values: dict[str, Any], unset: list[list[Any]]) -> Workflow:
        cls: Any = self.cls
        own = set_again(values, unset) if unset else None
        if self._own:
            model: Workflow = cls.model_construct(_fields_set=own, **values)
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
                if too_deep(self._to_json({name: value}).decode()):
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


def _values_of(validator: SchemaValidator, text: str, *, strict: bool = True) -> dict[str, Any]:
    values: dict[str, Any] = validator.validate_json(text, strict=strict, by_alias=False, by_name=True)
    return values


def _were_stored(faults: list[Any], raw: Any, before: Stored | None) -> bool:
    """Whether all that validators refuse was stored before, wherever it is now."""
    if before is None:
        return False
    old = from_json(before.text)
    return all(holds(old.get(fault["loc"][0]), _refused(raw, fault["loc"])) for fault in faults)


def _refused(raw: Any, place: tuple[str | int, ...]) -> Any:
    """The value at a place, or the innermost around it: a place may have more steps than what is stored."""
    found = (at(raw, place[:length]) for length in range(len(place), 1, -1))
    return next((value for value in found if value is not None), raw[place[0]])


def _with(text: str, unset: list[list[Any]], beyond: Mapping[str, Any] = {}) -> str:
    """What is stored: the fields, then what is not of the class, then which fields of models were set."""
    more = {**beyond, UNSET: unset} if unset else beyond
    if not more:
        return text
    comma = "" if text == "{}" else ","
    return f"{text[:-1]}{comma}{to_json(more).decode()[1:]}"


def _marks(stored: Any) -> list[list[Any]]:
    return stored if isinstance(stored, list) else []


def _of_own(unset: list[list[Any]]) -> list[str]:
    return next((names for path, names in unset if not path), [])


def stored_fields(text: str) -> Any:
    """What is stored of a state, as far as it is JSON, without what is kept beside its fields."""
    try:
        raw = read(text)
    except ValueError:
        return None
    if isinstance(raw, dict):
        raw.pop(UNSET, None)
    return raw
