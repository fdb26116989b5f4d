"""What a journey can wait for in its conversation, beside Timeout and the events that people send."""

from __future__ import annotations

import time
from collections.abc import Callable  # stepmark resolves annotations at run time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepmark import Happened, LookAgain, Observation, Request

from conversation.record import Status
from journeys.journey import Journey

if TYPE_CHECKING:
    from conversation.record import Conversation

type Into[Payload] = str | Callable[[Payload], object]


class Attribute(Observation[str]):
    """The conversation has an attribute of that name with a word in it, whoever has written it, and whenever.

        On("reason", Attribute("reason", into="reason"))

    An attribute that is empty or white space does not count: many IVRs send one for what they do not know.
    Never happens once the conversation has expired: give the Wait a Timeout too.
    into: the journey's field that takes the text, or a callable that does; without it nothing is kept.
    """

    def __init__(self, name: str, into: Into[str] | None = None) -> None:
        self._name = name
        self._into = into

    def look(self, request: Request[None]) -> Happened | None:
        conversation = _conversation(request)
        value = conversation.attributes.get(self._name, "") if conversation else ""
        return Happened(value) if value.strip() else None

    def handle(self, request: Request[None], payload: str) -> None:
        _store(request, self._into, payload)


EXPIRED = "EXPIRED"


@dataclass(frozen=True)
class Identification:
    """How the identification ended: a final status, and the caller's identity when that is SUCCESS.

    The status is EXPIRED when the conversation was no longer kept by the time the journey asked. candidates:
    how many customers have the caller's number; with more than one, `identity` does not say which it is.
    """

    status: str
    identity: dict[str, str] | None
    candidates: int = 1  # what the release before has found stands for one customer


class Identified(Observation[Identification]):
    """The identification has ended, one way or another.

        On("identified", Identified(into=self.on_identified))

    into: the journey's field that takes the Identification, or a callable that does; without it nothing is
    kept.
    """

    def __init__(self, into: Into[Identification] | None = None) -> None:
        self._into = into

    def look(self, request: Request[None]) -> Happened | LookAgain | None:
        conversation = _conversation(request)
        if conversation is None:
            return Happened(Identification(EXPIRED, None, 0))
        if conversation.status is Status.ONGOING:
            # If everything else has died by then, that look itself makes it TIMED_OUT.
            return LookAgain(max(conversation.deadline_at.timestamp(), time.time() + 1))
        identity = conversation.identity
        if identity is None:
            return Happened(Identification(conversation.status, None, 0))
        texts = {name: value for name, value in identity.items() if isinstance(value, str)}
        return Happened(Identification(conversation.status, texts, int(identity["candidates"])))

    def handle(self, request: Request[None], payload: Identification) -> None:
        _store(request, self._into, payload)


def _conversation(request: Request[None]) -> Conversation | None:
    if not isinstance(request.state, Journey):
        raise TypeError("only a Journey has a conversation to wait for")
    return request.state.conversation()


def _store[Payload](request: Request[None], into: Into[Payload] | None, payload: Payload) -> None:
    if callable(into):
        into(payload)
    elif into is not None:
        setattr(request.state, into, payload)
