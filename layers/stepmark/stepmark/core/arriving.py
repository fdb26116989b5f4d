"""What a thread meets where it arrives: places by aliases, names for new threads, the times of timers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepmark.core.tree import STOPS
from stepmark.definition.statements import Wait
from stepmark.errors import DefinitionError, text_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from stepmark.core.record import Progress
    from stepmark.core.tree import Node, Started, Tree
    from stepmark.definition.handlers import Timeout


def resolve_aliases(progress: Progress, tree: Tree) -> None:
    """Call every place, and every event that is waited for there, what the definition calls it now."""
    for thread in progress.threads.values():
        node = tree.find(thread.place)
        if node is None or node.kind not in STOPS:
            continue
        if node.name != thread.at:
            thread.place = thread.place.moved_to(node.name)
        if thread.awaited and node.kind is Wait:
            for on in node.body:
                for alias in on.aliases:
                    if alias in thread.awaited:
                        awaited = thread.awaited[on.name] = thread.awaited.pop(alias)
                        awaited.named = awaited.named or alias


def thread_key(started: Started, taken: Collection[str]) -> str:
    """What a thread that a Go has started is called among those that run."""
    if started.id is not None:
        key = f"{started.go}[{started.id}]"
        if key in taken:
            raise DefinitionError(f"thread {key!r} is still running: give its Go another id")
        return key
    key, number = started.go, 1
    while key in taken:
        number += 1
        key = f"{started.go}#{number}"
    return key


def same_event(node: Node, on: Node) -> Node:
    """The same event in the tree of the changed state."""
    for child in node.body:
        if child.name == on.name:
            return child
    raise DefinitionError(
        f"on the state that it left, the definition has no event {on.name!r} at {node.name!r}"
    )


def fire_at(timeout: Timeout, on: Node, now: float) -> float:
    """When a timer fires whose Wait is reached now; a function of the user's may tell."""
    try:
        return timeout.fire_at(now)
    except Exception as error:
        brief = f"the time of event {on.name!r} can't be told: {type(error).__name__}"
        raise DefinitionError(f"{brief}: {text_of(error)}", brief=brief) from error
