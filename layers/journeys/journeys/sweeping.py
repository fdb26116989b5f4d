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
MAX_OVERDUE = 1_000
LOOKS_AT_ONCE = 2_000  # one message takes about 10 ms, and the function ends after a minute


def sweep() -> int:
    """Wake up what should have run half a minute ago, and say how many workflows that were."""
    overdue = _store().due(time.time() - OVERDUE_SECONDS, MAX_OVERDUE)
    send({"workflowId": workflow_id, "dueAt": 0} for workflow_id in overdue)
    if overdue:
        count("JourneyOverdue", len(overdue))
    return len(overdue)


def look_at_all(after: str = "") -> tuple[int, str | None]:
    """Have live workflows look at their conversations, after the stream has lost something.

        count, last = look_at_all()
        count, last = look_at_all(last)   # when there was a last one

    Takes 2,000 of them, in the order of their ids. Returns how many looked, and the id after which to go on.
    """
    live = sorted(workflow_id for workflow_id in _store().open_ids() if workflow_id > after)
    some = live[:LOOKS_AT_ONCE]
    send({"workflowId": workflow_id, "look": 1} for workflow_id in some)
    return len(some), some[-1] if len(live) > len(some) else None


@cache
def _store() -> DynamoDBStore:
    return DynamoDBStore(SweepSettings.from_environment().table_name, aws.dynamodb())
