"""What becomes of an event that this call does not deliver itself, and what is refused before it is tried."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepmark.core.delivery import Output, Sender, output_of, refusal_at_rest, refusal_from
from stepmark.core.event_ids import anonymous, qualified
from stepmark.core.payloads import Decoded, decode_payload
from stepmark.core.record import MAX_EVENT_BYTES, Event, Progress
from stepmark.core.values import encode
from stepmark.definition.handlers import Observation, Timeout
from stepmark.definition.workflow import MAIN, is_text
from stepmark.errors import (
    EventPending,
    EventsFull,
    PayloadRefused,
    PayloadTooLarge,
    UnknownEvent,
    UnknownThread,
    VersionConflict,
    WorkflowClosed,
    WorkflowNotFound,
)
from stepmark.runtime.ledger import LeaseLost, is_leased

if TYPE_CHECKING:
    from stepmark.core.delivery import Delivery, Posted
    from stepmark.core.record import Record, Status
    from stepmark.core.tree import Tree
    from stepmark.runtime.context import Activity
    from stepmark.runtime.ledger import Runtime

_FIRST_PAUSE, _MAX_PAUSE = 0.01, 0.5  # seconds between two looks for an output


def message_of(event: str, payload: object, thread: str | None, event_id: str | None, until: float) -> Event:
    """An event as its sender gives it, who waits until then.

    Raises PayloadRefused, and ValueError for an id that is no text.
    """
    if isinstance(event_id, str) and not is_text(event_id):
        raise ValueError(f"event_id must be some text, not {event_id!r}")
    text = encode(payload, f"the payload of event {event!r}", _refused)
    if len(text.encode()) > MAX_EVENT_BYTES:
        long = f"the payload of event {event!r} is longer than {MAX_EVENT_BYTES} bytes"
        raise PayloadTooLarge(long, brief=long)
    sender = uuid.uuid4().hex
    own = qualified(event_id, event, thread) if event_id else anonymous(sender)
    return Event(event, text, thread, own, 0.0, sender=sender, until=until)


def _refused(message: str) -> PayloadRefused:
    return PayloadRefused(message, brief=message)


def sender_of(activity: Activity | None) -> Sender:
    """Who sends an event: a step or handler of the workflow's own, or somebody outside."""
    if activity is None:
        return Sender.OUTSIDE
    return Sender.STEP_ALONGSIDE if activity.events is None else Sender.STEP


def runs_code(tree: Tree, event: str) -> bool:
    """Whether a handler of an event has something to run."""
    return any(tree[node].handler is not None for node in tree.shape.events.get(event, ()))


def check_event(
    tree: Tree, progress: Progress, workflow_id: str, message: Event, sender: Sender
) -> list[Decoded]:
    """Refuse what the definition has no use for; the payload as its handlers want it."""
    event, thread = message.event, message.thread
    handlers = [tree[node].handler for node in tree.shape.events.get(event, [])]
    wanted = [handler for handler in handlers if not isinstance(handler, Timeout | Observation)]
    if not wanted:
        why = "fires by itself" if handlers else "is not in its definition"
        raise UnknownEvent(f"workflow {workflow_id!r}: event {event!r} {why}")
    if thread is not None and not _is_possible(tree, progress, thread):
        raise UnknownThread(f"workflow {workflow_id!r} has no thread {thread!r}")
    decoded: list[Decoded] = []
    refused: PayloadRefused | None = None
    for handler in wanted:
        try:
            decoded.append(decode_payload(handler, message.payload, event))
        except PayloadRefused as error:
            refused = error
    if refused is not None and not decoded:
        raise refused
    if sender is not Sender.OUTSIDE and progress.event(message.event_id) is None:
        # a step can't be told later, when the workflow has come to rest
        not_now = refusal_at_rest(tree, progress, message)
        if not_now is not None:
            raise not_now
    return decoded


def _is_possible(tree: Tree, progress: Progress, thread: str) -> bool:
    """Whether a thread of that name runs, or would be started by a Go of the definition as it is now."""
    if thread == MAIN or thread in progress.threads:
        return True
    gos = [(node.name, tree[node].id) for found in tree.shape.threads.values() for node in found]
    return thread in {name if ident is None else f"{name}[{ident}]" for name, ident in gos}


def check_room(workflow_id: str, progress: Progress, message: Event) -> None:
    """Raise EventsFull when one more event can't be kept."""
    if not progress.room_for(message.payload):
        raise EventsFull(workflow_id)


def leave_to_holder(
    runtime: Runtime, record: Record, message: Event, meeting: Posted, patience: Patience
) -> Any:
    """Have the worker that runs the workflow deliver an event, and wait for its output if one is awaited."""
    if not meeting.stored:
        post(runtime, record, message if meeting.awaited else replace(message, sender=""))
    if not meeting.awaited:
        return None
    return await_output(runtime, record.workflow_id, message, patience, own=not meeting.stored)


def post(runtime: Runtime, record: Record, message: Event) -> None:
    """Leave an event with the worker that runs the workflow: its next commit finds it."""
    progress = Progress.from_json(record.progress)  # as it is stored, not as a draft would write it
    check_room(record.workflow_id, progress, message)
    progress.events.append(message)
    _leave(runtime, record, progress)


def post_look(runtime: Runtime, record: Record) -> None:
    """Leave word to look; written even if it was left before, as the worker may already have consumed it."""
    progress = Progress.from_json(record.progress)
    progress.look = True
    _leave(runtime, record, progress)


def _leave(runtime: Runtime, record: Record, progress: Progress) -> None:
    posted = replace(record, version=record.version + 1, progress=progress.to_json())
    runtime.store.commit(posted, record.version)


class Patience:
    """For how long a sender waits for an output, whatever becomes of the wall clock meanwhile.

    until: when that ends, as far as can be told by that clock.
    """

    def __init__(self, runtime: Runtime, seconds: float) -> None:
        self.until = runtime.clock.now() + seconds
        self._runtime = runtime
        self._end = runtime.monotonic() + seconds
        self._left = seconds  # when time passes by sleeping alone, as it may in a clock of somebody's own

    @property
    def is_over(self) -> bool:
        """Whether the sender waits no longer."""
        return self._left <= 0 or self._runtime.monotonic() >= self._end

    def sleep(self, seconds: float) -> None:
        """Wait for the next look."""
        self._runtime.clock.sleep(seconds)
        self._left -= seconds


def await_output(runtime: Runtime, workflow_id: str, message: Event, patience: Patience, *, own: bool) -> Any:
    """Wait for what another worker makes of an event; LeaseLost when it has left the event behind.

    own: this sender has left it there. Else it has to be sent again when it is gone: it was refused, and that
    was told to whoever had sent it.
    """
    pause = _FIRST_PAUSE
    while True:
        record = runtime.store.load(workflow_id)
        if record is None:
            raise WorkflowNotFound(f"there is no workflow {workflow_id!r}")
        progress = Progress.from_json(record.progress)
        if message.event_id in progress.outputs:
            return output_of(progress, message.event_id)
        if message.sender in progress.outputs:
            raise refusal_from(output_of(progress, message.sender))
        if progress.ended is not None:
            raise closed_before(workflow_id, progress.ended)
        stored = progress.event(message.event_id)
        if stored is None and not own:
            raise LeaseLost(workflow_id)
        if stored is not None and not stored.trouble.attempt and not is_leased(runtime, record):
            raise LeaseLost(workflow_id)
        if patience.is_over:
            raise EventPending(
                f"workflow {workflow_id!r} has not handled the event yet: repeat with the same event_id"
            )
        patience.sleep(pause)
        pause = min(pause * 2, _MAX_PAUSE)


def reply_of(delivery: Delivery, workflow_id: str, ended: Status | None) -> Any:
    """What a sender is told by the call that has delivered its event; None for one that is kept."""
    if isinstance(delivery.reply, Output):
        return delivery.reply.value
    if delivery.reply is not None:
        raise delivery.reply
    if ended is not None and not delivery.promised:
        raise closed_before(workflow_id, ended)
    return None


def closed_before(workflow_id: str, ended: Status) -> WorkflowClosed:
    """The error for an event that came too late."""
    return WorkflowClosed(f"workflow {workflow_id!r} was {ended} before it took the event")


def join_commit(activity: Activity, progress: Progress, message: Event, workflow_id: str) -> None:
    """Make an event part of the commit of the step that sends it."""
    kept = Progress(events=progress.events + (activity.events or []))
    check_room(workflow_id, kept, message)
    if not activity.send(replace(message, sender="")):
        raise VersionConflict(workflow_id)  # it has returned meanwhile
