"""A workflow as a Mermaid flowchart."""

from __future__ import annotations

import html
from contextlib import suppress
from inspect import isclass
from typing import TYPE_CHECKING, Any

from stepmark.core.describe import tree_for
from stepmark.definition.handlers import Timeout
from stepmark.definition.statements import (
    Break,
    Continue,
    Default,
    Finish,
    For,
    Go,
    If,
    Return,
    Scope,
    Step,
    Switch,
    Wait,
    WaitFor,
)
from stepmark.definition.workflow import Section
from stepmark.errors import DefinitionError

if TYPE_CHECKING:
    from stepmark.core.snapshot import Snapshot
    from stepmark.core.tree import Node, Tree
    from stepmark.definition.workflow import Workflow

type _Ends = list[tuple[str, str]]  # loose ends: the node an arrow comes from, and what is written on it


def to_mermaid(workflow: type[Workflow] | Workflow | Section, snapshot: Snapshot | None = None) -> str:
    """The workflow as a Mermaid flowchart; the statements a snapshot's threads are at are marked.

        print(to_mermaid(Approval, engine.get("request-7")))

    With a class and a snapshot it is the tree of the snapshot's state, if that still has one. Raises
    DefinitionError as describe() does.
    """
    if snapshot is not None and isclass(workflow) and isinstance(snapshot.state, workflow):
        with suppress(DefinitionError):
            return _Chart(tree_for(snapshot.state)).draw(snapshot)
    return _Chart(tree_for(workflow)).draw(snapshot)


class _Chart:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._lines: list[str] = []
        self._ids: dict[Node, str] = {}
        self._leaving: dict[Node, _Ends] = {}  # by loop: where its Breaks come from

    def draw(self, snapshot: Snapshot | None) -> str:
        self._lines = ["flowchart TD", "    start([start])", "    finish([end])"]
        self._link(self._sequence(self._tree.shape.root.body, [("start", "")]), "finish")
        self._mark(snapshot)
        return "\n".join(self._lines) + "\n"

    def _mark(self, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            return
        at = {thread.at for thread in snapshot.threads.values()}
        parked = {thread.at for thread in snapshot.threads.values() if thread.parked}
        for node, ident in self._ids.items():
            if node.name in at:
                self._lines.append(f"    class {ident} {'parked' if node.name in parked else 'live'}")
        self._lines.append("    classDef live stroke:#1a7f37,stroke-width:4px")
        self._lines.append("    classDef parked stroke:#cf222e,stroke-width:4px")

    def _node(self, node: Node, label: str, shape: tuple[str, str] = ("[", "]")) -> str:
        ident = self._ids.setdefault(node, f"n{len(self._ids) + 1}")
        self._lines.append(f'    {ident}{shape[0]}"{_escaped(label)}"{shape[1]}')
        return ident

    def _link(self, ends: _Ends, to: str) -> None:
        for ident, label in ends:
            self._lines.append(
                f'    {ident} -- "{_escaped(label)}" --> {to}' if label else f"    {ident} --> {to}"
            )

    def _sequence(self, nodes: list[Node], ends: _Ends) -> _Ends:
        for node in nodes:
            ends = self._draw(node, ends)
        return ends

    def _draw(self, node: Node, ends: _Ends) -> _Ends:
        kind = node.kind
        if kind in {Section, Scope}:
            return self._sequence(node.body, ends)
        if kind in {If, Switch}:
            return self._draw_branches(node, ends)
        if kind is For:
            return self._draw_loop(node, ends)
        if kind in {Step, Wait, WaitFor, Go}:
            return self._draw_stop(node, ends)
        return self._draw_jump(node, ends)

    def _draw_stop(self, node: Node, ends: _Ends) -> _Ends:
        kind = node.kind
        if kind is Go:
            ident = self._node(node, f"thread: {node.name}", ("[/", "/]"))
            self._link(self._sequence(node.body, [(ident, "in parallel")]), "finish")
        else:
            limit = self._tree[node].timeout if kind is Step else None
            label = node.name if limit is None else f"{node.name} (at most {limit:g} s)"
            ident = self._node(node, label, ("[", "]") if kind is Step else ("{{", "}}"))
        self._link(ends, ident)
        if kind is Wait:
            return [end for on in node.body for end in self._sequence(on.body, [(ident, self._event(on))])]
        if kind is Step:
            given_up = [end for each in node.body for end in self._sequence(each.body, [(ident, each.name)])]
            return [(ident, ""), *given_up]
        return [(ident, "")]

    def _draw_jump(self, node: Node, ends: _Ends) -> _Ends:
        if node.kind is Break and node.loop is not None:
            self._leaving.setdefault(node.loop, []).extend(ends)
        elif node.kind is Continue and node.loop is not None:
            self._link(ends, self._ids[node.loop])
        elif node.kind is Return:
            self._link(ends, "finish")
        elif node.kind is Finish:
            ident = self._node(node, _finish(self._tree[node].result), ("([", "])"))
            self._link(ends, ident)
        return []

    def _draw_branches(self, node: Node, ends: _Ends) -> _Ends:
        ident = self._node(node, " ", ("{", "}"))
        self._link(ends, ident)
        loose = [end for branch in node.body for end in self._sequence(branch.body, [(ident, branch.name)])]
        statement = self._tree[node]
        closed = statement.closed if isinstance(statement, If) else isinstance(statement.body[-1], Default)
        return loose if closed else [*loose, (ident, "else")]

    def _draw_loop(self, node: Node, ends: _Ends) -> _Ends:
        ident = self._node(node, node.name, ("{", "}"))
        self._link(ends, ident)
        self._link(self._sequence(node.body, [(ident, "again")]), ident)
        return [(ident, "done"), *self._leaving.pop(node, [])]

    def _event(self, on: Node) -> str:
        handler = self._tree[on].handler
        if not isinstance(handler, Timeout):
            return on.name
        if handler.at is None:
            return f"{on.name} ({handler.seconds:g} s)"
        at = getattr(handler.at, "__name__", "a time") if callable(handler.at) else handler.at.isoformat()
        return f"{on.name} (at {at})"


def _escaped(label: str) -> str:
    return "<br>".join(html.escape(label, quote=False).replace('"', "&quot;").splitlines())


def _finish(result: Any) -> str:
    return "finish" if result is None else f"finish: {result}"
