"""What becomes of an event that this call does not deliver itself, and what is refused before it is tried."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepmark.core.delivery import refusal_from
from stepmark.core.payloads import Decoded, decode_payload
from stepmark.core.record import MAX_EVENT_BYTES, Progress
from stepmark.core.values import encode
from stepmark.definition.handlers import Observation, Timeout
from stepmark.definition.workflow import MAIN
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
    from stepmark.core.delivery import Posted
    from stepmark.core.record import Event, Record, Status
    from stepmark.core.tree import Tree
    from stepmark.runtime.context import Activity
    from stepmark.runtime.ledger import Runtime

_FIRST_PAUSE, _MAX_PAUSE = 0.01, 0.5  # seconds between two looks for an output


def check_event(tree: Tree, progress: Progress, workflow_id: str, message: Event) -> list[Decoded]:
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
    return decoded


def _is_possible(tree: Tree, progress: Progress, thread: str) -> bool:
    """Whether a thread of that name runs, or would be started by a Go of the definition as it is now."""
    if thread == MAIN or thread in progress.threads:
        return True
    gos = [(node.name, tree[node].id) for found in tree.shape.threads.values() for node in found]
    return thread in {name if ident is None else f"{name}[{ident}]" for name, ident in gos}


def payload_text(event: str, payload: object) -> str:
    """An event's payload as JSON; PayloadRefused when it has none, or a long one."""
    what = f"the payload of event {event!r}"
    text = encode(payload, what, _refused)
    if len(text.encode()) > MAX_EVENT_BYTES:
        long = f"{what} is longer than {MAX_EVENT_BYTES} bytes"
        raise PayloadTooLarge(long, brief=long)
    return text


def _refused(message: str) -> PayloadRefused:
    return PayloadRefused(message, brief=message)


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
    return await_output(runtime, record.workflow_id, message, patience) if meeting.awaited else None


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


def await_output(runtime: Runtime, workflow_id: str, message: Event, patience: Patience) -> Any:
    """Wait for what another worker makes of an event; LeaseLost when it has left the event behind."""
    pause = _FIRST_PAUSE
    while True:
        record = runtime.store.load(workflow_id)
        if record is None:
            raise WorkflowNotFound(f"there is no workflow {workflow_id!r}")
        progress = Progress.from_json(record.progress)
        if message.event_id in progress.outputs:
            return progress.outputs[message.event_id]
        if message.sender in progress.outputs:
            raise refusal_from(progress.outputs[message.sender])
        if progress.ended is not None:
            raise closed_before(workflow_id, progress.ended)
        stored = progress.event(message.event_id)
        if stored is not None and not stored.trouble.attempt and not is_leased(runtime, record):
            raise LeaseLost(workflow_id)
        if patience.is_over:
            raise EventPending(
                f"workflow {workflow_id!r} has not handled the event yet: repeat with the same event_id"
            )
        patience.sleep(pause)
        pause = min(pause * 2, _MAX_PAUSE)


def closed_before(workflow_id: str, ended: Status) -> WorkflowClosed:
    """The error for an event that came too late."""
    return WorkflowClosed(f"workflow {workflow_id!r} was {ended} before it took the event")


def join_commit(activity: Activity, progress: Progress, message: Event, workflow_id: str) -> None:
    """Make an event part of the commit of the step that sends it."""
    kept = Progress(events=progress.events + (activity.events or []))
    check_room(workflow_id, kept, message)
    if not activity.send(replace(message, sender="")):
        raise VersionConflict(workflow_id)  # it has returned meanwhile
