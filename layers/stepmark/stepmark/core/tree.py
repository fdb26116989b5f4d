"""A definition as it is read: its shape, the statements that one state gives it, and the way through them.

A definition is built again after every change of the state, but its shape (which statements, nested how)
hardly ever changes. So the shape is indexed once (`shape.py`), and a built tree is read through the paths
found then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import isasyncgen, isawaitable, iscoroutine, isgenerator
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

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
    Step,
    Switch,
    Wait,
    WaitFor,
)
from stepmark.definition.workflow import Section, is_text
from stepmark.errors import DefinitionError, UnknownStatement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepmark.core.record import Place
    from stepmark.definition.workflow import Statement

_IN_ORDER = frozenset({Section, Scope, Branch, On})
_BRANCHED = frozenset({If, Switch, Wait, Step})
STOPS = frozenset({Step, Wait, WaitFor})  # at which a thread can be


class Node:
    """One statement of a shape: where it stands, what it is called, what is around it."""

    __slots__ = ("aliases", "body", "index", "kind", "loop", "name", "parent", "path", "plural", "root")

    def __init__(self, kind: type[Statement], name: str, parent: Node | None, index: int) -> None:
        self.kind = kind
        self.name = name
        self.parent = parent
        self.index = index
        self.aliases: tuple[str, ...] = ()
        self.body: list[Node] = []
        self.path: tuple[int, ...] = () if parent is None else (*parent.path, index)
        self.root: Node = self  # the section of the main thread, or the Go of another
        self.loop: Node | None = None
        self.plural = False  # a Go with an id: may be written several times

    def walk(self) -> Iterator[Node]:
        """This statement and all inside it."""
        yield self
        for child in self.body:
            yield from child.walk()


class _ById(NamedTuple):
    """The Gos of one name by their ids, which the state gives them; of two with one id, the first."""

    ids: list[str | None]
    nodes: dict[str | None, Node]


class Shape:
    """All statements of a definition by name, for each thread that it can have.

    threads, events: the Go and the On statements by name and alias. handled: every On. refused: the On
    statements whose events a Wait refuses. alongside: the names and aliases of the steps with `into`.
    """

    __slots__ = ("alongside", "by_id", "by_root", "events", "handled", "refused", "root", "threads")

    def __init__(self) -> None:
        self.root = Node(Section, "", None, 0)
        self.alongside: set[str] = set()
        self.by_id: dict[str, _ById] = {}  # the Gos of each name as a tree has last had them
        self.by_root: dict[Node, dict[str, Node]] = {}
        self.threads: dict[str, list[Node]] = {}
        self.events: dict[str, list[Node]] = {}
        self.handled: list[Node] = []
        self.refused: dict[Node, list[Node]] = {}

    def find(self, root: Node, name: str) -> Node | None:
        """The statement of that name, or with that alias, in one thread's part of the definition."""
        return self.by_root[root].get(name)

    def names(self, root: Node) -> list[str]:
        """The statements at which a thread can be."""
        return sorted({node.name for node in self.by_root[root].values()})


class Tree:
    """A definition as built from one state, read through its shape."""

    __slots__ = ("_by_id", "section", "shape")

    def __init__(self, section: Statement, shape: Shape) -> None:
        self.section = section
        self.shape = shape
        self._by_id: dict[str, _ById] = {}

    def __getitem__(self, node: Node) -> Any:
        statement = self.section
        for index in node.path:
            statement = statement.body[index]
        return statement

    def root(self, place: Place) -> Node | None:
        """The part of the definition that a place is in: the main section, or a Go.

        That is the Go of its name and id, or the only one of its name; but when the thread was started by one
        of several that differ by their id, the id must match.
        """
        found = [self.shape.root] if place.go is None else self.shape.threads.get(place.go, [])
        if len(found) == 1 and not place.several:
            return found[0]
        return self._gos(place.go or "", found).get(place.id)

    def _gos(self, name: str, found: list[Node]) -> dict[str | None, Node]:
        """The Gos of one name by their ids: read once a tree, and indexed when they are not as they were."""
        known = self._by_id.get(name)
        if known is None:
            ids = [str(ident) if ident is not None else None for ident in self._ids(found)]
            known = self.shape.by_id.get(name)
            if known is None or known.ids != ids:
                known = _ById(ids, dict(zip(reversed(ids), reversed(found), strict=True)))
                self.shape.by_id[name] = known
            self._by_id[name] = known
        return known.nodes

    def _ids(self, gos: list[Node]) -> Iterator[object]:
        """The ids that the state gives them; those that stand side by side are reached together."""
        for parent, side_by_side in groupby(gos, attrgetter("parent")):
            body = self[parent].body
            for go in side_by_side:
                yield body[go.index].id

    def has_places_of(self, other: Tree) -> bool:
        """Whether every place that was looked up in another tree is the same statement in this one."""
        if self.shape is not other.shape:
            return False
        gos = self.shape.threads
        return all(self._gos(name, gos[name]) is each.nodes for name, each in other._by_id.items())

    def find(self, place: Place) -> Node | None:
        """The statement at that place, which an alias may name, or None when the definition has none."""
        root = self.root(place)
        return None if root is None else self.shape.find(root, place.at)

    def stop(self, place: Place) -> Node:
        """The statement at that place, at which a thread can be; UnknownStatement says what is missing."""
        root = self.root(place)
        if root is None:
            ident = "" if place.id is None else f" with id {place.id!r}"
            raise UnknownStatement(
                f"the definition no longer has the thread Go {place.go!r}{ident}, at {place.at!r}"
            )
        node = self.shape.find(root, place.at)
        if node is None or node.kind not in STOPS:
            where = "" if place.go is None else f" in thread {place.go!r}"
            gone = (
                "no longer has"
                if node is None
                else f"has {node.kind.__name__}, at which no thread can be, as"
            )
            raise UnknownStatement(f"the definition {gone} statement {place.at!r}{where}")
        return node


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
    if isgenerator(value) or isasyncgen(value):
        raise TypeError("a condition must be a bool, or a plain function without a `yield`")
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
        if parent.kind not in _BRANCHED and node.index + 1 < len(parent.body):
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
        else:
            raise DefinitionError(f"nobody knows how a thread passes a {kind.__name__}")
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
