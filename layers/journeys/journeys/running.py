"""What run_journey does with a message of the resume queue."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stepmark import WorkflowNotFound

from journeys.engines import STEPS, engine, scheduler
from journeys.queue import send
from journeys.reporting import about, report

if TYPE_CHECKING:
    from journeys.queue import Wakeup

# A conversation names its journey a moment before the workflow is written: look until no start can be alive.
MAX_LOOKS = 8
SECONDS_BETWEEN_LOOKS = 5


def run(wakeup: Wakeup) -> None:
    """Do what a message asks for; harmless when it comes twice, late, or for nothing.

    Raises stepmark's RetryableError and the store's errors: then the message has to come again.
    """
    workflow_id = wakeup["workflowId"]
    about(workflow_id)
    if wakeup.get("dueAt", 0) > time.time():
        scheduler().wake(workflow_id, wakeup["dueAt"])
        return
    try:
        found = engine().look(workflow_id, STEPS) if "look" in wakeup else engine().resume(workflow_id, STEPS)
    except WorkflowNotFound:
        looks = wakeup.get("look", MAX_LOOKS)
        if looks < MAX_LOOKS:
            send([{"workflowId": workflow_id, "look": looks + 1}], SECONDS_BETWEEN_LOOKS)
        return
    report(found)
