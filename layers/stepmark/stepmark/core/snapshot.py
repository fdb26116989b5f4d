"""A workflow as seen from outside."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar  # noqa: UP035 - defaults of type parameters came with Python 3.13

from stepmark.core.positions import positions_of
from stepmark.core.record import Progress
from stepmark.core.shape import build
from stepmark.core.state import codec_of, stored_fields
from stepmark.definition.statements import Wait
from stepmark.errors import DefinitionError, StateError

if TYPE_CHECKING:
    from stepmark.core.positions import LivePosition
    from stepmark.core.record import Record, Status, Thread
    from stepmark.core.tree import Tree
    from stepmark.definition.workflow import Workflow


@dataclass(frozen=True, slots=True)
class ThreadSnapshot:
    """One live thread: the statement it is at, the events it waits for there, and its last error.

    attempt: how often the statement has failed. due_at: when a timer or a retry is due, seconds since the
    epoch. brief: the error by its place and its type, without what an exception says, which may quote
    anything. frames: where in the code it was raised, the innermost last, each as `file:line function`.
    """

    at: str
    waiting_for: list[str] = field(default_factory=list)
    attempt: int = 0
    error: str | None = None
    parked: bool = False
    due_at: float | None = None
    brief: str | None = None
    frames: tuple[str, ...] = ()


State = TypeVar("State", default=Any)


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[State]):
    """A workflow at one moment.

    state: the state object (a copy); the stored dict when the class no longer accepts it, None when it is no
    JSON. waiting_for: the names of all events that the threads wait for. created: this very call has started
    the workflow. positions: what `check` has to know of the threads. ends_at: the end of its life, if it has
    one, seconds since the epoch. brief, frames: of the error, as a thread's.
    """

    workflow_id: str
    workflow: str
    status: Status
    state: State
    waiting_for: list[str]
    threads: dict[str, ThreadSnapshot]
    result: Any
    error: str | None
    version: int
    stored_state: str
    created: bool = False
    positions: tuple[LivePosition, ...] = ()
    ends_at: float | None = None
    brief: str | None = None
    frames: tuple[str, ...] = ()

    def to_dict(self, *, brief: bool = False) -> dict[str, Any]:
        """What JSON can hold of it, for an API or a command; brief: without what exceptions say."""
        shown: dict[str, Any] = {
            "workflowId": self.workflow_id,
            "workflow": self.workflow,
            "status": str(self.status),
            "waitingFor": self.waiting_for,
            "state": stored_fields(self.stored_state),
            "threads": {
                name: {
                    "at": thread.at,
                    "waitingFor": thread.waiting_for,
                    "attempt": thread.attempt,
                    "error": thread.brief if brief else thread.error,
                    "parked": thread.parked,
                    "dueAt": thread.due_at,
                }
                for name, thread in self.threads.items()
            },
            "result": self.result,
            "error": self.brief if brief else self.error,
            "endsAt": self.ends_at,
        }
        if self.frames and not brief:
            shown["frames"] = list(self.frames)
        return shown


def snapshot_of(record: Record, progress: Progress, state: Any, tree: Tree | None) -> Snapshot:
    """A record as a Snapshot; the names of events come from the tree, as far as there is one."""
    threads = {key: _thread(thread, tree) for key, thread in progress.threads.items()}
    error, brief, frames = progress.error, progress.brief or progress.error, list[str]()
    for place, trouble in sorted(progress.places(), key=lambda each: not each[1].parked):
        if not error:
            error, brief, frames = trouble.error, trouble.brief_error(place), trouble.frames
    return Snapshot(
        workflow_id=record.workflow_id,
        workflow=record.workflow,
        status=record.status,
        state=state,
        waiting_for=list(dict.fromkeys(name for thread in threads.values() for name in thread.waiting_for)),
        threads=threads,
        result=progress.result,
        error=error,
        version=record.version,
        stored_state=record.state,
        positions=tuple(positions_of(record.workflow_id, progress)),
        ends_at=progress.ends_at,
        brief=brief,
        frames=tuple(frames),
    )


def _thread(thread: Thread, tree: Tree | None) -> ThreadSnapshot:
    times = [awaited.fire_at for awaited in thread.awaited.values()] + [thread.trouble.retry_at]
    node = None if tree is None else tree.find(thread.place)
    return ThreadSnapshot(
        at=thread.at if node is None else node.name,
        waiting_for=[on.name for on in node.body] if node is not None and node.kind is Wait else [],
        attempt=thread.trouble.attempt,
        error=thread.trouble.error,
        parked=thread.trouble.parked,
        due_at=min((at for at in times if at is not None), default=None),
        brief=thread.trouble.brief_error(thread.at),
        frames=tuple(thread.trouble.frames),
    )


def read_snapshot(record: Record, cls: type[Workflow] | None) -> Snapshot:
    """A record as a Snapshot, whether or not somebody has its class: it is shown as far as that goes."""
    try:
        progress = Progress.from_json(record.progress)
    except StateError as error:
        progress = Progress(error=str(error), ends_at=record.ends_at)
    state: Any = stored_fields(record.state)
    tree = None
    if cls is not None:
        with suppress(StateError, DefinitionError):
            state = codec_of(cls).load(record.state)
            tree = build(state)
    return snapshot_of(record, progress, state, tree)
