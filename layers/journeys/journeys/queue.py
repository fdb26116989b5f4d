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
from conversation.observability import logger
from journeys.settings import QueueSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

# A message that fails comes again after 5, 10, 20, 40, 80, 120, 120, ... seconds.
FIRST_PAUSE_SECONDS = 5
MAX_PAUSE_SECONDS = 120


class QueueUnavailable(TemporarilyUnavailable):
    """SQS did not take a message."""


class Wakeup(TypedDict):
    """A message's body."""

    workflowId: str
    dueAt: NotRequired[float]
    look: NotRequired[int]


class Message(TypedDict):
    """The part of an SQS record that is read."""

    messageId: str
    receiptHandle: str
    body: str
    attributes: Attributes


class Attributes(TypedDict):
    """What SQS counts."""

    ApproximateReceiveCount: str


def send(wakeups: Iterable[Wakeup], delay_seconds: int = 0) -> None:
    """Put wake-ups into the resume queue. Raises QueueUnavailable when one of them may not have arrived."""
    for wakeup in wakeups:
        try:
            aws.sqs().send_message(
                QueueUrl=_queue_url(), MessageBody=json.dumps(wakeup), DelaySeconds=delay_seconds
            )
        except (ClientError, BotoCoreError) as error:
            raise QueueUnavailable(f"SQS did not take a message ({aws.reason(error)})") from error


def bring_back(message: Message) -> None:
    """Have a message that failed come again soon, each time a little later.

    Left alone it would be hidden for as long as a function that died with it might have worked on it. When
    SQS does not take this, the message comes then.
    """
    receipts = int(message["attributes"]["ApproximateReceiveCount"])
    try:
        aws.sqs().change_message_visibility(
            QueueUrl=_queue_url(),
            ReceiptHandle=message["receiptHandle"],
            VisibilityTimeout=min(FIRST_PAUSE_SECONDS * 2 ** (receipts - 1), MAX_PAUSE_SECONDS),
        )
    except (ClientError, BotoCoreError) as error:
        logger.warning("message comes back late", reason=aws.reason(error))


@cache
def _queue_url() -> str:
    return QueueSettings.from_environment().queue_url
