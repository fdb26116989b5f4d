"""The messages of the resume queue: which workflow, and whether it is due or has to look at its conversation.

{"workflowId", "dueAt"}   resume it when that time has come
{"workflowId", "look"}    something in its conversation has changed; the number counts the deliveries
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, NotRequired, TypedDict

from botocore.exceptions import BotoCoreError, ClientError

from conversation import aws
from conversation.errors import TemporarilyUnavailable
from journeys.settings import QueueSettings

if TYPE_CHECKING:
    from collections.abc import Iterable


class QueueUnavailable(TemporarilyUnavailable):
    """SQS did not take a message."""


class Wakeup(TypedDict):
    """A message's body."""

    workflowId: str
    dueAt: NotRequired[float]
    look: NotRequired[int]


def send(wakeups: Iterable[Wakeup], delay_seconds: int = 0) -> None:
    """Put wake-ups into the resume queue. Raises QueueUnavailable when one of them may not have arrived."""
    for wakeup in wakeups:
        try:
            aws.sqs().send_message(
                QueueUrl=_queue_url(), MessageBody=json.dumps(wakeup), DelaySeconds=delay_seconds
            )
        except (ClientError, BotoCoreError) as error:
            raise QueueUnavailable(f"SQS did not take a message ({aws.reason(error)})") from error


@cache
def _queue_url() -> str:
    return QueueSettings.from_environment().queue_url
