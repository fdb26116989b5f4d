"""The engine over this deployment's table and queue, and the names of its workflows."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from stepmark import Budget, Engine
from stepmark.dynamodb import DynamoDBStore
from stepmark.sqs import SqsScheduler, Timers

from conversation import aws
from journeys.registry import JOURNEYS
from journeys.reporting import report_parked
from journeys.settings import EngineSettings

if TYPE_CHECKING:
    from journeys.journey import Journey

# Steps run in run_journey alone; none begins after 10 s, when the queue takes the rest.
STEPS = Budget(seconds=10)
# Whoever starts a journey or sends an event does not wait for its steps.
NO_STEPS = Budget(steps=0)
# Longer than a function may run: a lease that is over belongs to one that is dead.
LEASE_SECONDS = 35
CALLBACK_SECONDS = 5


def class_of(journey: str) -> type[Journey] | None:
    """The journey of that name, if this deployment ships it."""
    return next((cls for cls in JOURNEYS if cls.__workflow_name__ == journey), None)


@cache
def engine() -> Engine:
    """Return the engine of this execution environment."""
    settings = EngineSettings.from_environment()
    return Engine(
        JOURNEYS,
        store=DynamoDBStore(settings.table_name, aws.dynamodb(), keep_seconds=settings.keep_seconds),
        scheduler=scheduler(),
        lease_seconds=LEASE_SECONDS,
        budget=NO_STEPS,
        callback_seconds=CALLBACK_SECONDS,
        queued=True,
        on_parked=report_parked,
        max_commits_without_pause=settings.commit_limit,
    )


@cache
def scheduler() -> SqsScheduler:
    """Return the scheduler of this execution environment."""
    settings = EngineSettings.from_environment()
    timers = Timers(settings.schedule_group, settings.schedule_role_arn, settings.queue_arn)
    return SqsScheduler(aws.sqs(), settings.queue_url, aws.schedules(), timers)
