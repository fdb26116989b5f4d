"""What the type parameters of generic classes stand for in a class derived from them."""

from __future__ import annotations

import sys
from functools import lru_cache
from types import SimpleNamespace, get_original_bases
from typing import Any, ForwardRef, get_args, get_origin, get_type_hints


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
    if of_model is not None:
        parameters = of_model["parameters"] if of_model["origin"] is not None else ()
    else:  # a generic class that nobody has given its arguments keeps its own parameters
        parameters = getattr(annotation, "__parameters__", ()) if get_origin(annotation) is not None else ()
    if not any(parameter in given for parameter in parameters):
        return annotation
    return annotation[tuple(given.get(parameter, parameter) for parameter in parameters)]


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
