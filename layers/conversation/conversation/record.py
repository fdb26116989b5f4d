"""One conversation: what is kept of it, and the document that the HTTP API shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from conversation import timestamps


class Status(StrEnum):
    """Where the identification stands; every value but ONGOING is final."""

    ONGOING = "ONGOING"
    SUCCESS = "SUCCESS"
    NOT_FOUND = "NOT_FOUND"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"


class SourceStatus(StrEnum):
    """What one company has answered."""

    PENDING = "PENDING"
    MATCH = "MATCH"
    NO_MATCH = "NO_MATCH"
    UNAVAILABLE = "UNAVAILABLE"


WITHHELD_NUMBER = "WITHHELD_NUMBER"
UNUSABLE_NUMBER = "UNUSABLE_NUMBER"


@dataclass(frozen=True, slots=True)
class StartClaim:
    """The right of one request, known by its token, to start the execution until a moment."""

    token: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """One call or chat, as it stands in the table.

    `caller_number` is E.164, or None when there is none, and `reason` says why; `caller_verification` is what
    the carrier says of it: "passed", "failed" or "none". `identity` and the values of
    `other_matches` are flat maps of strings (source, customerId, displayName, firstName, lastName, segment)
    and of `candidates`, a number. `claim` tells which request may start the execution; `execution_arn` is
    known once one has.

    `start_id` tells this conversation from an earlier or later one with the same id: whatever belongs to it
    refers to both. It is None in items that the release before start ids wrote. `journey_attributes` are the
    attributes that its journeys have declared as their own; clients may delete `deletable_attributes`.
    """

    conversation_id: str
    start_id: str | None
    status: Status
    caller_number: str | None
    started_at: datetime
    updated_at: datetime
    deadline_at: datetime
    expires_at: datetime
    concluded_at: datetime | None = None
    caller_verification: str = "none"
    reason: str | None = None
    identity: Mapping[str, str | int] | None = None
    sources: Mapping[str, SourceStatus] = field(default_factory=dict)
    other_matches: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    journeys: frozenset[str] = frozenset()
    journey_attributes: frozenset[str] = frozenset()
    deletable_attributes: frozenset[str] = frozenset()
    claim: StartClaim | None = None
    execution_arn: str | None = None

    def is_overdue(self, now: datetime) -> bool:
        """Tell whether the deadline passed while nothing had concluded the identification."""
        return self.status is Status.ONGOING and now >= self.deadline_at

    def has_expired(self, now: datetime) -> bool:
        """Tell whether the retention is over; DynamoDB itself deletes such items up to days later."""
        return now >= self.expires_at

    def document(self, now: datetime) -> dict[str, object]:
        """Make the document that every route answers with; `elapsedMs` stops at the final status."""
        ended_at = self.concluded_at or now
        document: dict[str, object] = {
            "conversationId": self.conversation_id,
            "status": self.status.value,
            "callerNumber": self.caller_number,
            "callerVerification": self.caller_verification,
            "identity": None if self.identity is None else dict(self.identity),
            "sources": {source: status.value for source, status in self.sources.items()},
            "otherMatches": {source: dict(identity) for source, identity in self.other_matches.items()},
            "attributes": dict(self.attributes),
            "startedAt": timestamps.to_text(self.started_at),
            "updatedAt": timestamps.to_text(self.updated_at),
            "deadlineAt": timestamps.to_text(self.deadline_at),
            "elapsedMs": max(0, round((ended_at - self.started_at).total_seconds() * 1000)),
        }
        if self.reason is not None:
            document["reason"] = self.reason
        return document

    def flat_document(self, now: datetime) -> dict[str, str]:
        """Make the same document as a single-level map of text, for IVRs that read nothing else.

        `identity`, `sources`, `otherMatches` and `attributes` become `identity_customerId`,
        `source_alpha`, `otherMatch_beta_customerId` and `attribute_reason`; what is null is left out.
        """
        flat: dict[str, str] = {}
        singular = {"sources": "source", "otherMatches": "otherMatch", "attributes": "attribute"}
        for key, value in self.document(now).items():
            _flatten(singular.get(key, key), value, flat)
        return flat


def _flatten(name: str, value: object, flat: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(f"{name}_{key}", inner, flat)
    elif value is not None:
        flat[name] = str(value)
