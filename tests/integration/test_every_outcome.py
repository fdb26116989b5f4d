"""What the three companies answer decides the status, the sources map, the identity and the other matches."""

import itertools
import json
from collections.abc import Mapping

import pytest

from conversation.errors import SourceUnavailable
from conversation.sources.identity import MAX_TEXT_LENGTH
from tests.support.cloud import CALLER, SOURCES, Cloud, Lookup, identity, knows, knows_nobody


def cannot_answer(_event: Mapping[str, str]) -> Mapping[str, object]:
    raise SourceUnavailable("as told")


def crashes(_event: Mapping[str, str]) -> Mapping[str, object]:
    raise RuntimeError("a defect in a lookup")


def lookup(source: str, outcome: str) -> Lookup:
    return {"MATCH": knows(source), "NO_MATCH": knows_nobody, "UNAVAILABLE": cannot_answer}[outcome]


IDENTITY_TEXTS = ("customerId", "displayName", "firstName", "lastName", "segment")
OUTCOMES = list(itertools.product(["MATCH", "NO_MATCH", "UNAVAILABLE"], repeat=3))


@pytest.mark.parametrize("outcomes", OUTCOMES, ids="-".join)
def test_the_document_of_every_outcome(outcomes: tuple[str, str, str], cloud: Cloud) -> None:
    expected = dict(zip(SOURCES, outcomes, strict=True))
    cloud.lookups.update({source: lookup(source, outcome) for source, outcome in expected.items()})
    assert cloud.start("6c5c").status == 202
    status = cloud.wait_for_end("6c5c")["status"]
    cloud.wait_for_executions()
    document = cloud.read("6c5c").body
    matches = {source for source, outcome in expected.items() if outcome == "MATCH"}
    assert document["sources"] == expected
    if matches:
        assert status == document["status"] == "SUCCESS"
        assert document["identity"]["source"] in matches
        assert set(document["otherMatches"]) == matches - {document["identity"]["source"]}
        for source, match in document["otherMatches"].items():
            assert match["source"] == source
    else:
        assert status == document["status"] == ("FAILED" if "UNAVAILABLE" in outcomes else "NOT_FOUND")
        assert document["identity"] is None
        assert document["otherMatches"] == {}


def test_the_document_from_start_to_end(cloud: Cloud) -> None:
    cloud.lookups.update(alpha=knows_nobody, beta=cannot_answer, gamma=knows("gamma", "G-1042"))
    started = cloud.start("6c5c", "tel:+33612345678;ext=105", {"reason": "billing"})
    assert started.status == 202
    assert started.body["status"] == "ONGOING"
    assert started.body["sources"] == {"alpha": "PENDING", "beta": "PENDING", "gamma": "PENDING"}
    cloud.wait_for_end("6c5c")
    cloud.wait_for_executions()
    answer = cloud.read("6c5c")
    assert answer.status == 200
    assert answer.body["conversationId"] == "6c5c"
    assert answer.body["callerNumber"] == CALLER
    assert answer.body["attributes"] == {"reason": "billing"}
    assert answer.body["sources"] == {"alpha": "NO_MATCH", "beta": "UNAVAILABLE", "gamma": "MATCH"}
    assert answer.body["identity"] == {
        "source": "gamma",
        "customerId": "G-1042",
        "displayName": "Jean Dupont",
        "firstName": "Jean",
        "lastName": "Dupont",
        "segment": "vip",
        "candidates": 1,
    }
    assert answer.body["startedAt"] == started.body["startedAt"]
    assert answer.body["deadlineAt"] == started.body["deadlineAt"]
    assert answer.body["startedAt"] < answer.body["updatedAt"] < answer.body["deadlineAt"]
    flat = cloud.read("6c5c", format="flat").body
    assert flat["identity_customerId"] == "G-1042"
    assert flat["source_beta"] == "UNAVAILABLE"
    assert flat["attribute_reason"] == "billing"
    assert flat["elapsedMs"] == str(answer.body["elapsedMs"])


def test_identities_of_the_longest_texts_fit_through_step_functions(cloud: Cloud) -> None:
    """It ends an execution whose state grows past 256 KB, so lookups refuse texts that could do that."""
    longest = {
        "source": "gamma",
        "candidates": 1,
        **dict.fromkeys(IDENTITY_TEXTS, "👋" * MAX_TEXT_LENGTH),
    }
    cloud.lookups.update(dict.fromkeys(SOURCES, lambda _event: {"outcome": "MATCH", "identity": longest}))
    cloud.start("6c5c")
    cloud.wait_for_executions()
    assert [one.exec_status for one in cloud.executions()] == ["SUCCEEDED"]
    assert cloud.read("6c5c").body["identity"] == longest


def test_a_lookup_that_crashes_is_a_company_that_could_not_answer(cloud: Cloud) -> None:
    cloud.lookups.update(alpha=crashes, beta=knows_nobody, gamma=crashes)
    cloud.start("6c5c")
    document = cloud.wait_for_end("6c5c")
    assert document["status"] == "FAILED"
    assert document["sources"] == {"alpha": "UNAVAILABLE", "beta": "NO_MATCH", "gamma": "UNAVAILABLE"}


def test_companies_that_are_nowhere_could_not_answer(cloud: Cloud) -> None:
    """The real lookups, with secrets that nobody filled."""
    cloud.start("6c5c")
    document = cloud.wait_for_end("6c5c")
    assert document["status"] == "FAILED"
    assert set(document["sources"].values()) == {"UNAVAILABLE"}


@pytest.mark.parametrize("number", ["anonymous", "", None, "sip:restricted@anonymous.invalid", "+266696687"])
def test_a_withheld_number_is_answered_at_once_and_nobody_is_asked(number: str | None, cloud: Cloud) -> None:
    answer = cloud.start("6c5c", number, {"reason": "billing"})
    assert answer.status == 202
    assert answer.body["status"] == "NOT_FOUND"
    assert answer.body["reason"] == "WITHHELD_NUMBER"
    assert answer.body["callerNumber"] is None
    assert answer.body["sources"] == {}
    assert cloud.executions() == []
    again = cloud.start("6c5c", "anonymous")
    assert (again.status, again.body) == (200, answer.body)
    assert cloud.read("6c5c", wait="20").body == answer.body
    assert cloud.set_attributes("6c5c", {"reason": "sales"}).body["attributes"] == {"reason": "sales"}


def test_a_national_number_belongs_to_the_stacks_region(cloud: Cloud) -> None:
    assert cloud.start("6c5c", "(317) 555-0100").body["callerNumber"] == "+13175550100"


def test_what_is_not_known_is_404(cloud: Cloud) -> None:
    for answer in (
        cloud.read("6c5c"),
        cloud.read("6c5c", wait="20"),
        cloud.set_attributes("6c5c", {"a": "b"}),
    ):
        assert answer.status == 404
        assert answer.body["error"]["code"] == "CONVERSATION_NOT_FOUND"
        assert "POST" in answer.body["error"]["message"]
    assert cloud.item("6c5c") is None


UNUSABLE = [
    "hello",
    "+1202555XXXX",
    "sip:192.168.178.20",
    "sip:jean.dupont@carrier.example",
    "+",
    "x" * 255,
    "\x00",
]


@pytest.mark.parametrize("number", UNUSABLE)
def test_a_number_that_is_none_is_the_callers_doing(number: str, cloud: Cloud) -> None:
    answer = cloud.start("6c5c", number, {"reason": "billing"})
    assert answer.status == 202
    assert (answer.body["status"], answer.body["reason"]) == ("NOT_FOUND", "UNUSABLE_NUMBER")
    assert (answer.body["callerNumber"], answer.body["sources"]) == (None, {})
    assert answer.body["attributes"] == {"reason": "billing"}
    assert cloud.executions() == []
    assert cloud.start("6c5c", number).status == 200
    assert cloud.read("6c5c").body["reason"] == "UNUSABLE_NUMBER"
    assert cloud.set_attributes("6c5c", {"language": "fr"}).status == 200


@pytest.mark.parametrize(
    ("number", "kind"),
    [(33612345678, "a number"), (True, "a boolean"), (["+33612345678"], "an array"), ({}, "an object")],
)
def test_what_is_no_string_is_told_by_name(number: object, kind: str, cloud: Cloud) -> None:
    body = json.dumps({"conversationId": "6c5c", "callerNumber": number})
    answer = cloud.request("StartIdentificationFunction", body=body)
    assert answer.status == 400
    assert answer.body["error"]["message"].startswith(f"callerNumber must be a JSON string, not {kind}")
    assert cloud.item("6c5c") is None


@pytest.mark.parametrize(
    ("number", "verification"),
    [
        (f"sip:{CALLER};verstat=TN-Validation-Passed@x", "passed"),
        (f"tel:{CALLER};verstat=TN-Validation-Failed-B", "failed"),
        (CALLER, "none"),
    ],
)
def test_what_the_carrier_says_of_the_number_is_kept(number: str, verification: str, cloud: Cloud) -> None:
    cloud.start("6c5c", number)
    document = cloud.read("6c5c").body
    assert (document["callerNumber"], document["callerVerification"]) == (CALLER, verification)
    assert cloud.read("6c5c", format="flat").body["callerVerification"] == verification


def test_two_customers_with_the_callers_number_are_told_apart_by_the_ivr(cloud: Cloud) -> None:
    household = {
        **identity("alpha"),
        **dict.fromkeys(("customerId", "displayName", "firstName", "lastName"), ""),
    }
    cloud.lookups.update(dict.fromkeys(SOURCES, knows_nobody))
    cloud.lookups["alpha"] = lambda _event: {"outcome": "MATCH", "identity": {**household, "candidates": 2}}
    cloud.start("6c5c")
    document = cloud.wait_for_end("6c5c")
    assert document["status"] == "SUCCESS"
    assert document["identity"]["candidates"] == 2
    assert document["identity"]["displayName"] == document["identity"]["customerId"] == ""
