"""What a deploy would do to the workflows that run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepmark.core.describe import tree_for
from stepmark.core.record import Awaited, Progress, Record, Thread
from stepmark.core.shape import build
from stepmark.core.snapshot import Snapshot
from stepmark.core.state import codec_of
from stepmark.definition.statements import MAIN
from stepmark.errors import DefinitionError, StateError, UnknownStatement, text_of
from stepmark.runtime import waiting
from stepmark.runtime.session import node_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stepmark.core.shape import Tree
    from stepmark.definition.statements import Section
    from stepmark.definition.workflow import Workflow
    from stepmark.stores.protocol import Store


@dataclass(frozen=True, slots=True)
class LivePosition:
    """Where one thread of a running workflow is.

        LivePosition("request-7", at="for an answer")

    thread: its name. go, thread_id: the Go it comes from, and its id. set_up: the events there with a Handler
    that has been set up. several: its Go was one of several of that name, which differ by their id. unread:
    why the workflow's record can't be read; then the rest says nothing.
    """

    workflow_id: str
    at: str
    thread: str = MAIN
    go: str | None = None
    thread_id: str | None = None
    set_up: tuple[str, ...] = ()
    several: bool = False
    unread: str | None = None


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
        problems += [found for position in positions if (found := _problem(tree, position))]
    return problems


def check_store(cls: type[Workflow], store: Store) -> list[Problem]:
    """The same over all live workflows of a store, each with the definition that its own state gives.

    A state that the new class can't read, a definition() that raises on it, and a record that nobody can
    read are problems too.
    """
    codec = codec_of(cls)
    problems: list[Problem] = []
    for record in store.live(cls.__workflow_name__):
        try:
            tree = build(codec.load(record.state))
            found = [_problem(tree, position) for position in _positions(record)]
        except (StateError, DefinitionError) as error:
            problems.append(Problem(record.workflow_id, text_of(error)))
        except Exception as error:  # noqa: BLE001 - one workflow must not hide what is wrong with the others
            problems.append(Problem(record.workflow_id, f"{type(error).__name__}: {text_of(error)}"))
        else:
            problems += [problem for problem in found if problem is not None]
    return problems


def live_positions(store: Store, workflow: str | None = None) -> Iterator[LivePosition]:
    """Where every thread of every live workflow is, of one class by its workflow name, or of all."""
    for record in store.live(workflow):
        yield from _positions(record)


def _positions(record: Record) -> list[LivePosition]:
    try:
        return positions_of(record, Progress.from_json(record.progress))
    except StateError as error:
        return [LivePosition(record.workflow_id, "", unread=str(error))]


def positions_of(record: Record, progress: Progress) -> list[LivePosition]:
    """Where the threads of one workflow are, and what its pending teardowns need."""
    positions = [
        LivePosition(
            record.workflow_id,
            thread.at,
            thread.key,
            thread.go,
            thread.id,
            tuple(name for name, awaited in thread.awaited.items() if awaited.setup),
            thread.several,
        )
        for thread in progress.threads.values()
    ]
    positions += [
        LivePosition(
            record.workflow_id, gone.wait, gone.thread, gone.go, gone.id, (gone.event,), gone.several
        )
        for gone in progress.teardowns
    ]
    return positions


def _problem(tree: Tree, position: LivePosition) -> Problem | None:
    if position.unread is not None:
        return Problem(position.workflow_id, position.unread)
    thread = Thread(position.thread, position.at, position.go, position.thread_id, several=position.several)
    thread.awaited = {name: Awaited(setup=True) for name in position.set_up}
    try:
        waiting.check_handlers(tree, thread, node_of(tree, thread))
    except UnknownStatement as error:
        return Problem(position.workflow_id, str(error), position.thread)
    return None
