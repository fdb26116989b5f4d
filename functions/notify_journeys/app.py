"""Wake up the journeys of the conversations that have changed; the table's stream calls this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from conversation.observability import logger
from conversation.tracing import tracer
from journeys.notifying import notify

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


class Event(TypedDict):
    """What the stream hands over; its records hold both images of an item."""

    Records: list[dict[str, Any]]


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: Event, _context: LambdaContext) -> None:
    """Send one wake-up for each journey. Raises QueueUnavailable: then the same records come again."""
    count = notify(event["Records"])
    logger.info("journeys notified", records=len(event["Records"]), journeys=count)
