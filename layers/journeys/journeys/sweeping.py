"""Find the workflows whose wake-up was lost: by a crash between a commit and its message, or by the queue."""

from __future__ import annotations

import time
from functools import cache

from stepmark.dynamodb import DynamoDBStore

from conversation import aws
from conversation.observability import count
from journeys.queue import send
from journeys.settings import SweepSettings

OVERDUE_SECONDS = 30  # the queue has that long before a wake-up counts as lost
MOST_OVERDUE = 1_000


def sweep() -> int:
    """Wake up what should have run half a minute ago, and say how many workflows that were."""
    overdue = _store().due(time.time() - OVERDUE_SECONDS, MOST_OVERDUE)
    send({"workflowId": workflow_id, "dueAt": 0} for workflow_id in overdue)
    if overdue:
        count("JourneyOverdue", len(overdue))
    return len(overdue)


def look_at_all() -> int:
    """Have every live workflow look at its conversation, after the stream has lost something."""
    live = [record.workflow_id for record in _store().live()]
    send({"workflowId": workflow_id, "look": 1} for workflow_id in live)
    return len(live)


@cache
def _store() -> DynamoDBStore:
    return DynamoDBStore(SweepSettings.from_environment().table_name, aws.dynamodb())
