"""AWS in this process: moto, corrected where a test depends on what the services really do.

What differs without the corrections: moto lets two DynamoDB calls at once interleave, where DynamoDB is
atomic for each item; it calls every execution without a name "None"; and it answers a Lambda invocation
with its own input. The caches change nothing but the speed: a definition is parsed once, not once for each
execution.
"""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from jsonpath_ng.ext.parser import parse
from moto import mock_aws
from moto.dynamodb.responses import DynamoHandler
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_dynamodb
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.asl.utils.boto_client import boto_client_for
from moto.stepfunctions.parser.backend.execution import Execution
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from tests.support.faults import refused

ACCOUNT = "123456789012"
REGION = "eu-west-1"

type Invoke = Callable[[str, Any], Any]
"""Takes a function's ARN and a payload; returns its answer, or raises what the function raised."""


class Throttled(Exception):
    """Lambda runs no more of this function for the moment; raised by `invoke` in place of the function."""


_parse_definition = cache(AmazonStateLanguageParser.parse)
_make_task_client = cache(boto_client_for)
_parse_path = cache(parse)


def task_client(service: str) -> Any:
    """The client with which the state machine's tasks call a service."""
    return _make_task_client(REGION, service)


@contextmanager
def simulated_aws(invoke: Invoke) -> Iterator[None]:
    """Answer every AWS call from here for the length of a `with` block; `invoke` stands for Lambda."""
    one_at_a_time = threading.RLock()
    call_action = DynamoHandler.call_action
    start_execution = StepFunctionsParserBackend.start_execution

    def call_atomically(handler: DynamoHandler) -> Any:
        with one_at_a_time:
            return call_action(handler)

    def start_with_name(
        backend: StepFunctionsParserBackend, state_machine_arn: str, name: str = "", *rest: Any, **more: Any
    ) -> Execution:
        return start_execution(backend, state_machine_arn, name or str(uuid.uuid4()), *rest, **more)

    def invoke_function(parameters: dict[str, Any], **_more: object) -> dict[str, Any]:
        try:
            payload = invoke(parameters["FunctionName"], json.loads(parameters["Payload"]))
        except Throttled as throttled:
            # Not an error of the function: the call to Lambda itself fails.
            refusal = refused("TooManyRequestsException")
            raise refusal() from throttled
        except Exception as error:  # noqa: BLE001 - whatever a function raises, Lambda reports it like this
            description = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": description}
        return {"StatusCode": 200, "Payload": json.loads(json.dumps(payload))}

    with (
        pytest.MonkeyPatch.context() as patch,
        mock_aws(config={"stepfunctions": {"execute_state_machine": True}}),
    ):
        patch.setattr(DynamoHandler, "call_action", call_atomically)
        patch.setattr(StepFunctionsParserBackend, "start_execution", start_with_name)
        patch.setattr(lambda_eval_utils, "_invoke_lambda_function", invoke_function)
        patch.setattr(AmazonStateLanguageParser, "parse", staticmethod(_parse_definition))
        patch.setattr(json_path, "parse", _parse_path)
        patch.setattr(
            state_task_service_dynamodb, "boto_client_for", lambda *, service, **_: task_client(service)
        )
        yield
