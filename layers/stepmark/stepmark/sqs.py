"""Wake-ups through an SQS queue: up to 15 minutes ahead by SQS itself, beyond that by EventBridge Scheduler.

    now ──────── 15 min ──────────────────────────────── 1 year
     SendMessage   CreateSchedule ─▶ the same message, a few minutes early ─▶ SendMessage for the rest

A message is {"workflowId", "dueAt"}; whoever receives one that is not due yet calls `wake` once more. A
wake-up that can't be sent is logged and dropped: the store's due_at has the truth, and a sweep over it finds
the work.

A workflow has one schedule at most, called after its id: a new time replaces the old, `forget` deletes it.
One that could not be deleted sends a wake-up for nothing and deletes itself then, as each does that fires.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from stepmark.errors import printable

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_sqs import SQSClient

_log = logging.getLogger("stepmark")

MAX_DELAY_SECONDS = 900  # SQS's own limit
MAX_SCHEDULE_SECONDS = 365 * 86_400  # what is further ahead is scheduled again by whoever receives it then
# A schedule may fire up to a minute late, so it fires early and SQS delays for the rest.
EARLY_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Timers:
    """The schedules for what SQS can't delay that long: their group, and the role that may send messages."""

    group: str
    role_arn: str
    queue_arn: str


@dataclass(frozen=True, slots=True)
class SqsScheduler:
    """Has a consumer of the queue call `engine.resume` when a workflow is due.

        scheduler = SqsScheduler(sqs, queue_url, schedules, Timers(group, role_arn, queue_arn))
        engine = Engine([Approval], store=DynamoDBStore("Workflows"), scheduler=scheduler, queued=True)

    A wake-up comes within a second of its time, never before it, and from now to any time ahead.
    """

    far_seconds: ClassVar[float] = MAX_DELAY_SECONDS

    sqs: SQSClient
    queue_url: str
    schedules: EventBridgeSchedulerClient
    timers: Timers

    def wake(self, workflow_id: str, at: float) -> None:
        """Have `engine.resume(workflow_id)` called at or after that time (seconds since the epoch)."""
        body = json.dumps({"workflowId": workflow_id, "dueAt": at})
        delay = max(0, math.ceil(at - time.time()))
        try:
            if delay <= MAX_DELAY_SECONDS:
                self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body, DelaySeconds=delay)
            else:
                self._schedule(workflow_id, at, body)
        except (ClientError, BotoCoreError) as error:
            _log.warning(
                "workflow %s: its wake-up was not sent (%s); a sweep will find it",
                printable(workflow_id),
                _reason(error),
            )

    def forget(self, workflow_id: str) -> None:
        """Delete the workflow's schedule; messages that are in the queue come, and do no harm."""
        try:
            self.schedules.delete_schedule(GroupName=self.timers.group, Name=_name(workflow_id))
        except self.schedules.exceptions.ResourceNotFoundException:
            return  # it has fired
        except (ClientError, BotoCoreError) as error:
            _log.warning(
                "workflow %s: its schedule was not deleted (%s); it will fire for nothing",
                printable(workflow_id),
                _reason(error),
            )

    def _schedule(self, workflow_id: str, at: float, body: str) -> None:
        early = min(at - EARLY_SECONDS, time.time() + MAX_SCHEDULE_SECONDS)
        whole: Any = {  # to update a schedule means to say all of it again
            "GroupName": self.timers.group,
            "Name": _name(workflow_id),
            "Description": f"Wakes up workflow {workflow_id}"[:512],
            "ScheduleExpression": f"at({datetime.fromtimestamp(early, UTC):%Y-%m-%dT%H:%M:%S})",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
            "Target": {"Arn": self.timers.queue_arn, "RoleArn": self.timers.role_arn, "Input": body},
        }
        try:
            self.schedules.create_schedule(**whole)
        except self.schedules.exceptions.ConflictException:
            try:
                self.schedules.update_schedule(**whole)
            except self.schedules.exceptions.ResourceNotFoundException:  # it has fired in between
                self.schedules.create_schedule(**whole)


def _name(workflow_id: str) -> str:
    """A schedule's name: 64 characters at most, and not all that an id may have."""
    return hashlib.sha256(workflow_id.encode()).hexdigest()


def _reason(error: ClientError | BotoCoreError) -> str:
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
