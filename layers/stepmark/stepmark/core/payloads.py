"""The payload that a handler takes, by its annotation."""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import lru_cache, partial
from itertools import takewhile
from types import FunctionType, MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from stepmark.core.generics import arguments_of, with_arguments
from stepmark.core.schemas import validator_of, with_all_names
from stepmark.definition.handlers import Handler, Timeout
from stepmark.definition.retry import Retry
from stepmark.errors import DefinitionError, PayloadRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import SchemaValidator


class Wanted(NamedTuple):
    """The payload that a handler takes. annotation: Any when it has none. optional: it has a default."""

    annotation: Any
    optional: bool = False


class Decoded(NamedTuple):
    """A payload as handlers that want it so take it: one value, or none. wanted: None when they take none."""

    wanted: Wanted | None
    values: tuple[Any, ...]


def payload_of(handler: object) -> Wanted | None:
    """What a handler (of On) wants as its payload, or None when it takes none."""
    if type(handler) is MethodType and not getattr(handler.__func__, "__closure__", None):  # most are
        method = handler.__func__
        return _in_class(_parameter(method, 1, frozenset()), method, type(handler.__self__))
    if handler is None or isinstance(handler, Timeout):
        return None
    if isinstance(handler, Handler):
        return _handled_by(type(handler))
    function, given, named = handler, 0, frozenset[str]()
    while isinstance(function, partial):
        given, named, function = given + len(function.args), named | set(function.keywords), function.func
    if not isinstance(function, FunctionType | MethodType) and isinstance(
        getattr(type(function), "__call__", None),  # noqa: B004 - the method is wanted
        FunctionType,
    ):
        function = MethodType(type(function).__call__, function)
    owner: type = object
    if isinstance(function, MethodType):
        given, owner, function = given + 1, type(function.__self__), function.__func__
    # a closure is made anew with every tree, and holds a state: to keep it would fill the memory
    find = _parameter.__wrapped__ if getattr(function, "__closure__", None) else _parameter
    return _in_class(find(function, given, named), function, owner)


@lru_cache(maxsize=4096)
def _handled_by(cls: type[Handler]) -> Wanted:
    found = _parameter.__wrapped__(cls.handle, 2, frozenset())
    if found is None:
        raise DefinitionError(f"{cls.__qualname__}.handle must take a request and a payload")
    return _in_class(found, cls.handle, cls) or found


def _in_class(wanted: Wanted | None, function: Any, cls: type) -> Wanted | None:
    """The same, where the method is one of a generic base: with what its type parameters stand for."""
    annotation: Any = None if wanted is None else wanted.annotation
    if wanted is None or not (isinstance(annotation, TypeVar) or getattr(annotation, "__parameters__", None)):
        return wanted
    return _with_arguments(wanted, function, cls)


@lru_cache(maxsize=4096)
def _with_arguments(wanted: Wanted, function: Callable[..., object], cls: type) -> Wanted:
    owner = next((base for base in cls.__mro__ if vars(base).get(function.__name__) is function), cls)
    return wanted._replace(annotation=with_arguments(wanted.annotation, arguments_of(cls).get(owner, {})))


@lru_cache(maxsize=4096)
def _parameter(function: Callable[..., object], given: int, named: frozenset[str]) -> Wanted | None:
    """The parameter after the first `given`, if a partial does not give it by name."""
    name = getattr(function, "__qualname__", repr(function))
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return Wanted(Any)
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    rest = [p for p in parameters if p.kind is p.VAR_POSITIONAL]
    parameters = [p for p in parameters if p.kind in positional][given:]
    parameters = list(takewhile(lambda p: p.name not in named, parameters)) + rest
    if not parameters:
        return None
    if sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters) > 1:
        raise DefinitionError(f"{name} must take one payload, not {len(parameters)} parameters")
    optional = parameters[0].default is not inspect.Parameter.empty
    annotation = parameters[0].annotation
    if annotation is inspect.Parameter.empty:
        return Wanted(Any, optional)
    if not isinstance(annotation, str):
        return Wanted(annotation, optional)
    # alone: names in the other annotations may be imported for type checkers only
    alone: Any = SimpleNamespace(
        __annotations__={"payload": annotation}, __type_params__=getattr(function, "__type_params__", ())
    )
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return Wanted(get_type_hints(alone, names, include_extras=True)["payload"], optional)
    except (NameError, TypeError, SyntaxError) as error:
        raise DefinitionError(f"the annotation of {name}'s payload can't be resolved: {error}") from error


# the kinds of fault that quote the exception of a validator, or of an object that was validated
_QUOTES = frozenset(
    {"value_error", "assertion_error", "get_attribute_error", "iteration_error", "mapping_type"}
)


@lru_cache(maxsize=4096)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except PydanticUserError as error:
        raise DefinitionError(f"a payload can't be checked against {annotation!r}: {error}") from error


def _as_written(annotation: Any, payload: str) -> Any:
    """The same by each name that a field is written by: its alias for that, or its own name."""
    return _reader(annotation).validate_json(payload, strict=True, by_alias=True, by_name=True)


@lru_cache(maxsize=4096)
def _reader(annotation: Any) -> SchemaValidator:
    return validator_of(with_all_names(_adapter(annotation).core_schema))


def check_handler(handler: object, event: str) -> None:
    """Raise DefinitionError when it can't be an event's handler, or its annotation is of no use."""
    if handler is None or isinstance(handler, Timeout):
        return
    if type(handler) is not MethodType:
        _check_kind(handler, event)
    wanted = payload_of(handler)
    if wanted is not None:
        _adapter(wanted.annotation)


def _check_kind(handler: object, event: str) -> None:
    a_class = isinstance(handler, type) and issubclass(handler, Handler | Timeout)
    if a_class or not (callable(handler) or isinstance(handler, Handler)):
        raise DefinitionError(f"event {event!r}: its handler must be a callable, a Handler or a Timeout")
    if isinstance(handler, Handler) and not (handler.retry is None or isinstance(handler.retry, Retry)):
        raise DefinitionError(f"event {event!r}: its handler's retry must be a Retry")


def decode_payload(handler: object, payload: str, event: str) -> Decoded:
    """The payload as the handler's annotation wants it; nothing when its parameter is to be left out.

    JSON's own strictness applies: the string "5" is no int, but "2026-11-21" is a date.
    """
    wanted = payload_of(handler)
    if wanted is None:
        if payload not in {"null", "{}"}:  # many HTTP clients can't send nothing
            message = f"event {event!r} takes no payload"
            raise PayloadRefused(message, brief=message)
        return Decoded(None, ())
    if wanted.optional and payload == "null":
        return Decoded(wanted, ())
    try:
        return Decoded(wanted, (_adapter(wanted.annotation).validate_json(payload, strict=True),))
    except ValidationError as error:
        with suppress(ValidationError):  # what an object of that type is written as is read as one
            return Decoded(wanted, (_as_written(wanted.annotation, payload),))
        message = f"the payload does not fit event {event!r}"
        faults, brief = faults_of(error)
        raise PayloadRefused(f"{message}: {faults}", brief=f"{message}: {brief}") from error


def faults_of(error: ValidationError) -> tuple[str, str]:
    """What is wrong with a value, and where: with what users' validators say, and without it."""
    whole: list[str] = []
    brief: list[str] = []
    for fault in error.errors(include_input=False, include_context=False):
        where = ".".join(map(str, fault["loc"])) or "payload"
        whole.append(f"{where}: {fault['msg']}")
        own_words = "url" in fault and fault["type"] not in _QUOTES  # a kind of the user's has no url
        brief.append(f"{where}: {fault['msg'] if own_words else 'is not valid'}")
    return "; ".join(whole), "; ".join(brief)


def payload_schema(handler: object) -> dict[str, Any]:
    """The JSON Schema of a handler's payload; that of null when it takes none."""
    wanted = payload_of(handler)
    return {"type": "null"} if wanted is None else _adapter(wanted.annotation).json_schema()
