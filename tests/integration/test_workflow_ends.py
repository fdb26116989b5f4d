"""What is over leaves nothing: neither a schedule, nor an item that nobody could end."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from stepmark import (
    Engine,
    On,
    Record,
    Section,
    Status,
    Step,
    Timeout,
    UnknownWorkflow,
    VersionConflict,
    Wait,
    Workflow,
    WorkflowNotFound,
)
from stepmark.core.planning import GIVE_UP_SECONDS
from stepmark.dynamodb import END_SECONDS, DynamoDBStore
from stepmark.sqs import SqsScheduler, Timers

from tests.support.cloud import WORKFLOWS, Cloud

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved by a test."""
    moment = [time.time()]
    monkeypatch.setattr("time.time", lambda: moment[0])
    return moment


@pytest.fixture
def store(cloud: Cloud, now: list[float]) -> DynamoDBStore:
    del now
    return DynamoDBStore(WORKFLOWS, cloud.dynamodb, keep_seconds=DAY)


@pytest.fixture
def scheduler(cloud: Cloud) -> SqsScheduler:
    del cloud
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName="ResumeQueue")["QueueUrl"]
    timers = Timers("timers", "arn:aws:iam::1:role/x", "arn:aws:sqs:eu-west-1:1:q")
    return SqsScheduler(sqs, url, boto3.client("scheduler"), timers)


@contextmanager
def operations() -> Iterator[list[str]]:
    """The operations that are called in a `with` block."""
    made: list[str] = []
    make = BaseClient._make_api_call  # type: ignore[attr-defined] # the one way that all calls take

    def noted(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        made.append(operation)
        return make(client, operation, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", noted)
        yield made


def schedules(scheduler: SqsScheduler) -> list[Any]:
    found = scheduler.schedules.list_schedules(GroupName="timers")["Schedules"]
    return [scheduler.schedules.get_schedule(GroupName="timers", Name=each["Name"]) for each in found]


@dataclass
class Offer(Workflow, name="offer"):
    def definition(self) -> Section:
        return Section(
            Wait("for an answer", On("yes", None), On("too late", Timeout(days=300))),
            Wait("for a date", On("date", None), On("no date", Timeout(days=7))),
            Step("note", lambda: None),
        )


# -- schedules ------------------------------------------------------------------------------------------


def test_a_workflow_has_one_schedule_at_most_and_none_when_it_is_over(
    store: DynamoDBStore, scheduler: SqsScheduler
) -> None:
    engine = Engine([Offer], store=store, scheduler=scheduler)
    for workflow_id in ("one", "two~" + "é" * 200, "three"):
        engine.start(Offer(), workflow_id=workflow_id)
    first = schedules(scheduler)
    assert len(first) == 3
    assert all(len(each["Name"]) == 64 for each in first)

    engine.callback("one", "yes")
    moved = {json.loads(each["Target"]["Input"])["workflowId"]: each for each in schedules(scheduler)}
    assert len(moved) == 3
    (before,) = [each for each in first if each["Name"] == moved["one"]["Name"]]
    assert before["ScheduleExpression"] > moved["one"]["ScheduleExpression"]
    for name in ("ActionAfterCompletion", "FlexibleTimeWindow", "Description"):
        assert moved["one"][name] == before[name]
    assert moved["one"]["ActionAfterCompletion"] == "DELETE"
    assert moved["one"]["Target"].keys() >= {"Arn", "RoleArn", "Input"}

    engine.callback("one", "date")
    engine.cancel("two~" + "é" * 200)
    (left,) = schedules(scheduler)
    assert json.loads(left["Target"]["Input"])["workflowId"] == "three"


def test_the_calls_for_one_timer_are_two(store: DynamoDBStore, scheduler: SqsScheduler) -> None:
    engine = Engine([Offer], store=store, scheduler=scheduler)
    with operations() as made:
        engine.start(Offer(), workflow_id="w")
        engine.cancel("w")
    assert [name for name in made if "Schedule" in name] == ["CreateSchedule", "DeleteSchedule"]
    with operations() as made:
        engine.start(Offer(), workflow_id="v")
        engine.callback("v", "yes")  # a new time: tried as a new schedule, then as a change
        engine.callback("v", "date")
        engine.cancel("v")
    assert [name for name in made if "Schedule" in name] == [
        *("CreateSchedule", "CreateSchedule", "UpdateSchedule", "DeleteSchedule"),
    ]


def test_what_is_not_there_is_forgotten_in_silence_and_a_failure_is_logged(
    scheduler: SqsScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.forget("w")
    assert caplog.records == []
    broken = replace(scheduler, timers=replace(scheduler.timers, group="no such group"))
    refused = ClientError({"Error": {"Code": "ThrottlingException", "Message": "w"}}, "DeleteSchedule")

    def refuse(**_: object) -> None:
        raise refused

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broken.schedules, "delete_schedule", refuse)
        broken.forget("w\x1b[2J")
    (entry,) = caplog.records
    assert entry.message == (
        r"workflow w\x1b[2J: its schedule was not deleted (ThrottlingException); it will fire for nothing"
    )


def test_a_schedule_that_fires_while_it_is_moved_is_made_anew(scheduler: SqsScheduler) -> None:
    scheduler.wake("w", time.time() + DAY)
    update = scheduler.schedules.update_schedule

    def fires_before(**whole: Any) -> Any:
        scheduler.forget("w")
        return update(**whole)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler.schedules, "update_schedule", fires_before)
        scheduler.wake("w", time.time() + 2 * DAY)
    (left,) = schedules(scheduler)
    assert json.loads(left["Target"]["Input"])["dueAt"] > time.time() + 1.5 * DAY


# -- the end of a life ----------------------------------------------------------------------------------


def item(cloud: Cloud, workflow_id: str = "w") -> dict[str, Any]:
    found = cloud.dynamodb.get_item(TableName=WORKFLOWS, Key={"workflowId": {"S": workflow_id}})
    return dict(found["Item"])


def test_the_engine_gives_up_when_the_store_does() -> None:
    assert END_SECONDS == GIVE_UP_SECONDS


def test_with_an_end_an_item_expires_an_hour_after_it_over_or_not(
    store: DynamoDBStore, cloud: Cloud, now: list[float]
) -> None:
    engine = Engine([Offer], store=store)
    end = now[0] + 2 * HOUR
    engine.start(Offer(), workflow_id="w", ends_at=end)
    assert int(item(cloud)["expiresAt"]["N"]) == int(end + END_SECONDS)
    assert float(item(cloud)["dueAt"]["N"]) == end
    record = store.load("w")
    assert record is not None
    assert record.ends_at == end
    engine.cancel("w")
    assert int(item(cloud)["expiresAt"]["N"]) == int(end + END_SECONDS), "keep_seconds would be longer"
    engine.start(Offer(), workflow_id="v", ends_at=now[0] + 90 * DAY)
    engine.cancel("v")
    assert int(item(cloud, "v")["expiresAt"]["N"]) == int(now[0] + DAY)


def test_without_an_end_an_item_is_as_it_was(store: DynamoDBStore, cloud: Cloud) -> None:
    engine = Engine([Offer], store=store)
    engine.start(Offer(), workflow_id="w")
    assert item(cloud).keys() == {
        *("workflowId", "workflow", "version", "status", "state", "progress"),
        *("openShard", "dueAt", "writer", "keepSeconds"),
    }
    assert "endsAt" not in item(cloud)["progress"]["S"]


def test_at_its_end_a_worker_that_comes_by_cancels_it(
    store: DynamoDBStore, scheduler: SqsScheduler, now: list[float]
) -> None:
    engine = Engine([Offer], store=store, scheduler=scheduler)
    engine.start(Offer(), workflow_id="w", ends_at=now[0] + 2 * HOUR)
    assert len(schedules(scheduler)) == 1
    now[0] += 2 * HOUR
    assert store.due(now[0], 10) == ["w"]
    assert engine.resume("w").status is Status.CANCELLED
    assert list(store.open_ids()) == []


@dataclass
class Other(Workflow, name="other"):
    def definition(self) -> Section:
        return Section(Step("x", lambda: None))


def test_what_nobody_could_end_is_gone_an_hour_later_and_leaves_the_index(
    store: DynamoDBStore, cloud: Cloud, now: list[float]
) -> None:
    Engine([Offer], store=store).start(Offer(), workflow_id="w", ends_at=now[0] + 2 * HOUR)
    engine = Engine([Other], store=store)
    now[0] += 2 * HOUR
    with pytest.raises(UnknownWorkflow):
        engine.resume("w")
    now[0] += END_SECONDS
    assert list(store.live()) == []
    assert store.due(now[0], 10) == ["w"]
    with pytest.raises(WorkflowNotFound):
        engine.resume("w")
    assert store.due(now[0], 10) == []
    assert list(store.open_ids()) == []
    left = item(cloud)
    assert (left["state"], left["progress"]) == ({"S": "{}"}, {"S": "{}"})
    assert int(left["expiresAt"]["N"]) <= now[0]

    again = Engine([Offer], store=store)
    snapshot = again.start(Offer(), workflow_id="w", ends_at=now[0] + 2 * HOUR)
    assert (snapshot.created, snapshot.status, snapshot.version) == (True, Status.WAITING, 1)


def test_who_still_works_on_an_earlier_life_changes_nothing_in_the_next(
    store: DynamoDBStore, now: list[float]
) -> None:
    """The same id at the same version, but another end."""
    engine = Engine([Offer], store=store)
    engine.start(Offer(), workflow_id="w", ends_at=now[0] + HOUR)
    earlier = store.load("w")
    assert isinstance(earlier, Record)
    now[0] += 3 * HOUR
    engine.start(Offer(), workflow_id="w", ends_at=now[0] + HOUR)
    before = store.load("w")
    assert before is not None
    assert before.version == earlier.version
    with pytest.raises(VersionConflict):
        store.commit(replace(earlier, version=earlier.version + 1, state='{"of":"another"}'), earlier.version)
    with pytest.raises(VersionConflict):
        store.commit(
            replace(earlier, version=earlier.version + 1, state='{"of":"another"}', ends_at=None),
            earlier.version,
        )
    assert store.load("w") == before


def test_one_with_an_end_is_written_on_by_those_who_know_it(store: DynamoDBStore, now: list[float]) -> None:
    engine = Engine([Offer], store=store)
    engine.start(Offer(), workflow_id="w", ends_at=now[0] + HOUR)
    engine.callback("w", "yes")
    engine.callback("w", "date")
    assert engine.get("w").status is Status.FINISHED
    assert engine.get("w").ends_at == now[0] + HOUR


@pytest.mark.parametrize("progress", ["{", '{"threads":[' + "[" * 100_000 + "]" * 100_000 + "]}"])
def test_an_item_that_nobody_can_read_is_named_cancelled_and_still_expires(
    store: DynamoDBStore, cloud: Cloud, now: list[float], progress: str
) -> None:
    engine = Engine([Offer], store=store)
    end = now[0] + 2 * HOUR
    engine.start(Offer(), workflow_id="w", ends_at=end)
    cloud.dynamodb.put_item(TableName=WORKFLOWS, Item={**item(cloud), "progress": {"S": progress}})
    snapshot = engine.resume("w")
    assert (snapshot.status, snapshot.ends_at) == (Status.PARKED, end)
    assert int(item(cloud)["expiresAt"]["N"]) == int(end + END_SECONDS)
    now[0] += 2 * HOUR
    assert store.due(now[0], 10) == ["w"]
    assert engine.resume("w").status is Status.CANCELLED
    assert store.due(now[0], 10) == []
    assert int(item(cloud)["expiresAt"]["N"]) == int(end + END_SECONDS)
