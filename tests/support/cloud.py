"""The stack without CloudFormation: table, state machine, secrets and functions as the template has them.

    with deployed({"LookupDeadlineSeconds": "5"}) as cloud:
        cloud.lookups["gamma"] = knows("gamma")
        assert cloud.start("6c5c").status == 202

The functions are the real handlers, each in the environment that the template gives it.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import boto3
import pytest
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

import journeys.queue
from conversation import credentials, settings, timestamps
from conversation.sources import gamma
from conversation.store import conversations
from journeys import engines, sweeping
from tests.support.simulated_aws import ACCOUNT, REGION, simulated_aws
from tests.support.template import Reference, Template

if TYPE_CHECKING:
    from moto.stepfunctions.parser.backend.execution import Execution
    from mypy_boto3_dynamodb import DynamoDBClient

CALLER = "+33612345678"
SOURCES = ("alpha", "beta", "gamma")
STACK = "meanwhile"
TABLE = "Conversations"
WORKFLOWS = "Workflows"
TOKENS = "SourceTokens"

# Nothing listens on the discard port of the loopback interface: a lookup that a test forgot fails.
NOWHERE = {
    name: "http://127.0.0.1:9"
    for name, parameter in Template.load().document["Parameters"].items()
    if name.endswith("Url") and "Default" not in parameter
}

type Lookup = Callable[[Mapping[str, str]], Mapping[str, object]]

# What a function is told about the time that it has left.
remaining_milliseconds: ContextVar[Callable[[], int]] = ContextVar(
    "remaining_milliseconds", default=lambda: 60_000
)


class Answer(NamedTuple):
    """What the HTTP API answers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True)
class _Function:
    handler: Callable[[Any, Any], Any]
    environment: Mapping[str, str]


@dataclass
class Cloud:
    """A deployed stack. `lookups` replaces lookup functions, by source; `clock` tells them the time."""

    functions: Mapping[str, _Function]
    definition: dict[str, Any]
    state_machine_arn: str
    dynamodb: "DynamoDBClient"
    lookups: dict[str, Lookup] = field(default_factory=dict)
    clock: Callable[[], datetime] | None = None

    def invoke(self, name_or_arn: str, event: Any) -> Any:
        """Run a function by its logical name or its ARN, as Lambda does; what it raises comes through."""
        name = name_or_arn.rpartition(":")[2]
        for source, replacement in self.lookups.items():
            if name == lookup_function(source):
                return replacement(event)
        return self.call(name, event)

    def call(self, name: str, event: Any, **environment: str) -> Any:
        """Run a real function, in the template's environment but for what is given here."""
        function = self.functions[name]
        context = copy_context()
        context.run(settings.environment.set, {**function.environment, **environment})
        if self.clock is not None:
            context.run(timestamps.clock.set, self.clock)
        answer = context.run(function.handler, json.loads(json.dumps(event)), _context(name))
        return json.loads(json.dumps(answer))

    def start(
        self, conversation_id: str, number: str | None = CALLER, attributes: Mapping[str, str] | None = None
    ) -> Answer:
        body = {"conversationId": conversation_id, "callerNumber": number, "attributes": attributes}
        return self.request("StartIdentificationFunction", body=json.dumps(body))

    def read(self, conversation_id: str, **query: str) -> Answer:
        return self.request("ReadConversationFunction", conversation_id, query=query)

    def set_attributes(self, conversation_id: str, change: Mapping[str, str | None]) -> Answer:
        return self.request("SetAttributesFunction", conversation_id, body=json.dumps(change))

    def request(
        self,
        function: str,
        conversation_id: str | None = None,
        *,
        body: str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Call a function behind the API with the event that API Gateway would make."""
        event = {
            "body": body,
            "isBase64Encoded": False,
            "pathParameters": {"conversationId": conversation_id} if conversation_id is not None else None,
            "queryStringParameters": dict(query) if query else None,
        }
        return self.answer(function, event)

    def answer(self, function: str, event: Any) -> Answer:
        """Call a function behind the API with an event."""
        answer = self.invoke(function, event)
        return Answer(answer["statusCode"], json.loads(answer["body"]), answer["headers"])

    def item(self, conversation_id: str) -> dict[str, Any] | None:
        """The conversation as it lies in the table, whatever a reader would make of it."""
        key = {"conversationId": {"S": conversation_id}}
        answer = self.dynamodb.get_item(TableName=TABLE, Key=key, ConsistentRead=True)
        return dict(answer["Item"]) if "Item" in answer else None

    def executions(self) -> list["Execution"]:
        """All executions that StartExecution has started, in that order."""
        machines = stepfunctions_parser_backends[ACCOUNT][REGION].state_machines
        return [cast("Execution", execution) for machine in machines for execution in machine.executions]

    @staticmethod
    def kill_executions(patch: pytest.MonkeyPatch) -> None:
        """From now on executions start, as far as StartExecution can tell, and do nothing."""
        patch.setattr("moto.stepfunctions.parser.backend.execution.Execution.start", lambda _execution: None)

    def execute_again(self, execution: "Execution") -> None:
        """Run an execution once more, as Express sometimes does: at least once."""
        backend = stepfunctions_parser_backends[ACCOUNT][REGION]
        backend.start_execution(self.state_machine_arn, "", json.dumps(execution.input_data))

    def wait_for_end(self, conversation_id: str, seconds: int = 15) -> dict[str, Any]:
        """The document once its status is final."""
        document = self.read(conversation_id, wait=str(seconds)).body
        assert document["status"] != "ONGOING", f"not ended within {seconds} s"
        return document

    def wait_for_execution(self, conversation_id: str, seconds: float = 30) -> None:
        """Wait until the conversation's executions have ended, what still asks a company included."""
        mine = [one for one in self.executions() if f'"{conversation_id}"' in one.execution_input]
        wait_until(lambda: not any(one.exec_status == "RUNNING" for one in mine), seconds)

    def wait_for_executions(self, seconds: float = 30) -> None:
        """Wait until no execution runs any more, those included that nobody waits for."""
        wait_until(lambda: not any(one.exec_status == "RUNNING" for one in self.executions()), seconds)


def lookup_function(source: str) -> str:
    return f"Lookup{source.capitalize()}Function"


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Wait for a condition; AssertionError when it does not come true in time."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, f"not so within {seconds} s"
        time.sleep(0.02)


@contextmanager
def deployed(parameters: Mapping[str, str] | None = None) -> Iterator[Cloud]:
    """Deploy the template's resources into a simulated account for the length of a `with` block."""
    template = Template.load()
    known = template.parameters({**NOWHERE, **(parameters or {})})
    known |= {Reference("AWS::StackName"): STACK, Reference("AWS::Partition"): "aws"}
    cloud: Cloud | None = None

    def invoke(arn: str, payload: Any) -> Any:
        assert cloud is not None
        return cloud.invoke(arn, payload)

    with simulated_aws(invoke):
        functions = _name_functions(template, known)
        _create_secrets(template, known)
        _create_table(template, known)
        _create_token_table(template, known)
        _create_workflows(template, known)
        definition = _create_state_machine(template, known)
        cloud = Cloud(
            functions={
                function: _Function(handler, _ask_these_alone(template.environment(function, known)))
                for function, handler in functions.items()
            },
            definition=json.loads(definition),
            state_machine_arn=known[Reference("IdentifyCallerStateMachine")],
            dynamodb=_client("dynamodb"),
        )
        _forget_what_functions_remember()
        try:
            yield cloud
        finally:
            cloud.wait_for_executions()
            _forget_what_functions_remember()


@cache
def _client(service: Any) -> Any:
    """A client as the test's own; clients outlive a simulated account, and making one takes long."""
    return boto3.client(service)


def _name_functions(template: Template, known: dict[Reference, str]) -> dict[str, Callable[[Any, Any], Any]]:
    handlers = {}
    for name in template.resources("AWS::Serverless::Function"):
        known[Reference(name, "Arn")] = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
        properties = template.document["Resources"][name]["Properties"]
        module, _, function = template.document["Globals"]["Function"]["Handler"].rpartition(".")
        token = settings.environment.set(properties["Environment"]["Variables"])
        try:
            app = import_module(f"{properties['CodeUri'].replace('/', '.')}.{module}")
        finally:
            settings.environment.reset(token)
        handlers[name] = getattr(app, function)
    return handlers


def _create_secrets(template: Template, known: dict[Reference, str]) -> None:
    secrets = _client("secretsmanager")
    for name in template.resources("AWS::SecretsManager::Secret"):
        known[Reference(name, "Id")] = secrets.create_secret(Name=name, SecretString="{}")["ARN"]


def _create_table(template: Template, known: dict[Reference, str]) -> None:
    known[Reference("ConversationTable")] = TABLE
    properties = template.properties("ConversationTable", known)
    _client("dynamodb").create_table(
        TableName=TABLE,
        StreamSpecification={"StreamEnabled": True, **properties["StreamSpecification"]},
        **{key: properties[key] for key in ("BillingMode", "KeySchema", "AttributeDefinitions")},
    )


def _create_token_table(template: Template, known: dict[Reference, str]) -> None:
    known[Reference("SourceTokenTable")] = TOKENS
    properties = template.properties("SourceTokenTable", known)
    keys = ("BillingMode", "KeySchema", "AttributeDefinitions")
    _client("dynamodb").create_table(TableName=TOKENS, **{key: properties[key] for key in keys})


def _create_workflows(template: Template, known: dict[Reference, str]) -> None:
    """What journeys need: their table, their queue with its dead letters, and where timers are kept."""
    known[Reference("WorkflowTable")] = WORKFLOWS
    properties = template.properties("WorkflowTable", known)
    keys = ("BillingMode", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes")
    _client("dynamodb").create_table(TableName=WORKFLOWS, **{key: properties[key] for key in keys})
    for name in ("ResumeDeadLetterQueue", "ResumeQueue"):
        properties = template.properties(name, known)
        attributes = {
            attribute: json.dumps(properties[attribute])
            for attribute in ("VisibilityTimeout", "MessageRetentionPeriod", "RedrivePolicy")
            if attribute in properties
        }
        created = _client("sqs").create_queue(QueueName=name, Attributes=attributes)
        known[Reference(name)] = created["QueueUrl"]
        known[Reference(name, "Arn")] = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
    _client("scheduler").create_schedule_group(Name="timers")
    known[Reference("TimerGroup")] = "timers"
    known[Reference("TimerRole", "Arn")] = f"arn:aws:iam::{ACCOUNT}:role/TimerRole"


def _create_state_machine(template: Template, known: dict[Reference, str]) -> str:
    name = "IdentifyCallerStateMachine"
    definition = _list_these_alone(template.state_machine_definition(name, known))
    created = _client("stepfunctions").create_state_machine(
        name=name,
        definition=definition,
        type=template.document["Resources"][name]["Properties"]["Type"],
        roleArn=f"arn:aws:iam::{ACCOUNT}:role/IdentifyCallerRole",
    )
    known[Reference(name)] = created["stateMachineArn"]
    return definition


def _ask_these_alone(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Leave out companies that were added since: tests say what these three answer, and what comes of it."""
    return {**environment, "SOURCES": ",".join(SOURCES)} if "SOURCES" in environment else environment


def _list_these_alone(definition: str) -> str:
    document = json.loads(definition)
    naming = document["States"]["Name the companies"]
    naming["Result"] = [company for company in naming["Result"] if company["source"] in SOURCES]
    return json.dumps(document)


def _forget_what_functions_remember() -> None:
    """A new execution environment for every function; the clients for AWS may stay, they know no stack."""
    conversations.cache_clear()
    import_module("functions.start_identification.app")._settings.cache_clear()
    credentials.forget()
    gamma.forget()
    for remembered in (engines.engine, engines.scheduler, journeys.queue._queue_url, sweeping._store):
        remembered.cache_clear()


def _context(function: str) -> SimpleNamespace:
    return SimpleNamespace(
        function_name=function,
        memory_limit_in_mb=512,
        invoked_function_arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}",
        aws_request_id=str(uuid.uuid4()),
        get_remaining_time_in_millis=remaining_milliseconds.get(),
    )


def identity(source: str, customer_id: str = "1042") -> dict[str, Any]:
    return {
        "source": source,
        "customerId": customer_id,
        "displayName": "Jean Dupont",
        "firstName": "Jean",
        "lastName": "Dupont",
        "segment": "vip",
        "candidates": 1,
    }


def knows(source: str, customer_id: str = "1042") -> Lookup:
    """A lookup that matches everybody."""
    return lambda _event: {"outcome": "MATCH", "identity": identity(source, customer_id)}


def knows_nobody(_event: Mapping[str, str]) -> Mapping[str, object]:
    """A lookup that matches nobody."""
    return {"outcome": "NO_MATCH"}
