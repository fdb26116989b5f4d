"""What a deploy would do to the workflows that run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepmark.core.describe import tree_for
from stepmark.core.planning import check_handlers
from stepmark.core.record import Awaited, Thread
from stepmark.core.snapshot import Snapshot
from stepmark.errors import UnknownStatement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepmark.core.positions import LivePosition
    from stepmark.core.tree import Tree
    from stepmark.definition.workflow import Section, Workflow


@dataclass(frozen=True, slots=True)
class Problem:
    """A running workflow that the new definition would park, and why."""

    workflow_id: str
    message: str
    thread: str | None = field(default=None)


def check(
    new_definition: type[Workflow] | Workflow | Section, live_positions: Iterable[LivePosition | Snapshot]
) -> list[Problem]:
    """The live workflows that a deploy of this definition would park.

        problems = check(Approval, live_positions(store, "approval"))
        problems = check(Approval, [engine.get("request-7")])

    Raises DefinitionError when the definition is not valid at all.
    """
    tree = tree_for(new_definition)
    problems: list[Problem] = []
    for live in live_positions:
        positions = live.positions if isinstance(live, Snapshot) else (live,)
        problems += [found for position in positions if (found := problem_at(tree, position))]
    return problems


def problem_at(tree: Tree, position: LivePosition) -> Problem | None:
    """Why a definition would park what is at that position, or None."""
    if position.unread is not None:
        return Problem(position.workflow_id, position.unread)
    thread = Thread(position.thread, position.place)
    thread.awaited = {name: Awaited(setup=True) for name in position.set_up}
    try:
        check_handlers(tree, thread, tree.stop(thread.place))
    except UnknownStatement as error:
        return Problem(position.workflow_id, str(error), position.thread)
    return None
