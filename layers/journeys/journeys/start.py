"""Start a conversation's journey once, however often it is asked for.

    name the journey in the conversation ──▶ write the workflow, which looks at the conversation
       every change from here on wakes it       and has a place to be woken up at

A change between the two finds no workflow; its message comes again until the workflow is there.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from conversation.errors import InvalidRequest
from conversation.store import conversations
from journeys.engines import class_of, engine
from journeys.errors import JourneyNotFound
from journeys.names import workflow_id_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepmark import Snapshot

    from journeys.journey import Journey


def start(conversation_id: str, name: str, fields: Mapping[str, object]) -> Snapshot:
    """Start the journey of that name with values for some of its fields, or find that it has started.

        snapshot = start("6c5c", "retention", {"offer": "two months free"})

    `snapshot.created` tells the two apart. Raises JourneyNotFound, ConversationNotFound, InvalidRequest when
    the journey has no such fields, and StoreUnavailable.
    """
    cls = class_of(name)
    if cls is None:
        raise JourneyNotFound(f"there is no journey {name}")
    journey = _journey(cls, conversation_id, fields)
    conversations().join(conversation_id, name)
    return engine().start(journey, workflow_id_of(conversation_id, name))


def _journey(cls: type[Journey], conversation_id: str, fields: Mapping[str, object]) -> Journey:
    known = {field.name for field in dataclasses.fields(cls) if field.init} - {"conversation_id"}
    if unknown := sorted(fields.keys() - known):
        raise InvalidRequest(f"send no other fields than {', '.join(sorted(known))}; {unknown[0]} is none")
    values = json.dumps({**fields, "conversation_id": conversation_id})
    try:
        journey: Journey = TypeAdapter(cls).validate_json(values, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequest(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    return journey
