"""A workflow class as JSON and as a diagram."""

from __future__ import annotations

from inspect import isclass
from typing import TYPE_CHECKING, Any

from stepmark.core.payloads import payload_schema
from stepmark.core.sample_state import sample_state
from stepmark.core.shape import build, tree_of
from stepmark.core.state import codec_of
from stepmark.definition.handlers import Handler, Timeout
from stepmark.definition.statements import Branch, Default, Go, If, On, Scope, Step, Switch, Wait
from stepmark.definition.workflow import Section

if TYPE_CHECKING:
    from stepmark.core.tree import Node, Tree
    from stepmark.definition.workflow import Workflow


def describe(workflow: type[Workflow] | Workflow | Section) -> dict[str, Any]:
    """The tree of a workflow as JSON can hold it, with each event's JSON Schema.

        json.dumps(describe(Approval))

    The tree is that of a state with every default, and blank values for fields without one; give an object
    for the tree of its state. A branch is a "Case", or the "Default" that is taken when no other is. Raises
    DefinitionError when there is no such tree.
    """
    name = getattr(workflow, "__workflow_name__", None)
    tree = tree_for(workflow)
    described: dict[str, Any] = {"workflow": name} if name is not None else {}
    if not isinstance(workflow, Section):
        cls = workflow if isclass(workflow) else type(workflow)
        described["state"] = codec_of(cls).schema()
        if cls.__workflow_timeout__ is not None:
            described["timeoutSeconds"] = cls.__workflow_timeout__
    described["statements"] = [_statement(tree, node) for node in tree.shape.root.body]
    return described


def tree_for(workflow: type[Workflow] | Workflow | Section) -> Tree:
    """The checked tree of a class, an object, or what a definition() returned."""
    if isinstance(workflow, Section):
        return tree_of(workflow)
    return build(sample_state(workflow) if isclass(workflow) else workflow)


def _statement(tree: Tree, node: Node) -> dict[str, Any]:
    statement = tree[node]
    described: dict[str, Any] = {"kind": _branch(tree, node) if node.kind is Branch else node.kind.__name__}
    if node.name:
        described["name"] = node.name
    if isinstance(statement, Scope):
        described["prefix"] = statement.name
    if statement.aliases:
        described["aliases"] = list(node.aliases or statement.aliases)
    described |= _details(statement)
    if node in tree.shape.refused:
        described["refuses"] = [on.name for on in tree.shape.refused[node]]
    if node.kind is Step:
        if node.body:
            described["orElse"] = [_or_else(tree, branch) for branch in node.body]
    elif node.body:
        key = {If: "branches", Switch: "branches", Wait: "events"}.get(node.kind, "statements")
        described[key] = [_statement(tree, child) for child in node.body]
    return described


def _or_else(tree: Tree, node: Node) -> dict[str, Any]:
    on = tree[node].on
    names = [each.__name__ for each in (on if isinstance(on, tuple) else (on,))]
    return {"name": node.name, "on": names, "statements": [_statement(tree, child) for child in node.body]}


def _branch(tree: Tree, node: Node) -> str:
    around = tree[node.parent] if node.parent is not None else None
    is_else = isinstance(around, If) and around.closed and node.index == len(around.body) - 1
    return "Default" if is_else or isinstance(tree[node], Default) else "Case"


def _details(statement: Any) -> dict[str, Any]:
    if isinstance(statement, Step):
        details: dict[str, Any] = {"action": _name(statement.action)}
        if statement.into is not None:
            details["into"] = statement.into if isinstance(statement.into, str) else _name(statement.into)
        if statement.retry is not None:
            details["attempts"] = statement.retry.attempts
        if statement.timeout is not None:
            details["timeoutSeconds"] = statement.timeout
        return details
    if isinstance(statement, On):
        if isinstance(statement.handler, Timeout):
            at = statement.handler.at
            if at is None:
                return {"timeoutSeconds": statement.handler.seconds}
            return {"timeoutAt": _name(at) if callable(at) else at.isoformat()}
        handler = statement.handler
        name = type(handler).__name__ if isinstance(handler, Handler) else _name(handler)
        return {"handler": name, "payload": payload_schema(handler)}
    if isinstance(statement, Go) and statement.id is not None:
        return {"id": statement.id}
    return {}


def _name(function: Any) -> str | None:
    return None if function is None else str(getattr(function, "__name__", type(function).__name__))
