"""What the journeys API adds to that of conversations: parameters, and the answers for its errors."""

from __future__ import annotations

import re
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING

from stepmark import (
    EventRefused,
    EventsFull,
    HandlerFailed,
    OutputForgotten,
    PayloadRefused,
    PayloadTooLarge,
    RecordTooLarge,
    RetryableError,
    StepmarkError,
    UnknownEvent,
    WorkflowClosed,
    WorkflowNotFound,
)

from conversation.api import CONVERSATION_ID, path_parameter, refuse
from conversation.errors import ConversationError, InvalidRequest
from conversation.observability import logger
from journeys.errors import JourneyNotFound
from journeys.reporting import about, report_failed

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from conversation.api import Event, Handler, Response

# One without a start id was begun by the release before these.
_WORKFLOW_ID = re.compile(rf"{CONVERSATION_ID}~[A-Za-z0-9_-]{{1,64}}(~[0-9a-f]{{16}})?")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")

# The first that fits counts. What is in none of these rows is no client's doing, and somebody has to mend it.
HTTP_STATUS: tuple[tuple[type[Exception], HTTPStatus, str], ...] = (
    (JourneyNotFound, HTTPStatus.NOT_FOUND, "JOURNEY_NOT_FOUND"),
    (WorkflowNotFound, HTTPStatus.NOT_FOUND, "WORKFLOW_NOT_FOUND"),
    (PayloadTooLarge, HTTPStatus.CONTENT_TOO_LARGE, "REQUEST_TOO_LARGE"),
    (PayloadRefused, HTTPStatus.BAD_REQUEST, "INVALID_REQUEST"),
    (RecordTooLarge, HTTPStatus.CONTENT_TOO_LARGE, "REQUEST_TOO_LARGE"),
    (WorkflowClosed, HTTPStatus.CONFLICT, "WORKFLOW_CLOSED"),
    (UnknownEvent, HTTPStatus.CONFLICT, "UNKNOWN_EVENT"),
    (EventRefused, HTTPStatus.CONFLICT, "EVENT_REFUSED"),
    (OutputForgotten, HTTPStatus.CONFLICT, "OUTPUT_FORGOTTEN"),
    (HandlerFailed, HTTPStatus.CONFLICT, "EVENT_FAILED"),
    (EventsFull, HTTPStatus.CONFLICT, "EVENTS_FULL"),  # it may be full for as long as the journey waits
    (RetryableError, HTTPStatus.SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE"),
)


def answers_workflow_errors(handler: Handler) -> Handler:
    """Turn an error of stepmark into the API's error document."""

    @wraps(handler)
    def answer(event: Event, context: LambdaContext) -> Response:
        try:
            return handler(event, context)
        except (StepmarkError, JourneyNotFound) as error:
            return _answer(error)

    return answer


def _answer(error: StepmarkError | JourneyNotFound) -> Response:
    if isinstance(error, HandlerFailed):
        return _answer_failed_handler(error)
    for kind, status, code in HTTP_STATUS:
        if isinstance(error, kind):
            logger.info("request refused", code=code, http_status=status, reason=type(error).__name__)
            return refuse(status, code, _message(error))
    report_failed(error)
    return refuse(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "TEMPORARILY_UNAVAILABLE",
        "the journey has to be repaired; send the request again later",
    )


def _message(error: StepmarkError | JourneyNotFound) -> str:
    """The message for a client; nothing that a journey's own code has said about a payload."""
    if isinstance(error, PayloadRefused):
        return error.brief or "the payload does not fit the event; look at what the journey says of it"
    if isinstance(error, EventRefused):
        return error.brief or "the journey does not take this event now; look at what it waits for"
    return str(error)


def _answer_failed_handler(error: HandlerFailed) -> Response:
    """Answer for an event's own handler, whose error may quote anything: by the type of that error alone."""
    report_failed(error)
    cause = error.__cause__
    if isinstance(cause, RetryableError) or (isinstance(cause, ConversationError) and cause.retryable):
        return refuse(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "TEMPORARILY_UNAVAILABLE",
            "nothing has changed; send the event again",
        )
    return refuse(
        HTTPStatus.CONFLICT,
        "EVENT_FAILED",
        "the journey could not handle the event, and nothing has changed; its log says why",
    )


def workflow_id_in_path(event: Event) -> str:
    """Read `{workflowId}` from the path; what can't be one is not found. Raises WorkflowNotFound."""
    workflow_id = path_parameter(event, "workflowId")
    if not _WORKFLOW_ID.fullmatch(workflow_id):
        raise WorkflowNotFound("there is no such workflow; use the workflowId from the answer to its start")
    about(workflow_id)
    return workflow_id


def event_id(event: Event) -> str | None:
    """What tells a request's event from all others: the header Idempotency-Key, within the event's own name.

    Another event with the same key is another request: who says `deny` must never be told `approved`.
    Raises InvalidRequest when the header is invalid.
    """
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    key = headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key must be 1 to 255 visible ASCII characters")
    return None if key is None else f"{key} {path_parameter(event, 'event')}"
