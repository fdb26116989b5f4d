"""Changes of pydantic's core schemas, for what was written before and is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import SchemaValidator

if TYPE_CHECKING:
    from collections.abc import Callable

_DATA = frozenset({"metadata", "serialization", "default", "config", "expected", "members", "cls"})


def _mapped(schema: Any, change: Callable[[dict[str, Any]], None]) -> Any:
    """A copy of a core schema, with a change of each schema in it."""
    if isinstance(schema, list | tuple):
        return type(schema)(_mapped(each, change) for each in schema)
    if not isinstance(schema, dict):
        return schema
    made = {name: each if name in _DATA else _mapped(each, change) for name, each in schema.items()}
    change(made)
    return made


def validator_of(schema: Any) -> SchemaValidator:
    """A validator of a changed schema, models within it included.

    Pydantic takes those that models have made for themselves unless told not to. A release that can't be
    told, as those before 2.13, leaves models as they are; that is no reason to fail.
    """
    try:
        return SchemaValidator(schema, _use_prebuilt=False)
    except TypeError:
        return SchemaValidator(schema)


def with_more_keys(schema: Any) -> Any:
    """A core schema whose TypedDicts keep what they do not know."""
    return _mapped(schema, _open)


def _open(schema: dict[str, Any]) -> None:
    if schema.get("type") == "typed-dict" and schema.get("extra_behavior") != "forbid":
        schema["extra_behavior"] = "allow"


def without_checks(schema: Any) -> Any:
    """A core schema whose checks of the moment, and users' functions, refuse nothing, nor do unknown keys.

    What was stored has passed them; that it would not pass them today is no reason to lose it.
    """
    return _mapped(schema, _soften)


def _soften(schema: dict[str, Any]) -> None:
    schema.pop("now_op", None)
    config = schema.get("config")
    if isinstance(config, dict) and config.get("extra_fields_behavior") == "forbid":
        schema["config"] = {**config, "extra_fields_behavior": "ignore"}
    kind = schema.get("type")
    if kind == "dataclass":
        schema["post_init"] = False
    if kind not in {"function-after", "function-before", "function-wrap"}:
        return
    function = schema["function"]["function"]
    # what makes an object of a text can't be left out
    if isinstance(function, type) or (kind == "function-after" and _is_text(schema["schema"])):
        return
    soft = _soft_wrap(function) if kind == "function-wrap" else _soft(function)
    schema["function"] = {**schema["function"], "function": soft}


def _is_text(schema: Any) -> bool:
    kind = schema["type"]
    return kind == "str" or (kind in {"nullable", "default"} and _is_text(schema["schema"]))


def _soft(function: Callable[..., Any]) -> Callable[..., Any]:
    def check(value: Any, *more: Any) -> Any:
        try:
            return function(value, *more)
        except (ValueError, AssertionError):
            return value

    return check


def _soft_wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    def check(value: Any, inner: Callable[[Any], Any], *more: Any) -> Any:
        try:
            return function(value, inner, *more)
        except (ValueError, AssertionError):
            return inner(value)

    return check


def has_any(schema: Any, *kinds: str) -> bool:
    """Whether a core schema has schemas of these kinds in it."""
    found = False

    def look(each: dict[str, Any]) -> None:
        nonlocal found
        found = found or each.get("type") in kinds

    _mapped(schema, look)
    return found


def with_all_names(schema: Any) -> Any:
    """A core schema that takes fields by the aliases that they are written by, too."""
    return _mapped(schema, _take_as_written)


def _take_as_written(schema: dict[str, Any]) -> None:
    written, taken = schema.get("serialization_alias"), schema.get("validation_alias")
    if written is None or taken == written:
        return
    choices: list[Any] = [] if taken is None else taken if isinstance(taken, list) else [[taken]]
    if choices and not isinstance(choices[0], list):  # one path
        choices = [choices]
    schema["validation_alias"] = [*choices, [written]]
