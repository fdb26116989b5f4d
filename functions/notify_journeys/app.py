"""Wake up the journeys of the conversations that have changed; the table's stream calls this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from conversation import aws
from conversation.cold_start import prepare
from conversation.observability import logger
from journeys.notifying import notify

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.typing import LambdaContext

prepare(aws.sqs)


class Event(TypedDict):
    """What the stream hands over; its records hold both images of an item."""

    Records: list[dict[str, Any]]


@logger.inject_lambda_context
def lambda_handler(event: Event, _context: LambdaContext) -> PartialItemFailureResponse:
    """Send one wake-up for each journey; what could not be sent comes again."""
    failed_at = notify(event["Records"])
    if failed_at is None:
        logger.info("changes passed on", records=len(event["Records"]))
        return {"batchItemFailures": []}
    logger.warning("the queue takes no wake-ups", sequence_number=failed_at)
    return {"batchItemFailures": [{"itemIdentifier": failed_at}]}
