"""Where a thread goes next: over the statements that need no commit, to one that does."""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any

from stepmark.definition.statements import (
    Branch,
    Break,
    Continue,
    Finish,
    For,
    Go,
    If,
    On,
    Return,
    Scope,
    Section,
    Step,
    Switch,
    Wait,
    WaitFor,
)
from stepmark.definition.workflow import is_text
from stepmark.errors import DefinitionError

if TYPE_CHECKING:
    from stepmark.core.shape import Node, Tree

_IN_ORDER = frozenset({Section, Scope, Branch, On})


@dataclass(slots=True)
class Started:
    """A thread that a Go on the way has started; `at` is None when it ended at once."""

    go: str
    id: str | None
    at: Node | None


@dataclass(slots=True)
class Arrival:
    """The outcome of a walk: the statement that the thread is at, or None when the thread has ended."""

    at: Node | None = None
    finished: bool = False
    result: Any = None
    started: list[Started] = field(default_factory=list)


def holds(cond: Any) -> bool:
    """Whether a condition is true now; what an `async def` returns would always be."""
    value = cond() if callable(cond) else cond
    if isawaitable(value):
        if iscoroutine(value):
            value.close()
        raise TypeError("a condition must be a bool, or a plain function: it can't be awaited")
    return bool(value)


def arrive(tree: Tree, node: Node | None) -> Arrival:
    """Walk on from `node`, which the thread is about to enter, until something must run or be waited for."""
    arrival = Arrival()
    arrival.at = _walk(tree, node, arrival)
    return arrival


def first_of(node: Node) -> Node | None:
    """The first statement inside a node, or what comes after it when it is empty."""
    return node.body[0] if node.body else after(node)


def after(node: Node) -> Node | None:
    """The statement that follows in the same thread, or None at its end."""
    while True:
        parent = node.parent
        if parent is None:
            return None
        if parent.kind not in {If, Switch, Wait} and node.index + 1 < len(parent.body):
            return parent.body[node.index + 1]
        if parent.kind is For:
            return parent
        if parent.kind is Go:
            return None
        node = parent


def _walk(tree: Tree, node: Node | None, arrival: Arrival) -> Node | None:  # noqa: C901, PLR0912 - one case a statement
    rounds: set[Node] = set()
    while node is not None and not arrival.finished:
        kind = node.kind
        if kind is Step or kind is Wait:
            return node
        if kind is WaitFor:
            if not holds(tree[node].cond) or tree[node].handler is not None:
                return node
            node = after(node)
        elif kind in _IN_ORDER:
            node = first_of(node)
        elif kind is If or kind is Switch:
            node = next((first_of(branch) for branch in node.body if holds(tree[branch].cond)), after(node))
        elif kind is For:
            if not holds(tree[node].cond):
                node = after(node)
            elif node in rounds:
                raise DefinitionError(
                    f"loop {node.name!r} went round without running a step: nothing can ever end it"
                )
            else:
                rounds.add(node)
                node = first_of(node)
        elif kind is Break:
            node = after(_loop(node))
        elif kind is Continue:
            node = _loop(node)
        elif kind is Go:
            _start(tree, node, arrival)
            node = after(node)
        elif kind is Return:
            return None
        elif kind is Finish:
            arrival.finished = True
            arrival.result = tree[node].result
    return None


def _loop(node: Node) -> Node:
    if node.loop is None:  # shape.py has refused such a definition
        raise DefinitionError(f"{node.kind.__name__} outside a loop")
    return node.loop


def _start(tree: Tree, node: Node, arrival: Arrival) -> None:
    ident = tree[node].id
    if ident is not None and not is_text(str(ident)):
        raise DefinitionError(f"Go {node.name!r}: its id must be some text, not {str(ident)!r}")
    started = Started(node.name, None if ident is None else str(ident), None)
    arrival.started.append(started)
    started.at = _walk(tree, node.body[0], arrival) if node.body else None
