"""The messages of the resume queue: which workflow, and whether it is due or has to look at its conversation.

{"workflowId", "dueAt"}   resume it when that time has come
{"workflowId", "look"}    something in its conversation has changed; the number counts the deliveries
"""

from __future__ import annotations

import json
from functools import cache
from itertools import batched
from typing import TYPE_CHECKING, NotRequired, TypedDict

from botocore.exceptions import BotoCoreError, ClientError

from conversation import aws
from conversation.errors import TemporarilyUnavailable
from journeys.settings import QueueSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_ENTRIES = 10  # of one SendMessageBatch


class QueueUnavailable(TemporarilyUnavailable):
    """SQS did not take a message."""


class Wakeup(TypedDict):
    """A message's body."""

    workflowId: str
    dueAt: NotRequired[float]
    look: NotRequired[int]


def send(wakeups: Iterable[Wakeup], delay_seconds: int = 0) -> None:
    """Put wake-ups into the resume queue. Raises QueueUnavailable when one of them may not have arrived."""
    for batch in batched(wakeups, _MOST_ENTRIES, strict=False):
        try:
            answer = aws.sqs().send_message_batch(
                QueueUrl=_queue_url(),
                Entries=[
                    {"Id": str(number), "MessageBody": json.dumps(wakeup), "DelaySeconds": delay_seconds}
                    for number, wakeup in enumerate(batch)
                ],
            )
        except (ClientError, BotoCoreError) as error:
            raise QueueUnavailable(f"SQS did not answer ({aws.reason(error)})") from error
        if answer.get("Failed"):
            raise QueueUnavailable(f"SQS did not take {len(answer['Failed'])} of {len(batch)} messages")


@cache
def _queue_url() -> str:
    return QueueSettings.from_environment().queue_url
