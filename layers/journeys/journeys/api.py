"""What the journeys API adds to that of conversations: parameters, and the answers for its errors."""

from __future__ import annotations

import re
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING

from stepmark import (
    PayloadRefused,
    RetryableError,
    StepmarkError,
    UnknownEvent,
    WorkflowClosed,
    WorkflowNotFound,
)

from conversation.api import refuse
from conversation.errors import InvalidRequest
from conversation.observability import logger
from journeys.errors import JourneyNotFound

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from conversation.api import Event, Handler, Response

_WORKFLOW_ID = re.compile(r"[A-Za-z0-9_-]{1,80}~[A-Za-z0-9_-]{1,64}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")

# The first that fits counts. What is in none of these rows is a defect and fails the function.
HTTP_STATUS: tuple[tuple[type[Exception], HTTPStatus, str], ...] = (
    (JourneyNotFound, HTTPStatus.NOT_FOUND, "JOURNEY_NOT_FOUND"),
    (WorkflowNotFound, HTTPStatus.NOT_FOUND, "WORKFLOW_NOT_FOUND"),
    (PayloadRefused, HTTPStatus.BAD_REQUEST, "INVALID_REQUEST"),
    (WorkflowClosed, HTTPStatus.CONFLICT, "WORKFLOW_CLOSED"),
    (UnknownEvent, HTTPStatus.CONFLICT, "UNKNOWN_EVENT"),
    (RetryableError, HTTPStatus.SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE"),
)


def answers_workflow_errors(handler: Handler) -> Handler:
    """Turn an error of stepmark into the API's error document."""

    @wraps(handler)
    def answer(event: Event, context: LambdaContext) -> Response:
        try:
            return handler(event, context)
        except (StepmarkError, JourneyNotFound) as error:
            for kind, status, code in HTTP_STATUS:
                if isinstance(error, kind):
                    logger.info("request refused", code=code, http_status=status, reason=type(error).__name__)
                    return refuse(status, code, str(error))
            raise

    return answer


def workflow_id_in_path(event: Event) -> str:
    """Read `{workflowId}` from the path; what can't be one is not found. Raises WorkflowNotFound."""
    workflow_id = parameter(event, "workflowId")
    if not _WORKFLOW_ID.fullmatch(workflow_id):
        raise WorkflowNotFound("there is no such workflow; take the workflowId of the answer to its start")
    return workflow_id


def parameter(event: Event, name: str) -> str:
    """Read a parameter from the path."""
    return (event.get("pathParameters") or {}).get(name, "")


def idempotency_key(event: Event) -> str | None:
    """Read the header Idempotency-Key. Raises InvalidRequest when it is none."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    key = headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key must have 1 to 255 visible ASCII characters")
    return key
