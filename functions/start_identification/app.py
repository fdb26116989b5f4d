"""POST /conversations: start to identify the caller, and answer while the lookups run."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from conversation import aws, timestamps
from conversation.api import (
    Event,
    Response,
    answers_errors,
    check_conversation_id,
    json_object,
    require_string,
    respond,
)
from conversation.attributes import check_initial
from conversation.cold_start import connect, prepare
from conversation.errors import InvalidRequest
from conversation.observability import logger
from conversation.phone_numbers import MAX_LENGTH, Caller, read_caller
from conversation.settings import StartSettings
from conversation.start import StartRequest, start
from conversation.store import conversations

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

prepare(connect, aws.step_functions)

_FIELDS = frozenset({"conversationId", "callerNumber", "attributes"})


@cache
def _settings() -> StartSettings:
    return StartSettings.from_environment()


@logger.inject_lambda_context
@answers_errors
def lambda_handler(event: Event, _context: LambdaContext) -> Response:
    """Answer 202 the first time and 200 when the same start is repeated."""
    request = _parse(json_object(event))
    started = start(request, conversations(), aws.step_functions(), _settings())
    logger.info(
        "identification started" if started.is_new else "start repeated",
        status=started.conversation.status.value,
    )
    return respond(202 if started.is_new else 200, started.conversation.document(timestamps.now()))


def _parse(body: dict[str, object]) -> StartRequest:
    if body.keys() - _FIELDS:
        raise InvalidRequest(f"send only these fields: {', '.join(sorted(_FIELDS))}")
    for name in ("conversationId", "callerNumber"):
        if name not in body:
            raise InvalidRequest(f"{name} is missing; send it as a JSON string")
    attributes = body.get("attributes")
    return StartRequest(
        conversation_id=check_conversation_id(body["conversationId"]),
        caller=_caller(body["callerNumber"]),
        attributes={} if attributes is None else check_initial(attributes),
    )


def _caller(value: object) -> Caller:
    """Read the caller's number: what it says is the caller's doing, what type it has is the IVR's."""
    text = "" if value is None else require_string("callerNumber", value)
    if len(text) > MAX_LENGTH:
        raise InvalidRequest(f"callerNumber must not exceed {MAX_LENGTH} characters")
    return read_caller(text, _settings().default_region)
