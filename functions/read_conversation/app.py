"""GET /conversations/{conversationId}: the conversation as it stands, or as soon as its caller is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation import settings, timestamps
from conversation.api import Event, Response, answers_errors, conversation_id_in_path, respond
from conversation.cold_start import connect, prepare
from conversation.errors import InvalidRequest
from conversation.observability import logger
from conversation.store import conversations
from conversation.waiting import MAX_SECONDS, read_when_ended

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

prepare(connect)


@logger.inject_lambda_context
@answers_errors
def lambda_handler(event: Event, _context: LambdaContext) -> Response:
    """Answer 200 with the document, flat when the IVR asks for that."""
    conversation_id = conversation_id_in_path(event)
    parameters = event.get("queryStringParameters") or {}
    flat = _is_flat(parameters.get("format"))
    wait = min(_wait_seconds(parameters.get("wait")), settings.whole_number("MAX_WAIT_SECONDS"))
    conversation = read_when_ended(conversations(), conversation_id, wait)
    now = timestamps.now()
    return respond(200, conversation.flat_document(now) if flat else conversation.document(now))


def _wait_seconds(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_SECONDS))):
        raise InvalidRequest(f"wait must be a whole number of seconds from 0 to {MAX_SECONDS}")
    seconds = int(text)
    if seconds > MAX_SECONDS:
        raise InvalidRequest(f"wait must be a whole number of seconds from 0 to {MAX_SECONDS}")
    return seconds


def _is_flat(text: str | None) -> bool:
    if text not in {None, "flat"}:
        raise InvalidRequest("format must be flat; leave it out for the full document")
    return text == "flat"
