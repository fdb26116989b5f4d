"""A definition, checked and indexed: once for each shape, but its handlers whenever a tree is built."""

from __future__ import annotations

from collections import OrderedDict
from inspect import isasyncgenfunction, isgeneratorfunction
from itertools import product
from typing import TYPE_CHECKING, Any

from stepmark.core.payloads import check_handler
from stepmark.core.state import codec_of
from stepmark.core.tree import Node, Shape, Tree
from stepmark.definition.retry import Retry
from stepmark.definition.statements import (
    Branch,
    Break,
    Continue,
    Default,
    Finish,
    For,
    Go,
    If,
    On,
    Return,
    Scope,
    Step,
    Switch,
    Wait,
    WaitFor,
)
from stepmark.definition.workflow import MAIN, Section, Statement, is_text
from stepmark.errors import DefinitionError, text_of

if TYPE_CHECKING:
    from stepmark.definition.workflow import Workflow

SEPARATOR = "."  # between a Scope's prefix and a name; safe in a URL's path


class _Builder:
    """Checks all statements of a definition, and fills a shape with them."""

    def __init__(self, fields: tuple[str, ...] | None) -> None:
        self.shape = Shape()
        self._fields = fields
        self._found: dict[str, Node] = {}
        self._short: dict[str, list[Node]] = {}

    def build(self, section: Statement) -> Shape:
        """The shape of that definition; DefinitionError names the statement that is wrong."""
        root = self.shape.root
        self._add(section, root, prefixes=("",), root=root, loop=None)
        self._admit_short_names()
        tree = Tree(section, self.shape)
        for node in root.walk():
            if node.kind is Wait and tree[node].refuse != ():
                self.shape.refused[node] = self._refused(node, tree[node])
        return self.shape

    def _add(
        self, statement: Statement, node: Node, *, prefixes: tuple[str, ...], root: Node, loop: Node | None
    ) -> None:
        """Check one statement, add what is inside. The first of `prefixes` is current, the others aliases."""
        node.root = root
        node.loop = loop
        self.shape.by_root.setdefault(root, {})
        _check(statement, node, self._fields)
        if isinstance(statement, Scope):
            own = (statement.name, *statement.aliases)
            prefixes = tuple(f"{before}{name}{SEPARATOR}" for before, name in product(prefixes, own))
        elif isinstance(statement, Go):
            root = node
            loop = None
            self.shape.by_root[node] = {}
            for alias in (node.name, *node.aliases):
                self.shape.threads.setdefault(alias, []).append(node)
        elif isinstance(statement, For):
            loop = node
        for index, child in enumerate(statement.body):
            kind = type(child)
            if issubclass(kind, Branch):
                kind = Branch
            inner = Node(kind, "", node, index)
            node.body.append(inner)
            inner.plural = isinstance(child, Go) and child.id is not None
            if child.name and not isinstance(child, Scope):
                names = [f"{before}{name}" for name in (child.name, *child.aliases) for before in prefixes]
                self._name(inner, names, root, into=getattr(child, "into", None) is not None)
                if isinstance(child, On) and inner.name != child.name:
                    for short in (child.name, *child.aliases):
                        self._short.setdefault(short, []).append(inner)
            self._add(child, inner, prefixes=prefixes, root=root, loop=loop)
        _check_inside(statement, node)

    def _admit_short_names(self) -> None:
        """Let whoever sends an event leave out the Scope's prefix, unless an event has that very name."""
        for name, nodes in self._short.items():
            if name not in self.shape.events:
                self.shape.events[name] = nodes
                for node in nodes:
                    node.aliases += (name,)

    def _refused(self, node: Node, wait: Wait) -> list[Node]:
        """The events that a Wait refuses, by their names within its own Scope, or else anywhere."""
        if not isinstance(wait.refuse, tuple):
            raise DefinitionError(f"Wait {node.name!r}: refuse must be a tuple of the names of events")
        prefix, events, refused = node.name.removesuffix(wait.name), self.shape.events, list[Node]()
        for name in wait.refuse:
            nodes = events.get(f"{prefix}{name}") or events.get(name, [])
            if not nodes:
                raise DefinitionError(f"Wait {node.name!r}: there is no event {name!r} that it could refuse")
            if any(on in nodes for on in node.body):
                raise DefinitionError(f"Wait {node.name!r} waits for event {name!r}: it can't refuse it")
            refused += nodes
        return refused

    def _name(self, node: Node, names: list[str], root: Node, *, into: bool) -> None:
        """Note a statement's name and its aliases, for what can be looked up by them."""
        node.name, node.aliases = names[0], tuple(names[1:])
        if node.kind is Branch:
            return  # no thread is ever at a branch: its name is for people
        if node.kind is On:
            self.shape.handled.append(node)
            for name in names:
                self.shape.events.setdefault(name, []).append(node)
            return
        for name in names:
            other = self._found.get(name)
            # a thread has its Go's name, which one of its own statements may have too
            within = other is not None and Go in {other.kind, node.kind} and other.root is not root
            if other is not None and not within and not _siblings(other, node):
                raise DefinitionError(f"duplicate name {name!r}: two statements of the definition have it")
            self._found[name] = node
            if name in self.shape.by_root[root] and node.kind is not Go:
                raise DefinitionError(f"duplicate name {name!r}: two statements of the definition have it")
            self.shape.by_root[root][name] = node
        if into:
            self.shape.alongside.update(names)


def _siblings(one: Node, other: Node) -> bool:
    """Whether two equal names are those of the same Go written several times, with different ids."""
    if len(_gos(one)) != len(_gos(other)):
        return False
    pairs = list(zip(_gos(one), _gos(other), strict=True))
    different = [(a, b) for a, b in pairs if a is not b]
    return bool(different) and all(a.name == b.name and a.plural and b.plural for a, b in different)


def _gos(node: Node) -> list[Node]:
    found = []
    at: Node | None = node
    while at is not None:
        if at.kind is Go:
            found.append(at)
        at = at.parent
    return found


_INSIDE: dict[type[Statement], tuple[type[Statement], ...]] = {
    If: (Branch,),
    Switch: (Branch,),
    Wait: (On,),
    Step: (Branch,),
}


def _check(statement: Statement, node: Node, fields: tuple[str, ...] | None) -> None:
    """What is wrong with the statement itself, given where it stands."""
    what = (
        f"{type(statement).__name__} {node.name or statement.name!r}"
        if statement.name
        else type(statement).__name__
    )
    parent = node.parent
    if parent is not None:
        wanted = _INSIDE.get(parent.kind)
        if wanted is None and isinstance(statement, On):
            raise DefinitionError(f"event {node.name!r} is waited for nowhere: put its On into a Wait")
        if wanted is None and isinstance(statement, Branch):
            raise DefinitionError(f"{what} stands alone: put it into a Switch")
        if wanted is not None and not isinstance(statement, wanted):
            raise DefinitionError(f"{what} can't stand directly in {parent.kind.__name__} {parent.name!r}")
    _check_names(statement, node, what)
    if isinstance(statement, Break | Continue) and node.loop is None:
        around = (
            ""
            if node.root.kind is not Go
            else f" (a thread such as {node.root.name!r} can't leave a loop outside)"
        )
        raise DefinitionError(f"{what} outside a loop{_where(node)}{around}")
    if isinstance(statement, Step):
        _check_step(statement, node, fields)
    if isinstance(statement, WaitFor) and not (statement.handler is None or callable(statement.handler)):
        raise DefinitionError(f"{what}: its handler must be callable, without calling it")


def _check_names(statement: Statement, node: Node, what: str) -> None:
    names: tuple[object, ...] = (statement.name, *statement.aliases)
    if not all(isinstance(name, str) and is_text(name) for name in names):
        raise DefinitionError(f"{what}: its name and its aliases must be strings")
    if not statement.name and isinstance(statement, Step | Branch | For | Wait | On | WaitFor | Go | Scope):
        raise DefinitionError(f"a {type(statement).__name__} has an empty name")
    if isinstance(statement, Go) and MAIN in {node.name, *node.aliases}:
        raise DefinitionError(f"Go {MAIN!r}: that name belongs to the thread a workflow starts with")


def _check_step(step: Step, node: Node, fields: tuple[str, ...] | None) -> None:
    what, into = f"Step {node.name!r}", step.into
    if not callable(step.action):
        raise DefinitionError(f"{what}: its action must be callable, without calling it")
    if isgeneratorfunction(step.action) or isasyncgenfunction(step.action):
        raise DefinitionError(
            f"{what}: its action has a `yield` and would run nothing: return a list, or use For for a loop"
        )
    if not (step.retry is None or isinstance(step.retry, Retry)):
        raise DefinitionError(f"{what}: retry must be a Retry")
    if not (into is None or isinstance(into, str) or callable(into)):
        raise DefinitionError(f"{what}: into must be a field's name or a callable")
    if isinstance(into, str) and fields is not None and into not in fields:
        known = ", ".join(map(repr, fields)) or "none"
        raise DefinitionError(f"{what}: into={into!r} is no field of the state; it has: {known}")


def _check_inside(statement: Statement, node: Node) -> None:
    """What is wrong with a statement once all inside it is known."""
    if isinstance(statement, Wait):
        if not node.body:
            raise DefinitionError(f"Wait {node.name!r} waits for no event: give it an On")
        twice = _twice(node)
        if twice:
            raise DefinitionError(f"duplicate name {twice!r}: Wait {node.name!r} has two events of this name")
    elif isinstance(statement, If | Switch | Step):
        twice = _twice(node)
        if twice:
            kind = type(statement).__name__
            raise DefinitionError(f"duplicate name {twice!r}: one {kind} has two branches of this name")
        if isinstance(statement, Switch) and not node.body:
            raise DefinitionError(f"a Switch{_where(node)} has no case: give it a Case or a Default")
        for case in node.body[:-1]:
            if isinstance(statement.body[case.index], Default):
                raise DefinitionError(
                    f"Default {case.name!r} must be the last of its Switch: what comes after would never run"
                )
    elif isinstance(statement, For) and not _can_change(node):
        raise DefinitionError(
            f"loop {node.name!r} can never change: inside it is no Step, no Wait, no WaitFor, and no way out"
        )


def _twice(node: Node) -> str | None:
    names = [name for child in node.body for name in (child.name, *child.aliases)]
    return next((name for name in names if names.count(name) > 1), None)


def _can_change(node: Node) -> bool:
    return any(
        child.kind in {Step, Wait, WaitFor, Return, Finish, Break}
        or (child.kind is not Go and _can_change(child))
        for child in node.body
    )


def _where(node: Node) -> str:
    at = node.parent
    while at is not None and not at.name:
        at = at.parent
    return f" in {at.name!r}" if at is not None else ""


_LIMIT = 512
_shapes: OrderedDict[Any, Shape] = OrderedDict()


def tree_of(section: Section, cls: type[Workflow] | None = None) -> Tree:
    """A definition with its shape; DefinitionError names the statement that is wrong."""
    if not isinstance(section, Section):
        raise DefinitionError(f"definition() must return a Section, not {type(section).__name__}")
    key = (cls, section.key)
    try:
        shape = _shapes.get(key)
    except TypeError as error:
        raise DefinitionError(f"names and aliases must be strings, aliases a tuple: {error}") from error
    if shape is None:
        shape = _Builder(None if cls is None else codec_of(cls).fields).build(section)
        _shapes[key] = shape
        if len(_shapes) > _LIMIT:
            _shapes.popitem(last=False)
    tree = Tree(section, shape)
    for node in shape.handled:
        check_handler(tree[node].handler, node.name)
    return tree


def build(state: Workflow) -> Tree:
    """The tree of a state; whatever definition() raises becomes a DefinitionError."""
    try:
        section = state.definition()
    except Exception as error:
        brief = f"definition() of {type(state).__qualname__} raised {type(error).__name__}"
        raise DefinitionError(f"{brief}: {text_of(error)}", brief=brief) from error
    return tree_of(section, type(state))
