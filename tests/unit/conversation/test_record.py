"""The document is the contract with the IVR: every field, its type, and its flat twin."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation.record import Conversation, SourceStatus, StartClaim, Status

START = datetime(2026, 11, 21, 19, 34, 1, 123_000, UTC)
JEAN = {
    "source": "gamma",
    "customerId": "G-1042",
    "displayName": "Jean Dupont",
    "firstName": "Jean",
    "lastName": "Dupont",
    "segment": "vip",
    "candidates": 1,
}
PENDING = dict.fromkeys(("alpha", "beta", "gamma"), SourceStatus.PENDING)


def conversation(**changes: Any) -> Conversation:
    fields: dict[str, Any] = {
        "conversation_id": "6c5c",
        "start_id": "0a1b2c3d4e5f6071",
        "status": Status.ONGOING,
        "caller_number": "+33612345678",
        "started_at": START,
        "updated_at": START,
        "deadline_at": START + timedelta(seconds=10),
        "expires_at": START + timedelta(hours=24),
        "sources": PENDING,
        "claim": StartClaim("secret-token", START),
        "execution_arn": "arn:aws:states:eu-west-1:123456789012:express:identify:1",
    }
    return Conversation(**{**fields, **changes})


IDENTIFIED = conversation(
    status=Status.SUCCESS,
    updated_at=START + timedelta(milliseconds=900),
    concluded_at=START + timedelta(milliseconds=412),
    identity=JEAN,
    sources={"alpha": SourceStatus.NO_MATCH, "beta": SourceStatus.MATCH, "gamma": SourceStatus.MATCH},
    other_matches={"beta": {**JEAN, "source": "beta", "customerId": "B-7"}},
    attributes={"reason": "billing"},
)


def test_the_document_of_an_identified_caller() -> None:
    assert IDENTIFIED.document(START + timedelta(hours=1)) == {
        "conversationId": "6c5c",
        "status": "SUCCESS",
        "callerNumber": "+33612345678",
        "callerVerification": "none",
        "identity": JEAN,
        "sources": {"alpha": "NO_MATCH", "beta": "MATCH", "gamma": "MATCH"},
        "otherMatches": {"beta": {**JEAN, "source": "beta", "customerId": "B-7"}},
        "attributes": {"reason": "billing"},
        "startedAt": "2026-11-21T19:34:01.123Z",
        "updatedAt": "2026-11-21T19:34:02.023Z",
        "deadlineAt": "2026-11-21T19:34:11.123Z",
        "elapsedMs": 412,
    }


def test_the_flat_document_of_an_identified_caller() -> None:
    assert IDENTIFIED.flat_document(START + timedelta(hours=1)) == {
        "conversationId": "6c5c",
        "status": "SUCCESS",
        "callerNumber": "+33612345678",
        "callerVerification": "none",
        "identity_source": "gamma",
        "identity_customerId": "G-1042",
        "identity_displayName": "Jean Dupont",
        "identity_firstName": "Jean",
        "identity_lastName": "Dupont",
        "identity_segment": "vip",
        "identity_candidates": "1",
        "source_alpha": "NO_MATCH",
        "source_beta": "MATCH",
        "source_gamma": "MATCH",
        "otherMatch_beta_source": "beta",
        "otherMatch_beta_customerId": "B-7",
        "otherMatch_beta_displayName": "Jean Dupont",
        "otherMatch_beta_firstName": "Jean",
        "otherMatch_beta_lastName": "Dupont",
        "otherMatch_beta_segment": "vip",
        "otherMatch_beta_candidates": "1",
        "attribute_reason": "billing",
        "startedAt": "2026-11-21T19:34:01.123Z",
        "updatedAt": "2026-11-21T19:34:02.023Z",
        "deadlineAt": "2026-11-21T19:34:11.123Z",
        "elapsedMs": "412",
    }


def test_what_is_not_known_yet_is_null_and_flat_leaves_it_out() -> None:
    ongoing = conversation()
    document = ongoing.document(START + timedelta(milliseconds=1_500))
    assert document["identity"] is None
    assert document["otherMatches"] == document["attributes"] == {}
    assert document["sources"] == {"alpha": "PENDING", "beta": "PENDING", "gamma": "PENDING"}
    assert document["elapsedMs"] == 1_500
    assert "reason" not in document
    assert not any(name.startswith("identity") for name in ongoing.flat_document(START))


def test_a_withheld_number_has_a_reason_and_nobody_was_asked() -> None:
    withheld = conversation(
        status=Status.NOT_FOUND, caller_number=None, reason="WITHHELD_NUMBER", sources={}, concluded_at=START
    )
    document = withheld.document(START + timedelta(minutes=1))
    assert document["reason"] == "WITHHELD_NUMBER"
    assert document["callerNumber"] is None
    assert document["sources"] == {}
    assert document["elapsedMs"] == 0
    flat = withheld.flat_document(START)
    assert flat["reason"] == "WITHHELD_NUMBER"
    assert "callerNumber" not in flat


def test_a_reader_whose_clock_is_behind_sees_no_negative_time() -> None:
    assert conversation().document(START - timedelta(seconds=2))["elapsedMs"] == 0


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize(("milliseconds", "passed"), [(-1, False), (0, True), (1, True)])
def test_only_an_ongoing_conversation_becomes_overdue(
    status: Status, milliseconds: int, *, passed: bool
) -> None:
    moment = START + timedelta(seconds=10, milliseconds=milliseconds)
    assert conversation(status=status).is_overdue(moment) == (passed and status is Status.ONGOING)


@pytest.mark.parametrize(("milliseconds", "expired"), [(-1, False), (0, True), (1, True)])
def test_retention_ends_to_the_millisecond(milliseconds: int, *, expired: bool) -> None:
    moment = START + timedelta(hours=24, milliseconds=milliseconds)
    assert conversation().has_expired(moment) == expired


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)


@given(
    status=st.sampled_from(Status),
    sources=st.dictionaries(st.sampled_from(["alpha", "beta", "gamma"]), st.sampled_from(SourceStatus)),
    identity=st.none() | st.fixed_dictionaries(dict.fromkeys(JEAN, TEXTS)),
    others=st.dictionaries(
        st.sampled_from(["alpha", "beta"]), st.fixed_dictionaries(dict.fromkeys(JEAN, TEXTS))
    ),
    attributes=st.dictionaries(NAMES, TEXTS),
)
def test_flat_holds_the_same_facts_as_texts_in_one_level(
    status: Status,
    sources: Mapping[str, SourceStatus],
    identity: Mapping[str, str] | None,
    others: Mapping[str, Mapping[str, str]],
    attributes: Mapping[str, str],
) -> None:
    subject = conversation(
        status=status, sources=sources, identity=identity, other_matches=others, attributes=attributes
    )
    flat = subject.flat_document(START)
    assert all(type(value) is str for value in flat.values())
    assert {name: flat[f"attribute_{name}"] for name in attributes} == attributes
    assert {name: flat[f"source_{name}"] for name in sources} == sources
    if identity is not None:
        assert {name: flat[f"identity_{name}"] for name in JEAN} == identity
    for other, match in others.items():
        assert {name: flat[f"otherMatch_{other}_{name}"] for name in JEAN} == match
    # Nothing more than those, and the seven plain facts of every conversation.
    identities = len(others) + (identity is not None)
    assert len(flat) == 8 + len(attributes) + len(sources) + len(JEAN) * identities


def test_what_is_kept_for_starting_stays_inside() -> None:
    everything = repr(conversation().document(START)) + repr(conversation().flat_document(START))
    assert "secret-token" not in everything
    assert "arn:aws" not in everything
