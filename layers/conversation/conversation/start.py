"""Start the identification of a caller once, however often and however simultaneously it is asked for.

What a request does, and what its repetition finds when it died there:

    put ONGOING, with a claim ──▶ StartExecution ──▶ note the execution ──▶ 202
       nothing: starts anew       the claim runs out:    a second execution is started; every write of
                                  the repetition          an execution is conditional, so it changes
                                  starts the execution    nothing that the first one has written

A claim lasts three seconds, shorter than an IVR waits before it repeats. Nobody calls StartExecution whose
claim may run out meanwhile: after a slow write a request claims anew, before anybody else does.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, SSLError

from conversation import aws, timestamps
from conversation.errors import NumberConflict, StartUnavailable, StoreUnavailable
from conversation.observability import logger
from conversation.record import Conversation, SourceStatus, StartClaim, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_stepfunctions import SFNClient

    from conversation.phone_numbers import Caller
    from conversation.settings import StartSettings
    from conversation.store import ConversationStore

CLAIM_DURATION = timedelta(seconds=3)
_MAX_START = timedelta(seconds=aws.STEP_FUNCTIONS_SECONDS)
_POLL_SECONDS = 0.05


class StartRequest(NamedTuple):
    """A request to identify a caller."""

    conversation_id: str
    caller: Caller
    attributes: Mapping[str, str]


class Started(NamedTuple):
    """The conversation, and whether this very request set it going."""

    conversation: Conversation
    is_new: bool


def start(
    request: StartRequest, store: ConversationStore, step_functions: SFNClient, settings: StartSettings
) -> Started:
    """Write the conversation and start its execution, or find that this was done before.

        request = StartRequest("6c5c", read_caller("+33612345678", "FR"), {})
        started = start(request, store, aws.step_functions(), settings)

    Raises NumberConflict when the id is known with another number, StoreUnavailable, and StartUnavailable
    when Step Functions did not start: then the same request may be sent again at once.
    """
    now = timestamps.now()
    mine = _new_claim(now)
    created = _new_conversation(request, settings, now, mine)
    existing = store.create(created)
    conversation = existing or created
    if conversation.caller_number != request.caller.number:
        raise NumberConflict(
            f"conversation {request.conversation_id} was started with another callerNumber; use a new id"
        )
    give_up_at = time.monotonic() + 2 * CLAIM_DURATION.total_seconds()
    while conversation.claim and conversation.execution_arn is None and conversation.status is Status.ONGOING:
        now = timestamps.now()
        is_mine = conversation.claim.token == mine.token
        if is_mine and now + _MAX_START <= mine.until:
            _execute(conversation, mine, store, step_functions, settings)
            return Started(store.as_it_stands(conversation), is_new=True)
        if time.monotonic() >= give_up_at:
            raise StartUnavailable("another request is starting this conversation; send the request again")
        if is_mine or now >= conversation.claim.until:
            mine = _new_claim(now)
            if store.claim_start(conversation.conversation_id, conversation.claim, mine):
                conversation = replace(conversation, claim=mine)
                continue
        time.sleep(_POLL_SECONDS)
        conversation = store.read_start(conversation.conversation_id, conversation.start_id)
    return Started(conversation, is_new=existing is None)


def _new_conversation(
    request: StartRequest, settings: StartSettings, now: datetime, claim: StartClaim
) -> Conversation:
    caller = request.caller
    nobody = caller.number is None
    return Conversation(
        conversation_id=request.conversation_id,
        start_id=secrets.token_hex(8),
        status=Status.NOT_FOUND if nobody else Status.ONGOING,
        reason=caller.reason,
        caller_number=caller.number,
        caller_verification=caller.verification,
        started_at=now,
        updated_at=now,
        concluded_at=now if nobody else None,
        deadline_at=now + timedelta(seconds=settings.deadline_seconds),
        expires_at=now + timedelta(hours=settings.retention_hours),
        sources={} if nobody else dict.fromkeys(settings.sources, SourceStatus.PENDING),
        attributes=request.attributes,
        claim=claim,
    )


def _new_claim(now: datetime) -> StartClaim:
    return StartClaim(token=uuid.uuid4().hex, until=now + CLAIM_DURATION)


def _execute(
    conversation: Conversation,
    claim: StartClaim,
    store: ConversationStore,
    step_functions: SFNClient,
    settings: StartSettings,
) -> None:
    try:
        execution_arn = _start_execution(
            step_functions, settings.state_machine_arn, _execution_input(conversation)
        )
    except (ClientError, BotoCoreError) as error:
        _release(conversation, claim, store)
        reason = aws.reason(error)
        raise StartUnavailable(f"Step Functions did not start ({reason}); send the request again") from error
    try:
        store.mark_started(conversation.conversation_id, conversation.start_id, execution_arn)
    except StoreUnavailable:
        # The execution runs. A repeated start may run a second one, which changes nothing.
        logger.warning("execution started but not noted", conversation_id=conversation.conversation_id)


def _start_execution(step_functions: SFNClient, state_machine_arn: str, text: str) -> str:
    """Start an execution and return its ARN; once more when a kept connection was closed before any answer.

    Both may have been started then, as when a request is repeated: the second changes nothing.
    """
    began = time.monotonic()
    try:
        return step_functions.start_execution(stateMachineArn=state_machine_arn, input=text)["executionArn"]
    except (ConnectionClosedError, SSLError):  # with TLS a close may show as either
        if time.monotonic() - began > aws.CLOSED_WITHIN_SECONDS:
            raise
    return step_functions.start_execution(stateMachineArn=state_machine_arn, input=text)["executionArn"]


def _release(conversation: Conversation, claim: StartClaim, store: ConversationStore) -> None:
    try:
        store.release_start(conversation.conversation_id, claim)
    except StoreUnavailable:
        # The claim runs out by itself.
        logger.warning("start failed and its claim stays", conversation_id=conversation.conversation_id)


def _execution_input(conversation: Conversation) -> str:
    start = {} if conversation.start_id is None else {"startId": conversation.start_id}
    return json.dumps(
        {
            "conversationId": conversation.conversation_id,
            **start,
            "callerNumber": conversation.caller_number,
            "deadlineAt": timestamps.to_text(conversation.deadline_at),
        }
    )
