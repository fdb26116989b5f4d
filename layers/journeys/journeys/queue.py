"""The messages of the resume queue: which workflow, and whether it is due or has to look at its conversation.

{"workflowId", "dueAt"}   resume it when that time has come
{"workflowId", "look"}    something in its conversation has changed; the number counts the deliveries
"""

from __future__ import annotations

import json
import time
from functools import cache
from itertools import batched
from typing import TYPE_CHECKING, NotRequired, TypedDict

from botocore.exceptions import BotoCoreError, ClientError

from conversation import aws
from conversation.errors import TemporarilyUnavailable
from conversation.observability import logger
from journeys.settings import QueueSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# A message that fails comes again after 5, 10, 20, 40, 80, 120, 120, ... seconds.
FIRST_PAUSE_SECONDS = 5
MAX_PAUSE_SECONDS = 120
# What SQS takes at once; ten wake-ups are a few kilobytes of the 256 that it takes together.
BATCH = 10
# SQS may take a part of a batch, and answers 200 then too: the others are sent once more.
_PAUSE_BEFORE_AGAIN = 0.1
BATCH_SECONDS = 2 * aws.CALL_SECONDS + _PAUSE_BEFORE_AGAIN


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
    """Put wake-ups into the resume queue, ten at a time. Ten take 12.1 s at the worst.

        send({"workflowId": workflow_id, "dueAt": 0} for workflow_id in overdue)

    Raises QueueUnavailable when one of them may not have arrived: those before it and some of its batch have.
    """
    for some in batched((json.dumps(wakeup) for wakeup in wakeups), BATCH, strict=False):
        left = {str(number): body for number, body in enumerate(some)}
        try:
            if len(left) == 1:  # it is taken, or it is an error that the SDK knows how to repeat
                aws.sqs().send_message(
                    QueueUrl=_queue_url(), MessageBody=left["0"], DelaySeconds=delay_seconds
                )
                continue
            if refused := _send_batch(left, delay_seconds):
                time.sleep(_PAUSE_BEFORE_AGAIN)
                refused = _send_batch({number: left[number] for number in refused}, delay_seconds)
        except (ClientError, BotoCoreError) as error:
            raise QueueUnavailable(f"SQS did not take messages ({aws.reason(error)})") from error
        if refused:
            reasons = ", ".join(sorted(set(refused.values())))
            raise QueueUnavailable(f"SQS did not take {len(refused)} of {len(left)} messages ({reasons})")


def _send_batch(bodies: Mapping[str, str], delay_seconds: int) -> dict[str, str]:
    """Send one batch, and return why SQS has not taken which of its messages.

    Whether it says that the fault is the sender's makes no difference: it says so when it throttles, too.
    """
    answer = aws.sqs().send_message_batch(
        QueueUrl=_queue_url(),
        Entries=[
            {"Id": number, "MessageBody": body, "DelaySeconds": delay_seconds}
            for number, body in bodies.items()
        ],
    )
    taken = {one["Id"] for one in answer.get("Successful", ())}
    reasons = {one["Id"]: one["Code"] for one in answer.get("Failed", ())}
    return {number: reasons.get(number, "no answer") for number in bodies if number not in taken}


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
