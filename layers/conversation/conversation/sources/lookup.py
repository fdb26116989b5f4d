"""One lookup function's work: its settings, its secret, its time budget, its answer, its metrics."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, cast

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from pydantic import ValidationError

from conversation import aws, timestamps
from conversation.errors import SourceUnavailable
from conversation.observability import logger
from conversation.settings import SourceSettings
from conversation.sources.client import Answer, SourceClient, run_within

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from conversation.sources.identity import Identity

# The budget of one lookup, and what it leaves before the deadline for writing the answer.
BUDGET_SECONDS = 6.0
RESERVED_SECONDS = 1.0
# Step Functions ends an execution whose state grows past 256 KB, and no Catch can prevent it.
MAXIMUM_TEXT_LENGTH = 1_000
_SECRET_LIFETIME_SECONDS = 300


class LookupEvent(TypedDict):
    """What the state machine sends; the number is E.164, the deadline an ISO 8601 moment."""

    conversationId: str
    callerNumber: str
    deadlineAt: str


class LookupAnswer(TypedDict):
    """What it gets back; `identity` is there when the outcome is a match."""

    outcome: Literal["MATCH", "NO_MATCH"]
    identity: NotRequired[dict[str, str]]


@cache
def _secrets() -> SecretsProvider:
    return SecretsProvider(boto_config=aws.CONFIG)


def answer_lookup[Secret: Answer](
    source: str,
    secret_type: type[Secret],
    look_up: Callable[[SourceClient, Secret, str], Coroutine[object, object, Identity | None]],
    event: LookupEvent,
) -> LookupAnswer:
    """Ask one company and answer the state machine.

        answer_lookup("alpha", alpha.Secret, alpha.look_up, event)

    Takes at most six seconds, fewer when the deadline is near. Raises SourceUnavailable.
    """
    started = time.monotonic()
    settings = SourceSettings.from_environment()
    outcome = "Unavailable"
    try:
        secret = _read_secret(source, settings.secret_id, secret_type)
        seconds = _time_left(event["deadlineAt"], time.monotonic() - started)
        if seconds <= 0:
            raise SourceUnavailable(f"{source} was not asked: the deadline is too near")
        client = SourceClient(source, settings.base_url)
        identity = run_within(source, seconds, look_up(client, secret, event["callerNumber"]))
        if identity is not None and max(map(len, identity.as_map().values())) > MAXIMUM_TEXT_LENGTH:
            raise SourceUnavailable(f"{source} answered with a text over {MAXIMUM_TEXT_LENGTH:,} characters")
        outcome = "NoMatch" if identity is None else "Match"
    finally:
        _report(source, outcome, time.monotonic() - started, event["conversationId"])
    if identity is None:
        return {"outcome": "NO_MATCH"}
    return {"outcome": "MATCH", "identity": identity.as_map()}


def _read_secret[Secret: Answer](source: str, secret_id: str, secret_type: type[Secret]) -> Secret:
    """Read the credentials, from memory for five minutes: that long a replaced secret takes to be used."""
    try:
        text = cast("str", _secrets().get(secret_id, max_age=_SECRET_LIFETIME_SECONDS))
    except GetParameterError as error:
        raise SourceUnavailable(f"the secret of {source} cannot be read") from error
    try:
        return secret_type.model_validate_json(text)
    except ValidationError:
        fields = ", ".join(secret_type.model_fields)
        raise SourceUnavailable(f"fill the secret of {source} with a JSON object of {fields}") from None


def _time_left(deadline_at: str, used_seconds: float) -> float:
    until_deadline = (timestamps.from_text(deadline_at) - timestamps.now()).total_seconds()
    return min(BUDGET_SECONDS - used_seconds, until_deadline - RESERVED_SECONDS)


def _report(source: str, outcome: str, seconds: float, conversation_id: str) -> None:
    milliseconds = round(seconds * 1000)
    logger.info(
        "lookup ended",
        source=source,
        outcome=outcome,
        milliseconds=milliseconds,
        conversation_id=conversation_id,
    )
    metrics = EphemeralMetrics()
    metrics.add_dimension("source", source)
    metrics.add_metric(f"Lookup{outcome}", MetricUnit.Count, 1)
    metrics.add_metric("LookupDuration", MetricUnit.Milliseconds, milliseconds)
    metrics.flush_metrics()
