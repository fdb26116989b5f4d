"""The live workflows of a store, and what a deploy would do to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepmark.core.check import Problem, problem_at
from stepmark.core.positions import LivePosition, positions_of
from stepmark.core.record import Progress
from stepmark.core.shape import build
from stepmark.core.state import codec_of
from stepmark.errors import DefinitionError, StateError, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepmark.core.record import Record
    from stepmark.definition.workflow import Workflow
    from stepmark.stores.protocol import Store


def check_store(cls: type[Workflow], store: Store) -> list[Problem]:
    """check() over all live workflows of a store, each with the definition that its own state gives.

    A state that the new class can't read, a definition() that raises on it, and a record that nobody can
    read are problems too.
    """
    codec = codec_of(cls)
    problems: list[Problem] = []
    for record in store.live(cls.__workflow_name__):
        try:
            tree = build(codec.load(record.state))
            found = [problem_at(tree, position) for position in _positions(record)]
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
        return positions_of(record.workflow_id, Progress.from_json(record.progress))
    except StateError as error:
        return [LivePosition(record.workflow_id, "", unread=str(error))]
