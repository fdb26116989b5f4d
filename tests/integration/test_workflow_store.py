"""Workflows in DynamoDB, and their wake-ups through SQS and EventBridge Scheduler."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.credentials import CredentialResolver
from botocore.exceptions import ClientError
from stepmark import (
    Engine,
    Finish,
    For,
    Handler,
    On,
    Record,
    RecordTooLarge,
    Request,
    Retry,
    Section,
    Status,
    Step,
    StoreError,
    StoreUnavailable,
    VersionConflict,
    Wait,
    Workflow,
    WorkflowNotFound,
    check_store,
)
from stepmark.dynamodb import MAX_BYTES, DynamoDBStore
from stepmark.sqs import EARLY_SECONDS, SqsScheduler, Timers

from tests.support.cloud import TABLE, WORKFLOWS, Cloud

HOUR = 3600.0


@pytest.fixture
def store(cloud: Cloud) -> DynamoDBStore:
    return DynamoDBStore(WORKFLOWS, cloud.dynamodb, keep_seconds=HOUR)


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that are called from now on."""
    made: list[str] = []
    make = BaseClient._make_api_call  # type: ignore[attr-defined] # the one way that all calls take

    def noted(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        made.append(operation)
        return make(client, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    return made


def record(number: int = 0, **changes: Any) -> Record:
    new = Record(f"w{number:04}", "chain", 1, Status.WAITING, '{"é":1}', '{"threads":[]}', None, None, None)
    return replace(new, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"due_at": 1_795_289_641.1234567},
        {"status": Status.RUNNING, "due_at": 0.1 + 0.2, "lease_owner": "me", "lease_until": 1e9 / 3},
        {"status": Status.FINISHED},
    ],
    ids=["waiting", "a timer", "leased", "finished"],
)
def test_a_record_comes_back_as_it_was(store: DynamoDBStore, changes: dict[str, Any]) -> None:
    written = record(**changes)
    assert store.create(written)
    assert store.load("w0000") == written
    again = replace(written, version=2, state='{"é":2}')
    store.commit(again, 1)
    assert store.load("w0000") == again
    assert store.load("unknown") is None


def test_one_writer_wins(store: DynamoDBStore) -> None:
    assert store.create(record())
    assert not store.create(record(state="{}"))
    store.commit(record(version=2), 1)
    with pytest.raises(VersionConflict):
        store.commit(record(version=2, state="{}"), 1)
    with pytest.raises(VersionConflict):
        store.commit(record(7, version=2), 1)
    assert store.load("w0000") == record(version=2)


def test_a_write_whose_answer_was_lost_counts_once(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore sends it again, and DynamoDB refuses what it has done already."""
    monkeypatch.setattr("secrets.token_hex", lambda _bytes: "the same writer")
    assert store.create(record())
    assert store.create(record())
    store.commit(record(version=2), 1)
    store.commit(record(version=2), 1)


def test_due_work_and_live_workflows_are_found_without_a_scan(
    store: DynamoDBStore, operations: list[str]
) -> None:
    for number in range(230):
        store.create(record(number, due_at=float(1000 - number) if number % 2 else None))
    store.create(record(900, status=Status.FINISHED))
    store.create(record(901, status=Status.CANCELLED, due_at=5.0))  # a teardown is left to do
    store.create(record(902, workflow="other"))
    operations.clear()

    assert store.next_due() == 5.0
    assert store.due(775.0, 3) == ["w0901", "w0229", "w0227"]
    assert store.due(1.0, 3) == []
    assert [each.workflow_id for each in store.live("chain")] == [f"w{number:04}" for number in range(230)]
    assert len(list(store.live())) == 231
    assert set(operations) == {"Query", "BatchGetItem"}


def test_what_is_over_leaves_the_index_and_expires(store: DynamoDBStore, cloud: Cloud) -> None:
    store.create(record(due_at=1.0))
    store.commit(record(version=2, status=Status.FINISHED), 1)
    assert store.due(HOUR, 10) == []
    assert list(store.live()) == []
    (item,) = cloud.dynamodb.scan(TableName=WORKFLOWS)["Items"]
    assert 0 < int(item["expiresAt"]["N"]) - time.time() <= HOUR
    assert "openShard" not in item


def test_a_store_without_a_time_of_its_own_keeps_to_that_of_the_one_before(
    store: DynamoDBStore, cloud: Cloud
) -> None:
    """As when somebody cancels a workflow by hand: what it knows of people must not stay for ever."""
    store.create(record(due_at=1.0))
    store.create(record(1))
    by_hand = DynamoDBStore(WORKFLOWS, cloud.dynamodb)
    assert by_hand.load("w0000")
    assert by_hand.load("w0001")
    by_hand.commit(record(version=2, status=Status.CANCELLED, due_at=1.0), 1)  # a teardown is left to do
    by_hand.commit(record(version=3, status=Status.CANCELLED), 2)
    by_hand.commit(record(1, version=2), 1)
    DynamoDBStore(WORKFLOWS, cloud.dynamodb, keep_seconds=2 * HOUR).commit(
        record(1, version=3, status=Status.FINISHED), 2
    )
    items = {each["workflowId"]["S"]: each for each in cloud.dynamodb.scan(TableName=WORKFLOWS)["Items"]}
    assert 0 < int(items["w0000"]["expiresAt"]["N"]) - time.time() <= HOUR
    assert HOUR < int(items["w0001"]["expiresAt"]["N"]) - time.time() <= 2 * HOUR


def test_what_has_expired_counts_as_gone_before_dynamodb_deletes_it(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(record(status=Status.FINISHED))
    assert not store.create(record())
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + HOUR)
    assert store.load("w0000") is None
    assert store.create(record())
    assert store.load("w0000") == record()
    assert not store.create(record())


def test_the_ids_of_open_workflows_are_found_without_reading_them(
    store: DynamoDBStore, operations: list[str]
) -> None:
    for number in range(20):
        store.create(record(number))
    store.create(record(900, status=Status.FINISHED))
    operations.clear()
    assert sorted(store.open_ids()) == [f"w{number:04}" for number in range(20)]
    assert set(operations) == {"Query"}


class Throttled:
    """A client that leaves items unread the first times."""

    def __init__(self, client: Any, times: float) -> None:
        self.client = client
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def batch_get_item(self, **request: Any) -> Any:
        self.times -= 1
        if self.times >= 0:
            return {"Responses": {}, "UnprocessedKeys": request["RequestItems"]}
        return self.client.batch_get_item(**request)


def test_what_a_throttled_table_leaves_unread_is_asked_for_again_less_and_less_often(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pauses = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("stepmark.dynamodb.time.monotonic", lambda: now[0])
    throttled: Any = Throttled(cloud.dynamodb, 4)
    store = DynamoDBStore(WORKFLOWS, throttled)
    store.create(record())
    assert list(store.live()) == [record()]
    assert pauses == [0.05, 0.1, 0.2, 0.4]
    throttled.times = float("inf")
    with pytest.raises(StoreUnavailable, match="did not read 1 items in time"):
        list(store.live())
    assert sum(pauses) < 15


# --- size --------------------------------------------------------------------------------------------------


@dataclass
class Hoarder(Workflow):
    letters: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Step("keep a little", self.little), Step("keep a lot", self.lot), Step("go on", self.little)
        )

    def little(self) -> None:
        self.letters.append("x")

    def lot(self) -> None:
        self.letters.append("é" * 200_000)


def test_what_does_not_fit_is_said_before_dynamodb_refuses_it(store: DynamoDBStore) -> None:
    full = record(state="x" * (MAX_BYTES - 400))
    assert store.create(full)
    with pytest.raises(RecordTooLarge, match=r"the workflow would take 39\d,\d+ bytes"):
        store.commit(replace(full, version=2, state="x" * MAX_BYTES), 1)
    assert store.load("w0000") == full


def test_a_step_that_wants_too_much_is_parked_and_loses_nothing(store: DynamoDBStore) -> None:
    snapshot = Engine([Hoarder], store=store).start(Hoarder(), workflow_id="h")
    assert snapshot.status is Status.PARKED
    assert snapshot.threads["main"].at == "keep a lot"
    assert "keep what is large elsewhere" in str(snapshot.error)
    assert snapshot.state.letters == ["x"]
    assert check_store(Hoarder, store) == []


# --- failures ----------------------------------------------------------------------------------------------


def calls_of(store: DynamoDBStore) -> list[Callable[[], object]]:
    return [
        lambda: store.load("w"),
        lambda: store.create(record()),
        lambda: store.commit(record(), 1),
        lambda: store.due(1.0, 1),
        lambda: list(store.live()),
        lambda: next(store._get(["w"])),
    ]


def test_an_aws_that_does_not_answer_is_one_kind_of_error(cloud: Cloud) -> None:
    del cloud
    nowhere = boto3.client(
        "dynamodb",
        endpoint_url="http://127.0.0.1:9",  # the discard port
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=0.5),
    )
    for call in calls_of(DynamoDBStore("no-such-table", nowhere)):
        with pytest.raises(StoreUnavailable, match="DynamoDB did not do it"):
            call()


def test_a_table_that_is_not_there_is_no_outage(cloud: Cloud) -> None:
    del cloud
    for call in calls_of(DynamoDBStore("no-such-table", boto3.client("dynamodb"))):
        with pytest.raises(StoreError, match="table 'no-such-table' can't be used: there is no such table"):
            call()


def test_a_table_of_another_shape_is_no_outage(cloud: Cloud) -> None:
    for call in calls_of(DynamoDBStore(TABLE, cloud.dynamodb)):
        with pytest.raises(StoreError, match=f"table '{TABLE}' can't be used: "):
            call()


@pytest.mark.parametrize("code", ["AccessDeniedException", "ValidationException"])
def test_what_is_refused_is_no_outage(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    client = boto3.client("dynamodb")
    store = DynamoDBStore(WORKFLOWS, client)
    del cloud

    def refuse(_client: Any, operation: str, _parameters: dict[str, Any]) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "of somebody"}}, operation)

    monkeypatch.setattr(BaseClient, "_make_api_call", refuse)
    for call in calls_of(store):
        with pytest.raises(StoreError) as refused:
            call()
        assert code in str(refused.value)
        assert "of somebody" not in str(refused.value)


def test_without_credentials_nothing_can_be_asked(cloud: Cloud) -> None:
    del cloud
    session = botocore.session.Session(include_builtin_handlers=True)
    session.register_component("credential_provider", CredentialResolver([]))
    client: Any = session.create_client("dynamodb", region_name="eu-west-1")
    with pytest.raises(StoreError, match=r"Unable to locate credentials \(NoCredentialsError\)$"):
        DynamoDBStore(WORKFLOWS, client).load("w")


def test_an_id_that_no_key_can_hold_is_told_and_belongs_to_no_workflow(store: DynamoDBStore) -> None:
    engine, longest = Engine([Hoarder], store=store), "é" * 1_024
    assert engine.start(Hoarder(), workflow_id=longest).created
    with pytest.raises(StoreError, match=r"2,048 bytes in DynamoDB: choose a shorter one$"):
        engine.start(Hoarder(), workflow_id=longest + "x")
    for workflow_id in ("", longest + "x", "\ud800"):
        with pytest.raises(WorkflowNotFound):
            engine.get(workflow_id)


def test_of_what_is_only_looked_at_little_is_remembered(
    cloud: Cloud, store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepmark.dynamodb._MAX_KEPT", 3)
    reader = DynamoDBStore(WORKFLOWS, cloud.dynamodb)
    for number in range(5):
        assert store.create(record(number))
        reader.load(f"w{number:04}")
    reader.load("w0002")
    assert list(reader._kept) == ["w0003", "w0004", "w0002"]
    reader.commit(record(2, version=2, status=Status.FINISHED), 1)
    assert list(reader._kept) == ["w0003", "w0004"]


# --- wake-ups ----------------------------------------------------------------------------------------------


@pytest.fixture
def scheduler(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> SqsScheduler:
    del cloud
    monkeypatch.setattr("time.time", lambda: 1_795_289_641.5)
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName="ResumeQueue")["QueueUrl"]
    return SqsScheduler(
        sqs,
        url,
        boto3.client("scheduler"),
        Timers("timers", "arn:aws:iam::1:role/x", "arn:aws:sqs:eu-west-1:1:q"),
    )


@pytest.mark.parametrize(
    ("seconds", "delay"), [(-5.0, 0), (0.0, 0), (0.2, 1), (1.0, 1), (899.5, 900), (900.0, 900)]
)
def test_up_to_fifteen_minutes_the_queue_itself_waits(
    scheduler: SqsScheduler, monkeypatch: pytest.MonkeyPatch, seconds: float, delay: int
) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(scheduler.sqs, "send_message", lambda **message: sent.append(message))
    scheduler.wake("w", time.time() + seconds)
    assert [message["DelaySeconds"] for message in sent] == [delay]
    assert json.loads(sent[0]["MessageBody"]) == {"workflowId": "w", "dueAt": time.time() + seconds}


@pytest.mark.parametrize("seconds", [900.1, 3600.0, 365 * 86_400.0])
def test_beyond_that_a_schedule_sends_the_message_a_little_early(
    scheduler: SqsScheduler, seconds: float
) -> None:
    at = time.time() + seconds
    for _ in range(2):  # the same wake-up may be set twice
        scheduler.wake("w", at)
    (found,) = scheduler.schedules.list_schedules(GroupName="timers")["Schedules"]
    schedule = scheduler.schedules.get_schedule(GroupName="timers", Name=found["Name"])
    moment = schedule["ScheduleExpression"].removeprefix("at(").removesuffix(")")
    early = at - time.mktime(time.strptime(moment, "%Y-%m-%dT%H:%M:%S")) + time.timezone
    assert EARLY_SECONDS <= early < EARLY_SECONDS + 1
    assert schedule["ActionAfterCompletion"] == "DELETE"
    assert json.loads(schedule["Target"]["Input"]) == {"workflowId": "w", "dueAt": at}


@pytest.mark.parametrize("at", [1e11, 1e18, 1e300])
def test_a_time_that_no_calendar_has_is_scheduled_a_year_ahead_and_goes_on_from_there(
    scheduler: SqsScheduler, at: float
) -> None:
    scheduler.wake("w", at)
    (found,) = scheduler.schedules.list_schedules(GroupName="timers")["Schedules"]
    schedule = scheduler.schedules.get_schedule(GroupName="timers", Name=found["Name"])
    assert schedule["ScheduleExpression"] == "at(2027-11-21T19:34:01)"
    assert json.loads(schedule["Target"]["Input"]) == {"workflowId": "w", "dueAt": at}


def test_a_wake_up_that_cannot_be_sent_is_left_to_the_sweep(
    scheduler: SqsScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    broken = replace(scheduler, queue_url=f"{scheduler.queue_url}-gone")
    broken.wake("w", time.time())
    (entry,) = caplog.records
    assert entry.message.startswith("workflow w: its wake-up was not sent (")


# -- events and ends, over a table ----------------------------------------------------------------------


class Sticky(Handler[None, None]):
    """Can't be torn down."""

    retry = Retry(attempts=1)

    def handle(self, request: Request[None], payload: None) -> None: ...

    def teardown(self, request: Request[None], handled: bool) -> None:
        assert (request.event, handled) == ("sticky", False)
        raise ConnectionError


@dataclass
class Tally(Workflow):
    total: int = 0

    def definition(self) -> Section:
        events = On("add", self.on_add), On("double", self.on_double), On("end", None, Finish(self.total))
        return Section(For("ever", True, Wait("for a number", *events, On("sticky", Sticky()))))

    def on_add(self, number: int) -> int:
        TALLIED.append(number)
        time.sleep(0.05)
        self.total += number
        return self.total

    def on_double(self) -> int:
        self.total *= 2
        return self.total


TALLIED: list[int] = []


def test_senders_of_one_event_at_once_run_its_handler_once(cloud: Cloud) -> None:
    TALLIED.clear()
    engines = [
        Engine([Tally], store=DynamoDBStore(WORKFLOWS, cloud.dynamodb), callback_seconds=60) for _ in range(2)
    ]
    engines[0].start(Tally(), workflow_id="w")
    outputs: list[int] = []

    def send(engine: Engine) -> None:
        outputs.append(engine.callback("w", "add", 3, event_id="k"))

    senders = [threading.Thread(target=send, args=(engines[number % 2],)) for number in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
    assert (outputs, TALLIED) == ([3] * 8, [3])
    assert engines[0].callback("w", "double", event_id="k") == 6
    assert engines[0].callback("w", "add", 3, event_id="k") == 3


def test_what_is_over_and_cannot_be_torn_down_stays_over(store: DynamoDBStore, cloud: Cloud) -> None:
    engine = Engine([Tally], store=store)
    engine.start(Tally(), workflow_id="w")
    engine.callback("w", "end")
    for call in (engine.get, engine.resume, engine.retry):
        snapshot = call("w")
        assert (snapshot.status, snapshot.error) == (
            Status.FINISHED,
            "teardown of event 'sticky': ConnectionError: ",
        )
    assert list(store.open_ids()) == []
    assert "expiresAt" in cloud.dynamodb.get_item(TableName=WORKFLOWS, Key={"workflowId": {"S": "w"}})["Item"]
    assert engine.cancel("w").error is None
