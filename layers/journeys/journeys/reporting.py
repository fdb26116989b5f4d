"""What operators are told of a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_lambda_powertools.metrics import MetricUnit, single_metric
from stepmark import Status

from conversation.observability import logger

if TYPE_CHECKING:
    from stepmark import Snapshot


def report(snapshot: Snapshot) -> None:
    """Log where a workflow stands, and count it when a person has to look after it."""
    at = sorted(thread.at for thread in snapshot.threads.values())
    if snapshot.status is not Status.PARKED:
        logger.info("journey", workflow_id=snapshot.workflow_id, status=snapshot.status, at=at)
        return
    # Not the error itself, which may name the caller: `stepmark show` has it.
    logger.error("journey parked", workflow_id=snapshot.workflow_id, at=at)
    with single_metric(name="JourneyParked", unit=MetricUnit.Count, value=1):
        pass  # nothing to add to it
