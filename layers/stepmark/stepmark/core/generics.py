"""What the type parameters of generic classes stand for in a class derived from them."""

from __future__ import annotations

import sys
from functools import lru_cache
from types import SimpleNamespace, UnionType, get_original_bases
from typing import Annotated, Any, ForwardRef, Literal, Union, get_args, get_origin, get_type_hints


@lru_cache(maxsize=1024)
def arguments_of(cls: type) -> dict[type, dict[Any, Any]]:
    """For each base of a class, what its type parameters stand for.

    class Base(Generic[T]): ...; class Orders(Base[Order]): ...; arguments_of(Orders)[Base] == {T: Order}
    """
    found: dict[type, dict[Any, Any]] = {cls: {}}
    for base in get_original_bases(cls):
        origin = get_origin(base) or base
        if not isinstance(origin, type):
            continue
        parameters = getattr(origin, "__parameters__", ())
        arguments = [_resolved(argument, cls) for argument in get_args(base)]
        own = dict(zip(parameters, arguments, strict=True)) if len(parameters) == len(arguments) else {}
        model = getattr(origin, "__pydantic_generic_metadata__", {"origin": None})
        if model["origin"] is not None:  # pydantic makes a class of its own for each set of arguments
            of_origin = model["origin"].__pydantic_generic_metadata__["parameters"]
            found[model["origin"]] = dict(zip(of_origin, model["args"], strict=True))
        for each, given in arguments_of(origin).items():
            filled = {parameter: with_arguments(value, own) for parameter, value in given.items()}
            found.setdefault(each, {}).update(filled)
        found[origin] |= own
    return found


def with_arguments(annotation: Any, given: dict[Any, Any]) -> Any:
    """An annotation with its type parameters replaced, as far as it is known what they stand for."""
    if not given:
        return annotation
    try:
        if annotation in given:
            return given[annotation]
    except TypeError:  # metadata that can't be hashed
        pass
    of_model = getattr(annotation, "__pydantic_generic_metadata__", None)
    if of_model is not None:  # Box[T] is Box itself, where that has the same T
        parameters = of_model["parameters"]
        known = any(parameter in given for parameter in parameters)
        return annotation[tuple(given.get(each, each) for each in parameters)] if known else annotation
    return _rebuilt(annotation, given)


def _rebuilt(annotation: Any, given: dict[Any, Any]) -> Any:
    """The same for what is made of several annotations."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None or origin is Literal:
        return annotation
    if origin is Annotated:
        return Annotated[with_arguments(arguments[0], given), *arguments[1:]]
    filled = tuple(with_arguments(argument, given) for argument in arguments)
    if filled == arguments:
        return annotation
    return Union[filled] if origin in {Union, UnionType} else origin[filled]  # noqa: UP007 - of a tuple


def _resolved(argument: Any, cls: type) -> Any:
    """An argument that may be given as a string."""
    if not isinstance(argument, ForwardRef | str):
        return argument
    alone: Any = SimpleNamespace(__annotations__={"argument": argument})
    names = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    try:
        return get_type_hints(alone, dict(names), include_extras=True)["argument"]
    except NameError:
        return argument
