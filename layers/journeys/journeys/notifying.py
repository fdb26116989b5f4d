"""What the conversation table's stream means for journeys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from journeys.names import workflow_id_of
from journeys.queue import send

if TYPE_CHECKING:
    from collections.abc import Iterable


def notify(records: Iterable[dict[str, Any]]) -> int:
    """Wake up each journey of the conversations that have changed, and say how many those were.

    What has changed is not handed on: a journey looks for itself, so that records may come twice, late and in
    any order. Raises QueueUnavailable.
    """
    workflow_ids: dict[str, None] = {}
    for record in records:
        new, old = record["dynamodb"].get("NewImage", {}), record["dynamodb"].get("OldImage", {})
        if any(new.get(name) != old.get(name) for name in ("attributes", "status")):
            for journey in new.get("journeys", {}).get("SS", ()):
                workflow_ids[workflow_id_of(new["conversationId"]["S"], journey)] = None
    send({"workflowId": workflow_id, "look": 1} for workflow_id in workflow_ids)
    return len(workflow_ids)
