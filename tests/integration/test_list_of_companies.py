"""The state machine asks the companies that its definition lists: one more is one more item."""

import itertools
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from conversation import aws
from conversation.errors import SourceUnavailable
from tests.support.cloud import CALLER, SOURCES, Cloud, Lookup, knows, knows_nobody, lookup_function
from tests.support.faults import failing, refused
from tests.support.simulated_aws import task_client


def cannot_answer(_event: object) -> dict[str, object]:
    raise SourceUnavailable("as told")


LOOKUPS = {"MATCH": knows("delta"), "NO_MATCH": knows_nobody, "UNAVAILABLE": cannot_answer}


def listed(cloud: Cloud) -> list[dict[str, str]]:
    """The definition's list, which may be changed."""
    companies: list[dict[str, str]] = cloud.definition["States"]["Name the companies"]["Result"]
    return companies


def redeploy(cloud: Cloud) -> None:
    """Deploy the definition as it was changed."""
    aws.step_functions().update_state_machine(
        stateMachineArn=cloud.state_machine_arn, definition=json.dumps(cloud.definition)
    )


def identify(cloud: Cloud, *sources: str) -> dict[str, Any]:
    """Identify a caller whom these companies are asked about."""
    body = json.dumps({"conversationId": "6c5c", "callerNumber": CALLER})
    event = {"body": body, "isBase64Encoded": False, "pathParameters": None, "queryStringParameters": None}
    started = cloud.call("StartIdentificationFunction", event, SOURCES=",".join(sources))
    assert started["statusCode"] == 202
    cloud.wait_for_executions()
    assert [one.exec_status for one in cloud.executions()] == ["SUCCEEDED"]
    return cloud.read("6c5c").body


@pytest.mark.parametrize("outcomes", list(itertools.product(LOOKUPS, repeat=2)), ids="-".join)
def test_a_fourth_company_is_one_more_item(outcomes: tuple[str, str], cloud: Cloud) -> None:
    listed(cloud).append({"source": "delta", "function": f"arn:{lookup_function('delta')}"})
    redeploy(cloud)
    fourth, others = outcomes
    lookups: dict[str, Lookup] = {**LOOKUPS, "MATCH": knows("alpha")}
    cloud.lookups.update({"alpha": lookups[others], "beta": knows_nobody, "gamma": knows_nobody})
    cloud.lookups["delta"] = LOOKUPS[fourth]
    document = identify(cloud, *SOURCES, "delta")
    expected = {"alpha": others, "beta": "NO_MATCH", "gamma": "NO_MATCH", "delta": fourth}
    assert document["sources"] == expected
    if "MATCH" in outcomes:
        assert document["status"] == "SUCCESS"
        found = {document["identity"]["source"], *document["otherMatches"]}
        assert found == {source for source, outcome in expected.items() if outcome == "MATCH"}
    else:
        assert document["status"] == ("FAILED" if "UNAVAILABLE" in outcomes else "NOT_FOUND")


@pytest.mark.parametrize("outcome", LOOKUPS)
def test_one_company_alone(outcome: str, cloud: Cloud) -> None:
    listed(cloud)[:] = [{"source": "delta", "function": f"arn:{lookup_function('delta')}"}]
    redeploy(cloud)
    cloud.lookups["delta"] = LOOKUPS[outcome]
    document = identify(cloud, "delta")
    assert document["sources"] == {"delta": outcome}
    assert (
        document["status"] == {"MATCH": "SUCCESS", "NO_MATCH": "NOT_FOUND", "UNAVAILABLE": "FAILED"}[outcome]
    )


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        (("NO_MATCH", "MATCH"), "SUCCESS"),
        (("NO_MATCH", "NO_MATCH"), "NOT_FOUND"),
        (("MATCH", "NO_MATCH"), "FAILED"),
        (("MATCH", "MATCH"), "SUCCESS"),
    ],
    ids=str,
)
def test_writes_that_fail_for_one_company_leave_the_others_alone(
    answers: tuple[str, str], status: str, cloud: Cloud
) -> None:
    for source, answer in zip(("alpha", "beta"), answers, strict=True):
        cloud.lookups[source] = {**LOOKUPS, "MATCH": knows(source)}[answer]
    cloud.lookups["gamma"] = knows_nobody
    dynamodb = task_client("dynamodb")
    error = refused("InternalServerError")
    with failing(dynamodb, "UpdateItem", "before", error=error, containing='"#source": "alpha"') as failures:
        document = identify(cloud, *SOURCES)
    assert failures.count >= 2, "the write and its repetition"
    assert document["status"] == status
    assert document["sources"] == {"alpha": "PENDING", "beta": answers[1], "gamma": "NO_MATCH"}


def test_who_is_asked_does_not_come_from_an_executions_input(cloud: Cloud) -> None:
    asked: list[str] = []

    def look_up(source: str, event: Mapping[str, str]) -> Mapping[str, object]:
        asked.append(source)
        return knows_nobody(event)

    cloud.lookups.update({source: partial(look_up, source) for source in (*SOURCES, "delta")})
    elsewhere = {"source": "alpha", "function": f"arn:{lookup_function('delta')}"}
    execution = {
        "conversationId": "6c5c",
        "startId": "0f",
        "callerNumber": CALLER,
        "deadlineAt": "2099-12-31T23:59:59.999Z",
        **{name: [elsewhere] for name in ("companies", "source", "function", "lookup")},
    }
    aws.step_functions().start_execution(stateMachineArn=cloud.state_machine_arn, input=json.dumps(execution))
    cloud.wait_for_executions()
    assert sorted(asked) == sorted(SOURCES)


def test_an_executions_history_tells_which_company_did_what(cloud: Cloud) -> None:
    """State names are the same for all companies; the input of each state names the company."""
    cloud.lookups.update(alpha=knows("alpha"), beta=cannot_answer, gamma=knows_nobody)
    identify(cloud, *SOURCES)
    [execution] = cloud.executions()
    entered = [
        (details["name"], json.loads(details["input"] or "").get("source"))
        for event in execution.to_history_output()["events"]
        if (details := event.get("stateEnteredEventDetails"))
    ]
    assert {(name, source) for name, source in entered if source} == {
        *(("Look up the caller", source) for source in SOURCES),
        *(("Does the company know the caller?", source) for source in ("alpha", "gamma")),
        ("Identify the caller", "alpha"),
        ("The company is unavailable", "beta"),
        *(("Record the answer", source) for source in ("beta", "gamma")),
        *(("The company is done", source) for source in SOURCES),
    }
