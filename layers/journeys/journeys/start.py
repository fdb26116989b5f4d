"""Start a conversation's journey once, however often it is asked for.

    name the journey in the conversation ──▶ write the workflow, which looks at the conversation
       every change from here on wakes it,      and has a place to be woken up at
       and its attributes are its own

A change between the two finds no workflow; its message comes again until the workflow is there.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING

from stepmark import (
    DefinitionError,
    PayloadRefused,
    StateError,
    describe,
    state_to_json,
    workflow_from_json,
)

from conversation.errors import InvalidRequest, RequestTooLarge
from conversation.store import conversations
from journeys.engines import class_of, engine
from journeys.errors import JourneyNotFound
from journeys.names import workflow_id_of
from journeys.settings import JourneySettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepmark import Snapshot

    from journeys.journey import Journey

# Of the 390 KB that a workflow may take; the rest is for what the journey adds, and for where it stands.
MAX_STATE_BYTES = 256 * 1024


def start(conversation_id: str, name: str, fields: Mapping[str, object]) -> Snapshot:
    """Start the journey of that name with values for some of its fields, or find that it has started.

        snapshot = start("6c5c", "retention", {"offer": "two months free"})

    `snapshot.created` tells the two apart. Raises JourneyNotFound, ConversationNotFound, StoreUnavailable,
    and, with nothing written, InvalidRequest when the journey has no such fields or can't begin with them.
    """
    cls = class_of(name)
    if cls is None:
        raise JourneyNotFound("this deployment has no journey of that name")
    hours = JourneySettings.from_environment().hours
    journey = _journey(cls, conversation_id, fields)
    journey.on_start()
    _check(journey, fields)
    conversation = conversations().join(conversation_id, name, cls.own_attributes, cls.deletable_attributes)
    journey.start_id = conversation.start_id
    ends_at = time.time() + hours * 3600 if hours else conversation.expires_at.timestamp()
    workflow_id = workflow_id_of(conversation_id, name, conversation.start_id)
    return engine().start(journey, workflow_id, ends_at=ends_at)


def _journey(cls: type[Journey], conversation_id: str, fields: Mapping[str, object]) -> Journey:
    known = {field.name for field in dataclasses.fields(cls) if field.init} - {"conversation_id"}
    if not fields.keys() <= known:
        raise InvalidRequest(f"send only these fields: {', '.join(sorted(known))}")
    values = json.dumps({**fields, "conversation_id": conversation_id})
    try:
        return workflow_from_json(cls, values)
    except PayloadRefused as error:
        raise InvalidRequest(error.brief or "send values of the fields' types") from error


def _check(journey: Journey, fields: Mapping[str, object]) -> None:
    """Refuse values with which a journey can't begin, as the engine would: before anything is written."""
    try:
        text = state_to_json(journey)
        describe(journey)
    except (StateError, DefinitionError) as error:
        if not fields:
            raise
        describe(
            type(journey)
        )  # a definition that fails whatever the values are is a defect, and raises here
        raise InvalidRequest("the journey can't start with these values; see what its fields mean") from error
    if len(text.encode()) > MAX_STATE_BYTES:
        raise RequestTooLarge(f"a journey's fields must not exceed {MAX_STATE_BYTES:,} bytes in total")
