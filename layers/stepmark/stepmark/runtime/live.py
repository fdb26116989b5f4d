"""The live workflows of a store, and what a deploy would do to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepmark.core.check import problems_of
from stepmark.core.positions import LivePosition, positions_of
from stepmark.core.record import Progress
from stepmark.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepmark.core.check import Problem
    from stepmark.core.record import Record
    from stepmark.definition.workflow import Workflow
    from stepmark.stores.protocol import Store


def check_store(cls: type[Workflow], store: Store) -> list[Problem]:
    """check() over all live workflows of a store, each with the definition that its own state gives.

    A state that the new class can't read, a definition() that raises on it, and a record that nobody can
    read are problems too.
    """
    return [
        problem
        for record in store.live(cls.__workflow_name__)
        for problem in problems_of(cls, record.workflow_id, record.state, _positions(record))
    ]


def live_positions(store: Store, workflow: str | None = None) -> Iterator[LivePosition]:
    """Where every thread of every live workflow is, of one class by its workflow name, or of all."""
    for record in store.live(workflow):
        yield from _positions(record)


def _positions(record: Record) -> list[LivePosition]:
    try:
        return positions_of(record.workflow_id, Progress.from_json(record.progress))
    except StateError as error:
        return [LivePosition(record.workflow_id, "", unread=str(error))]
