"""What AWS does between the functions of journeys: the table's stream, the queue with its delays, the timers.

    with running(cloud) as world:
        world.start("6c5c")
        world.settle()

Time is virtual: when nothing is left to deliver, the clock goes on to the next delayed message or timer.
Nothing is delivered but by `settle` and `deliver`, so that a test decides what comes first, twice, or late.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.client import BaseClient
from moto.dynamodb.models import dynamodb_backends
from moto.scheduler.models import scheduler_backends
from moto.sqs.models import sqs_backends
from stepmark import SystemClock

from conversation.settings import environment
from journeys import engines, sweeping
from tests.support.cloud import TABLE, WORKFLOWS, Answer, Cloud, _client, identity
from tests.support.openapi import OPERATIONS, validator
from tests.support.simulated_aws import ACCOUNT, REGION
from tests.support.template import Template

QUEUE = "ResumeQueue"
DEAD_LETTERS = "ResumeDeadLetterQueue"
FUNCTIONS = {"journeys_api", "run_journey", "notify_journeys", "sweep_journeys"}
DAY = 86_400.0
APPROVAL = {"by": "Ada", "reason": "good customer"}


class Crash(BaseException):
    """A function dies at this very moment."""


@dataclass
class Clock:
    """Real time and what the test has added to it."""

    real: Callable[[], float] = time.time
    ahead: float = 0.0

    def now(self) -> float:
        return self.real() + self.ahead

    def pass_by(self, seconds: float) -> None:
        self.ahead += seconds


@dataclass
class World:
    """Journeys in a simulated account."""

    cloud: Cloud
    clock: Clock
    invocations: dict[str, int] = field(default_factory=dict)
    _read: int = 0
    _start_ids: dict[str, str] = field(default_factory=dict)

    def workflow_id(self, conversation_id: str, journey: str = "retention") -> str:
        """The id of the journey of the conversation that had this id last, as its start answers it."""
        item = self.cloud.item(conversation_id)
        if item is not None:
            self._start_ids[conversation_id] = item["startId"]["S"]
        return f"{conversation_id}~{journey}~{self._start_ids.get(conversation_id, 'f' * 16)}"

    # -- what clients do --------------------------------------------------------------------------------

    def begin(self, conversation_id: str, attributes: Mapping[str, str] | None = None) -> None:
        """A conversation whose identification goes on until the test ends it."""
        assert self.cloud.start(conversation_id, attributes=attributes).status == 202
        self.workflow_id(conversation_id)

    def identify(
        self, conversation_id: str, segment: str = "vip", customer_id: str = "1042", candidates: int = 1
    ) -> None:
        """End the identification as the state machine does."""
        who: dict[str, dict[str, str]] = {
            name: {"S": text} for name, text in {**identity("gamma", customer_id), "segment": segment}.items()
        }
        who["candidates"] = {"N": str(candidates)}
        self.cloud.dynamodb.update_item(
            TableName=TABLE,
            Key={"conversationId": {"S": conversation_id}},
            UpdateExpression="SET #status = :success, #identity = :who",
            ConditionExpression="#status = :ongoing",
            ExpressionAttributeNames={"#status": "status", "#identity": "identity"},
            ExpressionAttributeValues={
                ":success": {"S": "SUCCESS"}, ":ongoing": {"S": "ONGOING"}, ":who": {"M": who},
            },
        )  # fmt: skip

    def give_reason(self, conversation_id: str, reason: str = "cancel") -> None:
        assert self.cloud.set_attributes(conversation_id, {"reason": reason}).status == 200

    def start(
        self, conversation_id: str, fields: Mapping[str, object] | None = None, journey: str = "retention"
    ) -> Answer:
        return self.request(
            "POST",
            "/conversations/{conversationId}/journeys/{journey}",
            {"conversationId": conversation_id, "journey": journey},
            body=json.dumps(fields) if fields is not None else None,
        )

    def get(self, conversation_id: str) -> dict[str, Any]:
        answer = repeat(lambda: self.read(self.workflow_id(conversation_id)))
        assert answer.status == 200, answer
        return answer.body

    def read(self, id_in_path: str) -> Answer:
        return self.request("GET", "/workflows/{workflowId}", {"workflowId": id_in_path})

    def send(
        self,
        conversation_id: str,
        event: str,
        payload: object = None,
        *,
        key: str | None = None,
        journey: str = "retention",
    ) -> Answer:
        return self.request(
            "POST",
            "/workflows/{workflowId}/events/{event}",
            {"workflowId": self.workflow_id(conversation_id, journey), "event": event},
            body=json.dumps(payload),
            headers={} if key is None else {"Idempotency-Key": key},
        )

    def cancel(self, conversation_id: str) -> Answer:
        path = {"workflowId": self.workflow_id(conversation_id)}
        return self.request("DELETE", "/workflows/{workflowId}", path)

    def request(
        self,
        method: str,
        resource: str,
        path: Mapping[str, str],
        *,
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send the journeys API what API Gateway would make of a request; its answer is as documented."""
        self._count("JourneysApiFunction")
        event = {
            "httpMethod": method,
            "resource": resource,
            "pathParameters": dict(path),
            "headers": dict(headers or {}),
            "queryStringParameters": None,
            "body": body,
            "isBase64Encoded": False,
        }
        answer = self.cloud.answer("JourneysApiFunction", event)
        check_documented(resource, method, answer)
        return answer

    # -- what AWS does ----------------------------------------------------------------------------------

    def settle(self, seconds: float = 0.0) -> None:
        """Deliver whatever there is, and let that much time go by, until nothing is left to deliver."""
        until = self.clock.now() + seconds
        while True:
            looked_at = self.clock.now()
            while self.notify(self.changes()) or self.deliver(self.messages()):
                looked_at = self.clock.now()
            following = self._next_moment(after=looked_at)
            if following is None or following > until:
                self.clock.ahead += max(0.0, until - self.clock.now())
                return
            self.clock.ahead += max(0.0, following - self.clock.now()) + 0.001
            self._fire_timers()

    def changes(self) -> list[dict[str, Any]]:
        """What is new in the table's stream, as far as the template's filter lets it through."""
        # moto keeps the stream, and has no DescribeStream to find it by.
        shard = dynamodb_backends[ACCOUNT][REGION].tables[TABLE].stream_shard
        assert shard is not None
        new, self._read = shard.items[self._read :], len(shard.items)
        records = [json.loads(json.dumps(record.to_json(), default=str)) for record in new]
        return [record for record in records if any(passes(record, pattern) for pattern in _patterns())]

    def notify(self, records: list[dict[str, Any]]) -> bool:
        """Hand records to notify_journeys until it takes them, as Lambda does."""
        if records:
            repeat(lambda: self._invoke("NotifyJourneysFunction", {"Records": records}))
        return bool(records)

    def messages(self) -> list[Any]:
        """The messages of the queue that are visible now."""
        url = self.queue_url()
        found: list[Any] = []
        while (
            batch := _client("sqs")
            .receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["ApproximateReceiveCount"]
            )
            .get("Messages")
        ):
            found += batch
        return found

    def deliver(self, messages: list[Any]) -> bool:
        """Hand messages to run_journey one by one; those that fail come back when the queue says so."""
        for message in messages:
            self.deliver_one(message)
        return bool(messages)

    def deliver_one(self, message: Any) -> None:
        record = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
        }
        try:
            answer = self._invoke("RunJourneyFunction", {"Records": [record]})
        except Crash:
            return
        if not answer["batchItemFailures"]:
            handle = {"QueueUrl": self.queue_url(), "ReceiptHandle": message["ReceiptHandle"]}
            _client("sqs").delete_message(**handle)

    def dead_letters(self) -> list[Any]:
        """The messages that failed too often; they stay where they are."""
        url = _client("sqs").get_queue_url(QueueName=DEAD_LETTERS)["QueueUrl"]
        found = _client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return list(found.get("Messages", []))

    def send_back(self, messages: list[Any]) -> None:
        """Move messages from the dead-letter queue to the one that they came from."""
        url = _client("sqs").get_queue_url(QueueName=DEAD_LETTERS)["QueueUrl"]
        for message in messages:
            _client("sqs").send_message(QueueUrl=self.queue_url(), MessageBody=message["Body"])
            _client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def sweep(self) -> int:
        """Let the sweep find what is overdue by now."""
        found: int = repeat(lambda: self._invoke("SweepJourneysFunction", {})["journeys"])
        return found

    def look_at_all(self) -> int:
        """Have every live journey look at its conversation, as an operator does."""
        woken: int = 0
        event: dict[str, object] = {"lookAtAll": True}
        while True:
            answer = self._invoke("SweepJourneysFunction", event)
            woken += answer["journeys"]
            if "after" not in answer:
                return woken
            event["after"] = answer["after"]

    def recover(self, goal: Callable[[], bool]) -> None:
        """What an account does for a while after a crash: messages come, leases run out, the sweep passes."""
        for _ in range(4):
            self.settle()
            if goal():
                return
            self.clock.ahead += engines.LEASE_SECONDS + sweeping.OVERDUE_SECONDS
            self.sweep()
        self.settle()
        assert goal(), "it did not get there by itself"

    def _next_moment(self, after: float) -> float | None:
        """When there is something to deliver again; a message may have become visible this very moment."""
        queue = sqs_backends[ACCOUNT][REGION].queues[QUEUE]
        hidden = [max(message.delayed_until, message.visible_at) / 1000 for message in queue._messages]
        moments = [at for at in hidden if at > after]
        return min([*moments, *(at for at, _ in self.timers())], default=None)

    def timers(self) -> list[tuple[float, Any]]:
        """The schedules there are, and when they fire."""
        group = scheduler_backends[ACCOUNT][REGION].schedule_groups["timers"]
        return [
            (datetime.fromisoformat(one.schedule_expression[3:-1]).replace(tzinfo=UTC).timestamp(), one)
            for one in group.schedules.values()
        ]

    def _fire_timers(self) -> None:
        for at, one in self.timers():
            if at <= self.clock.now():
                _client("sqs").send_message(QueueUrl=self.queue_url(), MessageBody=one.target["Input"])
                _client("scheduler").delete_schedule(GroupName="timers", Name=one.name)

    def _invoke(self, function: str, event: Any) -> Any:
        self._count(function)
        return self.cloud.invoke(function, event)

    def _count(self, function: str) -> None:
        self.invocations[function] = self.invocations.get(function, 0) + 1

    @staticmethod
    def queue_url() -> str:
        """Where the wake-ups are."""
        url: str = _client("sqs").get_queue_url(QueueName=QUEUE)["QueueUrl"]
        return url

    # -- what lies in the tables ------------------------------------------------------------------------

    def attributes(self, conversation_id: str) -> dict[str, str]:
        attributes: dict[str, str] = self.cloud.read(conversation_id).body["attributes"]
        return attributes

    def item(self, conversation_id: str, journey: str = "retention") -> dict[str, Any]:
        """The workflow as it lies in the table."""
        key = {"workflowId": {"S": self.workflow_id(conversation_id, journey)}}
        return dict(self.cloud.dynamodb.get_item(TableName=WORKFLOWS, Key=key, ConsistentRead=True)["Item"])


def check_documented(path: str, method: str, answer: Answer) -> None:
    """Hold an answer of the journeys API against the OpenAPI document."""
    response = OPERATIONS[path, method]["responses"][str(answer.status)]
    if answer.status >= 400:
        validator("Error").validate(answer.body)
        return
    schema = response["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    validator(schema).validate(answer.body)


def _patterns() -> list[Any]:
    """What the template has Lambda hand over of the stream."""
    function = Template.load().document["Resources"]["NotifyJourneysFunction"]["Properties"]
    filters = function["Events"]["ConversationChanges"]["Properties"]["FilterCriteria"]["Filters"]
    return [json.loads(one["Pattern"]) for one in filters]


def passes(value: Any, pattern: Any) -> bool:
    """Whether an event fits a pattern of EventBridge, as far as the template's filter needs them."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(passes(value.get(key), one) for key, one in pattern.items())
    assert all(rule.keys() == {"exists"} for rule in pattern), (
        f"no rule but `exists` is known here: {pattern}"
    )
    # A list fits when one of its members does; `exists` is about leaves.
    there = bool(value) if isinstance(value, list) else value is not None and not isinstance(value, dict)
    return any(rule["exists"] == there for rule in pattern)


def repeat[Answered](call: Callable[[], Answered]) -> Answered:
    """Call once more when there was no answer, as an IVR does, and Lambda with a stream's records."""
    try:
        return call()
    except Crash:
        return call()


def new_id() -> str:
    return uuid.uuid4().hex


@dataclass
class Calls:
    """Every call to AWS that the functions of journeys make; the one of that number kills its function."""

    made: list[str] = field(default_factory=list)
    commits: list[tuple[str, str]] = field(default_factory=list)
    crash_before: int | None = None
    crash_after: int | None = None

    @property
    def crashed(self) -> bool:
        return self.crash_before is None and self.crash_after is None

    def clear(self) -> None:
        self.made.clear()
        self.commits.clear()

    def count(self, call: str) -> int:
        return self.made.count(call)


@contextmanager
def calls() -> Iterator[Calls]:
    """Watch the calls to AWS for the length of a `with` block."""
    seen = Calls()
    make = BaseClient._make_api_call  # type: ignore[attr-defined] # the one way that all calls take
    lock = threading.Lock()

    def watched(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if environment.get().get("POWERTOOLS_SERVICE_NAME") not in FUNCTIONS:
            return make(client, operation, parameters)
        table = parameters.get("TableName", "")
        with lock:
            number = len(seen.made)
            seen.made.append(f"{operation} {table}".strip())
        if seen.crash_before == number:
            seen.crash_before = None
            raise Crash
        answer = make(client, operation, parameters)
        if operation == "PutItem" and table == WORKFLOWS:
            item = parameters["Item"]
            seen.commits.append((item["workflowId"]["S"], item["version"]["N"]))
        if seen.crash_after == number:
            seen.crash_after = None
            raise Crash
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", watched)
        yield seen


@contextmanager
def running(cloud: Cloud) -> Iterator[World]:
    """The world around journeys for the length of a `with` block; executions start and do nothing."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        cloud.kill_executions(patch)
        patch.setattr("time.time", clock.now)
        patch.setattr("moto.sqs.models.unix_time_millis", lambda: clock.now() * 1000)
        patch.setattr(cloud, "clock", lambda: datetime.now(UTC) + timedelta(seconds=clock.ahead))
        patch.setattr(SystemClock, "sleep", lambda _clock, seconds: clock.pass_by(seconds))
        yield World(cloud, clock)
