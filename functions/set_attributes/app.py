"""PATCH /conversations/{conversationId}/attributes: write participant data, key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation import timestamps
from conversation.api import Event, Response, answers_errors, conversation_id_in_path, json_object, respond
from conversation.attributes import check_change
from conversation.cold_start import connect, prepare
from conversation.observability import logger
from conversation.store import conversations

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

prepare(connect)


@logger.inject_lambda_context
@answers_errors
def lambda_handler(event: Event, _context: LambdaContext) -> Response:
    """Answer 200 with the document as it is after the change."""
    conversation_id = conversation_id_in_path(event)
    change = check_change(json_object(event))
    conversation = conversations().change_attributes(conversation_id, change)
    logger.info("attributes written", count=len(change))
    return respond(200, conversation.document(timestamps.now()))
