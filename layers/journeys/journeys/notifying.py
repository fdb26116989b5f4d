"""What the conversation table's stream means for journeys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from journeys.names import workflow_id_of
from journeys.queue import QueueUnavailable, send

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    type Record = dict[str, Any]


def notify(records: Iterable[Record]) -> str | None:
    """Wake up each journey of the conversations that have changed.

    What has changed is not handed on: a journey looks for itself, so that records may come twice, late and in
    any order. Returns the sequence number of the record at which the queue failed, or None: from there on the
    records have to come again.
    """
    woken: set[str] = set()
    for record in records:
        workflow_ids = set(_journeys_of(record["dynamodb"])) - woken
        try:
            send({"workflowId": workflow_id, "look": 1} for workflow_id in sorted(workflow_ids))
        except QueueUnavailable:
            return str(record["dynamodb"]["SequenceNumber"])
        woken |= workflow_ids
    return None


def _journeys_of(change: Record) -> Iterator[str]:
    """The journeys of a conversation in which something has changed that a journey can wait for."""
    new, old = change.get("NewImage", {}), change.get("OldImage", {})
    if any(new.get(name) != old.get(name) for name in ("attributes", "status")):
        for journey in new.get("journeys", {}).get("SS", ()):
            start_id = new["startId"]["S"] if "startId" in new else None
            yield workflow_id_of(new["conversationId"]["S"], journey, start_id)
