"""The table may refuse a write of the state machine, or its answer may be lost: the retry mends both."""

import pytest

from conversation.errors import SourceUnavailable
from tests.support.clock import Clock
from tests.support.cloud import SOURCES, Cloud, Lookup, identity, knows, knows_nobody
from tests.support.faults import Moment, failing, lost, refused
from tests.support.simulated_aws import task_client


def cannot_answer(_event: object) -> dict[str, object]:
    raise SourceUnavailable("as told")


@pytest.mark.parametrize("moment", ["before", "after"], ids=["refused", "answer lost"])
@pytest.mark.parametrize(
    ("gamma", "status"),
    [(knows("gamma"), "SUCCESS"), (knows_nobody, "NOT_FOUND"), (cannot_answer, "FAILED")],
    ids=["match", "no match", "unavailable"],
)
def test_the_first_writes_of_all_branches_fail_once(
    moment: Moment, gamma: Lookup, status: str, cloud: Cloud
) -> None:
    cloud.lookups.update(alpha=knows_nobody, beta=knows_nobody, gamma=gamma)
    error = refused("ProvisionedThroughputExceededException") if moment == "before" else lost
    with failing(task_client("dynamodb"), "UpdateItem", moment, times=3, error=error) as failures:
        cloud.start("6c5c")
        cloud.wait_for_executions()
    assert failures.count == 3
    document = cloud.read("6c5c").body
    assert document["status"] == status
    assert document["identity"] == (identity("gamma") if status == "SUCCESS" else None)
    answer = {"SUCCESS": "MATCH", "NOT_FOUND": "NO_MATCH", "FAILED": "UNAVAILABLE"}[status]
    assert document["sources"] == {"alpha": "NO_MATCH", "beta": "NO_MATCH", "gamma": answer}
    assert document["otherMatches"] == {}


@pytest.mark.parametrize("moment", ["before", "after"], ids=["refused", "answer lost"])
def test_the_conclusion_fails_once(moment: Moment, cloud: Cloud) -> None:
    cloud.lookups.update(dict.fromkeys(SOURCES, knows_nobody))
    with failing(
        task_client("dynamodb"), "UpdateItem", moment, times=1, containing=":conclusion"
    ) as failures:
        cloud.start("6c5c")
        cloud.wait_for_executions()
    assert failures.count == 1
    assert cloud.read("6c5c").body["status"] == "NOT_FOUND"
    assert [one.exec_status for one in cloud.executions()] == ["SUCCEEDED"]


def test_a_table_that_takes_nothing_leaves_a_failed_execution_and_a_time_out(
    cloud: Cloud, clock: Clock
) -> None:
    cloud.lookups.update(alpha=knows("alpha"), beta=knows_nobody, gamma=cannot_answer)
    with failing(task_client("dynamodb"), "UpdateItem", "before", error=refused("InternalServerError")):
        cloud.start("6c5c")
        cloud.wait_for_executions()
    [execution] = cloud.executions()
    assert (execution.exec_status, execution.error) == ("FAILED", "ConclusionNotWritten")
    assert cloud.read("6c5c").body["status"] == "ONGOING"
    clock.advance(10)
    assert cloud.read("6c5c").body["status"] == "TIMED_OUT"
