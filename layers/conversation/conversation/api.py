"""What the functions behind the HTTP API have in common: reading a request, answering, refusing."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, NotRequired, TypedDict
from urllib.parse import unquote

from conversation.errors import (
    AttributeReserved,
    ConversationError,
    ConversationNotFound,
    InvalidRequest,
    NumberConflict,
    RequestTooLarge,
    TemporarilyUnavailable,
)
from conversation.observability import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# 32 KB of attributes, each character of which JSON may escape to six bytes, and room for the rest.
MAX_BODY_BYTES = 256 * 1024

MAX_ID_LENGTH = 128
CONVERSATION_ID = rf"[A-Za-z0-9][A-Za-z0-9._:@-]{{0,{MAX_ID_LENGTH - 1}}}"
_CONVERSATION_ID = re.compile(CONVERSATION_ID)

# The first that fits counts, so that a subclass stands before its base.
_HTTP_STATUS: tuple[tuple[type[ConversationError], int], ...] = (
    (RequestTooLarge, 413),
    (InvalidRequest, 400),
    (ConversationNotFound, 404),
    (NumberConflict, 409),
    (AttributeReserved, 409),
    (TemporarilyUnavailable, 503),
)


class Event(TypedDict):
    """The part of an API Gateway proxy event that the functions read."""

    httpMethod: NotRequired[str]
    resource: NotRequired[str]
    headers: NotRequired[dict[str, str] | None]
    body: NotRequired[str | None]
    isBase64Encoded: NotRequired[bool]
    pathParameters: NotRequired[dict[str, str] | None]
    queryStringParameters: NotRequired[dict[str, str] | None]


class Response(TypedDict):
    """An API Gateway proxy answer."""

    statusCode: int
    headers: dict[str, str]
    body: str


type Handler = Callable[[Event, LambdaContext], Response]


def respond(status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
    """Make an answer of JSON that nothing on its way may keep."""
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})},
        "body": json.dumps(body, ensure_ascii=False),  # escaped, a string takes up to six times the room
    }


def answers_errors(handler: Handler) -> Handler:
    """Turn an error of this package into the API's error document; let every other one fail the function.

    What is not foreseen is a defect: it reaches the function's error metric and its alarm, and API Gateway
    answers with the template's own 5xx document.
    """

    @wraps(handler)
    def answer(event: Event, context: LambdaContext) -> Response:
        try:
            return handler(event, context)
        except ConversationError as error:
            status = next((status for kind, status in _HTTP_STATUS if isinstance(error, kind)), None)
            if status is None:
                raise
            log = logger.warning if error.retryable else logger.info
            # Not its text, which may quote what the client sent.
            log("request refused", code=error.code, http_status=status, reason=type(error).__name__)
            return refuse(status, error.code, str(error))
        finally:
            logger.thread_safe_clear_keys()

    return answer


def refuse(status: int, code: str, message: str) -> Response:
    """Make the API's error document; a 503 says when to come again."""
    retry_after = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return respond(status, {"error": {"code": code, "message": message}}, retry_after)


def conversation_id_in_path(event: Event) -> str:
    """Read `{conversationId}` from the path. Raises InvalidRequest when it is invalid."""
    return check_conversation_id(path_parameter(event, "conversationId"))


def path_parameter(event: Event, name: str) -> str:
    """Read a parameter from the path, empty when it is not there.

    API Gateway hands it over as it stands in the path: `v3:1a2b` may come as `v3%3A1a2b`.
    """
    return unquote((event.get("pathParameters") or {}).get(name, ""))


def check_conversation_id(value: object) -> str:
    """Validate an id: a Genesys UUID, a Connect ContactId, a Twilio CallSid, a SIP Call-ID, or the like.

    From here on each log line of the request carries it. Raises InvalidRequest.
    """
    text = require_string("conversationId", value)
    if not _CONVERSATION_ID.fullmatch(text):
        raise InvalidRequest(
            f"conversationId must be 1 to {MAX_ID_LENGTH} characters of A-Z a-z 0-9 . _ : @ -"
            " and begin with a letter or digit"
        )
    logger.thread_safe_append_keys(conversation_id=text)
    return text


def require_string(field: str, value: object) -> str:
    """Return a field's value if it is a JSON string; the error names the field and what it is instead."""
    if isinstance(value, str):
        return value
    raise InvalidRequest(f"{field} must be a JSON string, not {_json_type(value)}")


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number: put it in quotes"
    return "an array" if isinstance(value, list) else "an object"


def json_object(event: Event) -> dict[str, object]:
    """Read the body as one JSON object. Raises InvalidRequest or RequestTooLarge."""
    document = json_value(event)
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    return document


def json_value(event: Event) -> object:
    """Read the body as JSON of any kind. Raises InvalidRequest or RequestTooLarge."""
    body = event.get("body") or ""
    try:
        content = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
        if len(content) > MAX_BODY_BYTES:
            raise RequestTooLarge(f"the body must not exceed {MAX_BODY_BYTES:,} bytes")
        # With or without a byte-order mark, which some platforms put before a body.
        document = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
        json.dumps(
            document, ensure_ascii=False
        ).encode()  # an escaped half of a surrogate pair is not a character
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body must be JSON, encoded as UTF-8") from error
    return document


def _refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python reads although JSON has no such numbers."""
    raise ValueError(f"{name} is not JSON")
