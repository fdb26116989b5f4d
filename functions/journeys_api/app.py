"""The journeys API: start a journey, look at its workflow, send it an event, cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation.api import (
    Event,
    Response,
    answers_errors,
    conversation_id_in_path,
    json_object,
    json_value,
    path_parameter,
    respond,
)
from conversation.cold_start import connect, prepare
from conversation.observability import logger
from journeys.api import answers_workflow_errors, event_id, workflow_id_in_path
from journeys.engines import engine
from journeys.reporting import about, report
from journeys.start import start

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

prepare(connect, engine)


@logger.inject_lambda_context
@answers_errors
@answers_workflow_errors
def lambda_handler(event: Event, _context: LambdaContext) -> Response:
    """Answer the request with the function of its route."""
    logger.thread_safe_clear_keys()
    return _ROUTES[event["httpMethod"], event["resource"]](event)


def _start(event: Event) -> Response:
    conversation_id = conversation_id_in_path(event)
    logger.thread_safe_append_keys(conversation_id=conversation_id)
    fields = json_object(event) if event.get("body") else {}
    snapshot = start(conversation_id, path_parameter(event, "journey"), fields)
    about(snapshot.workflow_id)
    report(snapshot)
    document = {
        "workflowId": snapshot.workflow_id,
        "status": snapshot.status,
        "waitingFor": snapshot.waiting_for,
    }
    return respond(202 if snapshot.created else 200, document)


def _read(event: Event) -> Response:
    return respond(200, engine().get(workflow_id_in_path(event)).to_dict(brief=True))


def _send(event: Event) -> Response:
    payload = json_value(event) if event.get("body") else None
    output = engine().callback(
        workflow_id_in_path(event), path_parameter(event, "event"), payload, event_id=event_id(event)
    )
    return respond(200, {"output": output})


def _cancel(event: Event) -> Response:
    snapshot = engine().cancel(workflow_id_in_path(event))
    report(snapshot)
    return respond(200, snapshot.to_dict(brief=True))


_ROUTES = {
    ("POST", "/conversations/{conversationId}/journeys/{journey}"): _start,
    ("GET", "/workflows/{workflowId}"): _read,
    ("POST", "/workflows/{workflowId}/events/{event}"): _send,
    ("DELETE", "/workflows/{workflowId}"): _cancel,
}
