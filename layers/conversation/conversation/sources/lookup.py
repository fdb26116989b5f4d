"""One lookup function's work: its settings, its secret, its time budget, its answer, its metrics."""

from __future__ import annotations

import time
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NotRequired, TypedDict

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from conversation import credentials, http_client, settings, timestamps
from conversation.errors import SecretUnavailable, SourceUnavailable
from conversation.observability import logger
from conversation.settings import SourceSettings
from conversation.sources.client import CredentialsRefused, SourceClient, run_within
from conversation.sources.identity import MAX_TEXT_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from conversation.sources.identity import Identity

# The budget of one lookup, and what it leaves before the deadline for writing the answer.
BUDGET_SECONDS = 6.0
RESERVED_SECONDS = 1.0


class LookupEvent(TypedDict):
    """What the state machine sends; the number is E.164, the deadline an ISO 8601 moment."""

    conversationId: str
    callerNumber: str
    deadlineAt: str


class LookupAnswer(TypedDict):
    """What it gets back; `identity` is there when the outcome is a match.

    `secretStage` is there when the value in use is the one before the secret's current value, as the company
    does not take that one. The state machine does not look at it, `make doctor` does.
    """

    outcome: Literal["MATCH", "NO_MATCH"]
    identity: NotRequired[dict[str, str | int]]
    secretStage: NotRequired[Literal["AWSPREVIOUS"]]


type LookUp[Secret] = Callable[[SourceClient, Secret, str], Coroutine[object, object, Identity | None]]


class Company[Secret: NamedTuple](NamedTuple):
    """A company by its name, what its secret holds, and how it is asked."""

    source: str
    secret_type: type[Secret]
    look_up: LookUp[Secret]


def import_own_company() -> Company[Any]:
    """Import the company that this function asks: SOURCE=delta is `conversation.sources.delta`.

    That module has `Secret` and `look_up`; no other company's is imported. Raises ConfigurationError when
    SOURCE is missing, ModuleNotFoundError when there is no such module.
    """
    source = settings.source()
    module = import_module(f"conversation.sources.{source}")
    return Company(source, module.Secret, module.look_up)


def read_own_secret() -> None:
    """Have the company's credentials and all that asking it takes. If that fails, the first lookup tries."""
    company, mine = import_own_company(), SourceSettings.from_environment()
    tls = None
    with suppress(SourceUnavailable, SecretUnavailable):
        reading = credentials.read(company.source, mine.secret_id, company.secret_type)
        tls = run_within(company.source, BUDGET_SECONDS, reading).tls
    http_client.prepare(mine.base_url, tls)


def answer_lookup[Secret: NamedTuple](
    source: str, secret_type: type[Secret], look_up: LookUp[Secret], event: LookupEvent
) -> LookupAnswer:
    """Ask one company and answer the state machine.

        answer_lookup("alpha", alpha.Secret, alpha.look_up, event)

    Takes at most six seconds, fewer when the deadline is near. Raises SourceUnavailable.
    """
    started = time.monotonic()
    mine = SourceSettings.from_environment()
    client = SourceClient(source, mine.base_url, mine.token_table)
    outcome = "Unavailable"
    try:
        seconds = _time_left(event["deadlineAt"])
        if seconds <= 0:
            raise client.unavailable("was not asked: the deadline is too near")
        work = _ask(client, mine.secret_id, secret_type, look_up, event["callerNumber"])
        identity = run_within(source, seconds, work)
        outcome = "NoMatch" if identity is None else "Match"
    except CredentialsRefused as error:
        raise SourceUnavailable(str(error)) from None
    except SecretUnavailable as error:
        raise SourceUnavailable(str(error)) from error
    finally:
        _report(source, outcome, time.monotonic() - started, event["conversationId"], client.counted)
    answer: LookupAnswer = {"outcome": "NO_MATCH"}
    if identity is not None:
        answer = {"outcome": "MATCH", "identity": identity.as_map()}
    if credentials.is_previous(source, mine.secret_id):
        answer["secretStage"] = credentials.PREVIOUS
    return answer


async def _ask[Secret: NamedTuple](
    client: SourceClient, secret_id: str, secret_type: type[Secret], look_up: LookUp[Secret], number: str
) -> Identity | None:
    async def ask(held: credentials.Credentials[Secret]) -> Identity | None:
        client.tls = held.tls
        return await look_up(client, held.secret, number)

    identity = await credentials.use(client.source, secret_id, secret_type, ask, CredentialsRefused)
    if identity is not None:
        texts = [text for text in identity.as_map().values() if isinstance(text, str)]
        if max(map(len, texts)) > MAX_TEXT_LENGTH:
            raise client.unavailable(f"answered with a string of more than {MAX_TEXT_LENGTH:,} characters")
    return identity


def _time_left(deadline_at: str) -> float:
    until_deadline = (timestamps.from_text(deadline_at) - timestamps.now()).total_seconds()
    return min(BUDGET_SECONDS, until_deadline - RESERVED_SECONDS)


def _report(
    source: str, outcome: str, seconds: float, conversation_id: str, counted: Mapping[str, int]
) -> None:
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
    for name, value in counted.items():
        metrics.add_metric(name, MetricUnit.Count, value)
    metrics.flush_metrics()
