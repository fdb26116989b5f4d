"""What the template keeps out of logs. The e2e tests read the lines that are really written."""

import ast
import asyncio
import contextvars
import json
import logging
import re

import httpx
import pytest

from conversation import http_client
from conversation.sources import client
from tests.architecture.deployment import (
    DOCUMENT,
    FUNCTIONS,
    RESOURCES,
    STATE_MACHINE_PROPERTIES,
    Function,
    events,
)
from tests.support.template import REPOSITORY
from tests.support.wire import answered_by

# Of all that API Gateway can put into an access log, what tells neither who calls nor with which key.
HARMLESS = {
    "$context.error.responseType",
    "$context.httpMethod",
    "$context.requestId",
    "$context.requestTime",
    "$context.resourcePath",
    "$context.responseLatency",
    "$context.responseLength",
    "$context.status",
    "$context.xrayTraceId",
}


def test_the_access_log_holds_nothing_of_the_caller() -> None:
    text = RESOURCES["Api"]["Properties"]["AccessLogSetting"]["Format"]
    fields: dict[str, str] = json.loads(text)
    assert set(fields.values()) <= HARMLESS
    assert set(re.findall(r"\$[\w.]+", text)) == set(fields.values())


def test_no_route_carries_the_caller_in_its_path() -> None:
    parameters = {
        name
        for function in FUNCTIONS
        for event in events(function)
        for name in re.findall(r"\{(\w+)", event["Path"])
    }
    assert parameters == {"conversationId", "journey", "workflowId", "event"}


def test_the_gateway_logs_no_bodies() -> None:
    for settings in RESOURCES["Api"]["Properties"]["MethodSettings"]:
        assert settings["LoggingLevel"] == "OFF"
        assert settings["DataTraceEnabled"] is False


def test_the_state_machine_logs_no_execution_data() -> None:
    assert STATE_MACHINE_PROPERTIES["Logging"]["IncludeExecutionData"] is False


def test_no_function_logs_its_event() -> None:
    variables = DOCUMENT["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_LOG_LEVEL"] == "INFO"
    for function in FUNCTIONS:
        own = variables | function.properties["Environment"]["Variables"]
        assert not {"POWERTOOLS_LOGGER_LOG_EVENT", "POWERTOOLS_DEV", "POWERTOOLS_DEBUG"} & own.keys()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_no_function_logs_what_it_is_given(function: Function) -> None:
    tree = ast.parse((REPOSITORY / f"functions/{function.folder}/app.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        name = ast.unparse(call.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == "logger.inject_lambda_context":
            assert given.get("log_event", "False") == "False"


def test_the_http_library_logs_no_url_even_when_everything_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    alpha = client.SourceClient("alpha", "https://alpha.example")
    answered = answered_by(lambda _request: httpx.Response(200, json=[]))
    context = contextvars.copy_context()
    context.run(http_client.transport.set, answered)
    answer = context.run(asyncio.run, alpha.request("GET", "/customers", params={"phone": "+33612345678"}))
    assert answer.status == httpx.codes.OK
    assert "33612345678" not in caplog.text
