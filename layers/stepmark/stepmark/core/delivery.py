"""One sender's event: what it meets in the store, and what its sender is told.

callback() ─▶ meet() ─┬▶ Answered        a repeat: what was answered before
                      ├▶ Closed          the workflow is over
                      ├▶ JoinsCommit     a step of its own sends it: part of that step's commit
                      ├▶ Posted          another worker runs the workflow, and is to deliver it
                      └▶ ToDeliver       this very call delivers it
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from stepmark.core.outputs import FORGOTTEN, unpacked
from stepmark.core.record import MAX_REFUSAL
from stepmark.definition.statements import Wait
from stepmark.errors import EventRefused, HandlerFailed, OutputForgotten, PayloadRefused, text_of

if TYPE_CHECKING:
    from stepmark.core.payloads import Decoded
    from stepmark.core.record import Event, Progress, Status
    from stepmark.core.tree import Tree

# for the release before they are as good as True
_BRIEF, _REFUSED, _REFUSED_BRIEF = "brief", "refused", "refused brief"


class Sender(Enum):
    """Who sends an event to a workflow. STEP: a step or handler of its own, which its commit waits for.
    STEP_ALONGSIDE: a step of its own with `into`, whose commit comes later than others.
    """

    OUTSIDE = auto()
    STEP = auto()
    STEP_ALONGSIDE = auto()


class Answered(NamedTuple):
    """The event has been handled before."""

    output: Any


class Closed(NamedTuple):
    """The workflow takes no more events."""

    status: Status


class JoinsCommit(NamedTuple):
    """It becomes part of the commit of the step that sends it. stored: it is kept already."""

    stored: bool


class Posted(NamedTuple):
    """It is left with the worker that runs the workflow. stored: it is there. awaited: its output is."""

    stored: bool
    awaited: bool


class ToDeliver(NamedTuple):
    """This call delivers it. stored: the event as it is kept already, or None."""

    stored: Event | None


type Meeting = Answered | Closed | JoinsCommit | Posted | ToDeliver


def meet(progress: Progress, event_id: str, sender: Sender, *, leased: bool) -> Meeting:
    """What an event of that id meets. leased: whether another worker runs the workflow.

    Raises OutputForgotten.
    """
    if event_id in progress.outputs:
        return Answered(output_of(progress, event_id))
    if progress.ended is not None:
        return Closed(progress.ended)
    stored = progress.event(event_id)
    if sender is Sender.STEP:
        return JoinsCommit(stored is not None)
    if leased:
        # a step alongside does not wait for what it sends: its own workflow waits for it
        return Posted(stored is not None, awaited=sender is Sender.OUTSIDE)
    return ToDeliver(stored)


def output_of(progress: Progress, event_id: str) -> Any:
    """What was answered before; OutputForgotten when that was too long to be kept."""
    output = progress.outputs[event_id]
    if output == FORGOTTEN:
        message = "the event was handled before, and is not handled again; its output was too long to be kept"
        raise OutputForgotten(message, brief=message)
    return unpacked(output)


class Output(NamedTuple):
    """The reply of an event's handler."""

    value: Any


@dataclass(slots=True)
class Delivery:
    """An event that this call delivers, and the reply to its sender.

    stored: the committed record has it. promised: an earlier sender was told that it is kept. repeatable: its
    sender can ask for the output again, by the event's id. room: it could be kept if nobody waits for it.
    decoded: its payload, as the handlers want it that it may come to. reply: the output, or why it was
    refused; None as long as there is none.
    """

    event: Event
    stored: bool
    promised: bool
    repeatable: bool
    room: bool
    decoded: list[Decoded]
    reply: Output | Exception | None = None

    @property
    def open(self) -> bool:
        """Whether the sender has no reply yet."""
        return self.reply is None

    def is_of(self, event_id: str | None) -> bool:
        """Whether this is about the event of that id, and its sender has no reply yet."""
        return self.reply is None and event_id == self.event.event_id


def delivery_of(
    progress: Progress, message: Event, stored: Event | None, decoded: list[Decoded], *, repeatable: bool
) -> Delivery:
    """The delivery of an event, which becomes one of the events that the workflow keeps."""
    event = message if stored is None else stored
    promised = stored is not None and not stored.sender
    event.sender = ""
    room = stored is not None or progress.room_for(event.payload)
    if stored is None:
        progress.events.append(event)
    return Delivery(event, stored is not None, promised, repeatable or stored is not None, room, decoded)


# -- refusals -----------------------------------------------------------------------------------------


def refusal_at_rest(tree: Tree | None, progress: Progress, event: Event) -> EventRefused | None:
    """Why an event is refused as things stand: a thread is at a Wait that says so, and none waits for it."""
    if tree is None or not tree.shape.refused:
        return None
    nodes = tree.shape.events.get(event.event, [])
    refusing: str | None = None
    for thread in progress.threads.values():
        node = tree.find(thread.place) if event.thread in {None, thread.key} else None
        if node is None or node.kind is not Wait:
            continue
        if any(on in nodes for on in node.body):
            return None
        if all(on in tree.shape.refused.get(node, ()) for on in nodes):
            refusing = refusing or node.name
    if refusing is None:
        return None
    message = f"event {event.event!r} is refused at {refusing!r}"
    return EventRefused(message, brief=message)


def refusal_of(event: str, error: BaseException) -> Exception:
    """What the sender of an event is told whose handler has raised."""
    if isinstance(error, PayloadRefused | EventRefused):
        return error
    refusal = HandlerFailed(
        f"event {event!r} changed nothing: its handler raised {type(error).__name__}: {text_of(error)}"
    )
    refusal.__cause__ = error
    return refusal


def refusal_as_stored(refusal: Exception) -> list[Any]:
    """A refusal for a sender who looks into the store: of what kind it is, and its text."""
    if isinstance(refusal, EventRefused):
        kind = _REFUSED if refusal.brief is None else _REFUSED_BRIEF
        return [kind, (refusal.brief or text_of(refusal))[:MAX_REFUSAL]]
    if not isinstance(refusal, PayloadRefused):
        return [False, text_of(refusal)[:MAX_REFUSAL]]
    if refusal.brief is None:
        return [True, text_of(refusal)[:MAX_REFUSAL]]
    return [_BRIEF, refusal.brief[:MAX_REFUSAL]]


def refusal_from(stored: list[Any]) -> Exception:
    """A refusal as the sender finds it in the store."""
    kind, text = stored
    if not kind:
        return HandlerFailed(text)
    if kind in {_REFUSED, _REFUSED_BRIEF}:
        return EventRefused(text, brief=text if kind == _REFUSED_BRIEF else None)
    return PayloadRefused(text, brief=text if kind == _BRIEF else None)
