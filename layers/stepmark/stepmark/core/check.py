"""What a deploy would do to the workflows that run."""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import isclass
from typing import TYPE_CHECKING

from stepmark.core.describe import tree_for
from stepmark.core.planning import check_handlers
from stepmark.core.record import Awaited, Thread
from stepmark.core.shape import build
from stepmark.core.snapshot import Snapshot
from stepmark.core.state import codec_of
from stepmark.errors import DefinitionError, StateError, UnknownStatement, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepmark.core.positions import LivePosition
    from stepmark.core.tree import Tree
    from stepmark.definition.workflow import Section, Workflow


@dataclass(frozen=True, slots=True)
class Problem:
    """A running workflow that the new definition would park, and why.

    parks: False where it would go on, and data that is stored for it would have no field to be seen in.
    """

    workflow_id: str
    message: str
    thread: str | None = field(default=None)
    parks: bool = True


def check(
    new_definition: type[Workflow] | Workflow | Section, live_positions: Iterable[LivePosition | Snapshot]
) -> list[Problem]:
    """The live workflows that a deploy of this definition would park, or leave data of out of its sight.

        problems = check(Approval, live_positions(store, "approval"))
        problems = check(Approval, [engine.get("request-7")])

    Raises DefinitionError when the definition is not valid at all.
    """
    tree = tree_for(new_definition)
    problems: list[Problem] = []
    for live in live_positions:
        if isinstance(live, Snapshot) and isclass(new_definition):
            problems += problems_of(new_definition, live.workflow_id, live.stored_state, live.positions)
            continue
        positions = live.positions if isinstance(live, Snapshot) else (live,)
        problems += [found for position in positions if (found := _problem_at(tree, position))]
    return problems


def problems_of(
    cls: type[Workflow], workflow_id: str, stored_state: str, positions: Iterable[LivePosition]
) -> list[Problem]:
    """The same for one workflow, with the definition that its own state gives.

    A state that the class can't read, and a definition() that raises on it, are problems too.
    """
    try:
        stored = codec_of(cls).restore(stored_state)
        tree = build(stored.state)
        found = [_problem_at(tree, position) for position in positions]
    except (StateError, DefinitionError) as error:
        return [Problem(workflow_id, text_of(error))]
    except Exception as error:  # noqa: BLE001 - one workflow must not hide what is wrong with the others
        return [Problem(workflow_id, f"{type(error).__name__}: {text_of(error)}")]
    problems = [problem for problem in found if problem is not None]
    gone = [name for name, value in stored.beyond.items() if value not in _NO_DATA]
    gone += [
        ".".join(map(str, (*hidden.path, name)))
        for hidden in stored.hidden
        for name, value in hidden.values.items()
        if value not in _NO_DATA
    ]
    if gone:
        names = ", ".join(map(repr, gone))
        message = f"there is no field for what is stored as {names}: it is kept, but nothing would see it"
        problems.append(Problem(workflow_id, message, parks=False))
    return problems


_NO_DATA: tuple[object, ...] = (None, "", [], {})


def _problem_at(tree: Tree, position: LivePosition) -> Problem | None:
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
