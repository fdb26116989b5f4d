"""Workflows that nobody can run: the progress can't be read, or nobody has the class any more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stepmark.core.planning import GIVE_UP_SECONDS
from stepmark.core.record import Progress, Status
from stepmark.errors import StateError

if TYPE_CHECKING:
    from stepmark.core.record import Record
    from stepmark.runtime.ledger import Runtime


def is_long_over(record: Record, now: float) -> bool:
    """Whether the end of a workflow's life is so long ago that what is left of it is given up."""
    end = _end_of(record)
    return end is not None and now >= end + GIVE_UP_SECONDS


def put_aside(runtime: Runtime, record: Record) -> Record:
    """Park what nobody can run, until its end comes or somebody cancels it; what is over stays so."""
    end = _end_of(record)
    if end is not None and runtime.clock.now() >= end:
        return close_unread(runtime, record)
    parked = replace(
        record,
        version=record.version + 1,
        status=record.status if record.status.closed else Status.PARKED,
        due_at=end,
        lease_owner=None,
        lease_until=None,
    )
    if replace(parked, version=record.version) == record:
        return record
    runtime.store.commit(parked, record.version)
    if parked.status is not record.status:
        runtime.tell_parked(record.workflow_id, ())
    return parked


def close_unread(runtime: Runtime, record: Record) -> Record:
    """End what nobody can run; what it waits for is not torn down."""
    try:
        progress = Progress.from_json(record.progress)
    except StateError:
        progress = Progress(ends_at=record.ends_at)
    progress.ended = progress.ended or (record.status if record.status.closed else Status.CANCELLED)
    progress.threads, progress.events, progress.teardowns = {}, [], []
    progress.timer = progress.error = progress.brief = None
    closed = replace(
        record,
        version=record.version + 1,
        status=progress.ended,
        progress=progress.to_json(),
        due_at=None,
        lease_owner=None,
        lease_until=None,
    )
    runtime.store.commit(closed, record.version)
    if runtime.keeper is not None:
        runtime.keeper.forget(record.workflow_id)
    return closed


def _end_of(record: Record) -> float | None:
    """The end of a workflow's life, as far as it can be read."""
    try:
        return Progress.from_json(record.progress).ends_at
    except StateError:
        return record.ends_at
