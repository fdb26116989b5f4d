"""A workflow class as JSON and as a diagram."""

from __future__ import annotations

from enum import Enum
from inspect import isclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from stepmark.handlers import Handler, payload_schema
from stepmark.shape import Tree, build, tree_of
from stepmark.state import codec_of
from stepmark.statements import (
    Branch,
    Go,
    If,
    On,
    Scope,
    Section,
    Step,
    Switch,
    Timeout,
    Wait,
)

if TYPE_CHECKING:
    from stepmark.shape import Node
    from stepmark.workflow import Workflow


def describe(workflow: type[Workflow] | Workflow | Section) -> dict[str, Any]:
    """The tree of a workflow as JSON can hold it, with each event's JSON Schema.

        json.dumps(describe(Approval))

    The tree is that of a state with every default, and blank values for fields without one; give an object
    for the tree of its state. Raises DefinitionError when there is no such tree.
    """
    name = getattr(workflow, "__workflow_name__", None)
    tree = tree_for(workflow)
    described: dict[str, Any] = {"workflow": name} if name is not None else {}
    if not isinstance(workflow, Section):
        cls = workflow if isclass(workflow) else type(workflow)
        described["state"] = codec_of(cls).schema()
    described["statements"] = [_statement(tree, node) for node in tree.shape.root.body]
    return described


def tree_for(workflow: type[Workflow] | Workflow | Section) -> Tree:
    """The checked tree of a class, an object, or what a definition() returned."""
    if isinstance(workflow, Section):
        return tree_of(workflow)
    return build(blank(workflow) if isclass(workflow) else workflow)


def blank(cls: type[Workflow]) -> Workflow:
    """A state with every default; fields without one get their type's empty value, or None."""
    codec = codec_of(cls)
    return codec.fill({name: _empty(annotation) for name, annotation in codec.required().items()})


def _empty(annotation: Any) -> Any:
    origin, options = get_origin(annotation), get_args(annotation)
    if origin in {Union, UnionType, Annotated}:
        return None if NoneType in options else _empty(options[0])
    if origin is Literal:
        return options[0]
    cls = origin or annotation
    if isclass(cls) and issubclass(cls, Enum):
        return next(iter(cls))
    if isclass(cls) and issubclass(cls, BaseModel):
        return cls.model_construct()
    try:
        return cls()
    except Exception:  # noqa: BLE001 - no value without arguments: the definition may not need one
        return None


def _statement(tree: Tree, node: Node) -> dict[str, Any]:
    statement = tree[node]
    described: dict[str, Any] = {"kind": type(statement).__name__ if node.kind is not Branch else "Case"}
    if node.name:
        described["name"] = node.name
    if isinstance(statement, Scope):
        described["prefix"] = statement.name
    if statement.aliases:
        described["aliases"] = list(node.aliases or statement.aliases)
    described |= _details(statement)
    if node.body:
        key = {If: "branches", Switch: "branches", Wait: "events"}.get(node.kind, "statements")
        described[key] = [_statement(tree, child) for child in node.body]
    return described


def _details(statement: Any) -> dict[str, Any]:
    if isinstance(statement, Step):
        details: dict[str, Any] = {"action": _name(statement.action)}
        if statement.into is not None:
            details["into"] = statement.into if isinstance(statement.into, str) else _name(statement.into)
        if statement.retry is not None:
            details["attempts"] = statement.retry.attempts
        return details
    if isinstance(statement, On):
        if isinstance(statement.handler, Timeout):
            return {"timeoutSeconds": statement.handler.seconds}
        handler = statement.handler
        name = type(handler).__name__ if isinstance(handler, Handler) else _name(handler)
        return {"handler": name, "payload": payload_schema(handler)}
    if isinstance(statement, Go) and statement.id is not None:
        return {"id": statement.id}
    return {}


def _name(function: Any) -> str | None:
    return None if function is None else str(getattr(function, "__name__", type(function).__name__))
