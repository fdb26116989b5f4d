"""Wake up the journeys whose wake-up was lost; a schedule calls this every minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

from conversation import aws
from conversation.cold_start import prepare
from conversation.observability import logger
from journeys.sweeping import look_at_all, sweep

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

prepare(aws.dynamodb, aws.sqs)


class Event(TypedDict):
    """What the schedule sends, or an operator: {"lookAtAll": true} makes journeys look again.

    An operator goes on with {"lookAtAll": true, "after": …} while the answer has `after`.
    """

    lookAtAll: NotRequired[bool]
    after: NotRequired[str]


class Answer(TypedDict):
    """How many journeys were woken up, and, unless that were all, where to go on."""

    journeys: int
    after: NotRequired[str]


@logger.inject_lambda_context
def lambda_handler(event: Event, context: LambdaContext) -> Answer:
    """Send the wake-ups. Raises QueueUnavailable and StoreUnavailable: the next minute does it."""
    after = None
    if event.get("lookAtAll"):
        count, after = look_at_all(
            event.get("after", ""), lambda: context.get_remaining_time_in_millis() / 1000
        )
    else:
        count = sweep()
    logger.info("journeys swept", journeys=count)
    return {"journeys": count} if after is None else {"journeys": count, "after": after}
