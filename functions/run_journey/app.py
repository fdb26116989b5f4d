"""Run the journeys that the resume queue wakes up; the only function in which their steps run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypedDict

from conversation.cold_start import connect, prepare
from conversation.observability import logger
from journeys.engines import engine
from journeys.queue import bring_back
from journeys.reporting import report_failed
from journeys.running import run

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse, PartialItemFailures
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from journeys.queue import Message

prepare(connect, engine)


class Event(TypedDict):
    """What SQS hands over."""

    Records: list[Message]


@logger.inject_lambda_context
def lambda_handler(event: Event, _context: LambdaContext) -> PartialItemFailureResponse:
    """Do what each message asks for; one that fails comes again, the others do not."""
    failures: list[PartialItemFailures] = []
    for message in event["Records"]:
        logger.thread_safe_clear_keys()
        logger.thread_safe_append_keys(message_id=message["messageId"])
        try:
            run(json.loads(message["body"]))
        except Exception as error:  # noqa: BLE001 - one message must not bring back the others
            report_failed(error)
            bring_back(message)
            failures.append({"itemIdentifier": message["messageId"]})
    return {"batchItemFailures": failures}
