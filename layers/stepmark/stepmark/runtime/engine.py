"""The engine: what a program calls to start workflows, send them events and look at them."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Self

from stepmark.core.check import positions_of
from stepmark.core.record import MAX_EVENT_BYTES, Event, Progress, Record, Status, Thread
from stepmark.core.shape import build
from stepmark.core.snapshot import Snapshot, ThreadSnapshot
from stepmark.core.state import codec_of
from stepmark.core.values import encode, read_or_none
from stepmark.definition.handlers import Observation, decode_payload
from stepmark.definition.statements import MAIN, Timeout, Wait
from stepmark.definition.workflow import check_start, is_text
from stepmark.errors import (
    DefinitionError,
    EventPending,
    EventsFull,
    PayloadRefused,
    PayloadTooLarge,
    RetryableError,
    StateError,
    UnknownEvent,
    UnknownThread,
    UnknownWorkflow,
    VersionConflict,
    WorkflowBusy,
    WorkflowClosed,
    WorkflowExists,
    WorkflowNotFound,
)
from stepmark.runtime.clock import Clock, SystemClock
from stepmark.runtime.context import activity_in
from stepmark.runtime.heartbeat import HEARTBEAT
from stepmark.runtime.ledger import Budget, LeaseLost, Runtime
from stepmark.runtime.owners import has_died
from stepmark.runtime.session import GIVE_UP_SECONDS, Session
from stepmark.runtime.waiting import refusal_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepmark.core.shape import Node, Tree
    from stepmark.definition.workflow import Workflow
    from stepmark.runtime.scheduler import Scheduler
    from stepmark.stores.protocol import Store


class Engine:
    """Runs workflows of the given classes over a store.

        engine = Engine([Approval], store=SqliteStore("workflows.db"))
        engine.start(Approval(user="ada"), workflow_id="request-7")
        engine.callback("request-7", "answer", {"approved": True})

    start() and callback() run the workflow in the calling thread until it is blocked or the budget is used
    up; a worker (`run_worker`) goes on with what is due later. Any number of engines may share a store.

    lease_seconds: for how long a workflow belongs to the one who runs it; prolonged while a step takes
    longer. Whoever dies is replaced after that time; over a MemoryStore or SqliteStore, every call from the
    same machine sees the death at once. budget: what one call may do; beyond it, callback() does no more than
    deliver its event. callback_seconds: how long callback() waits for another worker that runs the workflow.
    parallel: how many steps with `into` run at once on threads; those of a workflow that such a step runs
    itself have threads of their own.

    queued: the scheduler delivers each wake-up to one worker, which calls resume(); then what is left beyond
    the budget goes over with its lease, and costs no write of its own. Whoever takes it over writes nothing
    before the first step is done. So if the queue delivers a wake-up twice, which queues that promise "at
    least once" do now and then, both workers run that step, and one of them commits it.
    """

    def __init__(
        self,
        workflows: Iterable[type[Workflow]],
        *,
        store: Store,
        scheduler: Scheduler | None = None,
        clock: Clock | None = None,
        lease_seconds: float = 15.0,
        budget: Budget | None = None,
        callback_seconds: float = 10.0,
        parallel: int = 32,
        queued: bool = False,
    ) -> None:
        self._classes: dict[str, type[Workflow]] = {}
        for cls in workflows:
            name = cls.__workflow_name__
            if self._classes.setdefault(name, cls) is not cls:
                raise ValueError(f"two workflow classes are called {name!r}: give one of them another name")
            codec_of(cls)
        self._callback_seconds = callback_seconds
        self._executor = ThreadPoolExecutor(parallel, thread_name_prefix="stepmark")
        self._sessions: set[Session] = set()
        self.runtime = Runtime(
            store,
            scheduler,
            clock or SystemClock(),
            self._executor,
            lease_seconds,
            budget or Budget(),
            queued,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the steps that still run on threads; optional."""
        self._executor.shutdown()

    @property
    def runs_something(self) -> bool:
        """Whether a call runs a workflow at this moment."""
        return bool(self._sessions)

    # -- what a program calls -------------------------------------------------------------------------

    def start(
        self, workflow: Workflow, workflow_id: str | None = None, *, ends_at: float | None = None
    ) -> Snapshot:
        """Start a workflow and run it until it is blocked.

            snapshot = engine.start(Approval(user="ada"), workflow_id="request-7")

        ends_at: the end of its life, in seconds since the epoch. Whatever it is at then, it is cancelled;
        what can't be torn down within an hour is given up. A step that runs at that moment is not cut off.

        Starting the same id again runs nothing twice and returns the workflow as it is (`created` is False).
        Raises StateError or DefinitionError, with nothing stored, when the workflow can't begin, and
        WorkflowExists when the id belongs to a workflow of another class; TypeError or ValueError when it is
        given no workflow, an id that is no text, or an ends_at that is no time.
        """
        check_start(workflow, workflow_id)
        if ends_at is not None and not isfinite(ends_at):
            raise ValueError(f"ends_at must be a time in seconds since the epoch, not {ends_at!r}")
        workflow_id = uuid.uuid4().hex if workflow_id is None else workflow_id
        cls = type(workflow)
        name = cls.__workflow_name__
        self._class_of(name)
        text, _ = codec_of(cls).store(workflow)
        end = None if ends_at is None else float(ends_at)
        progress = Progress(threads={MAIN: Thread(MAIN, "")}, ends_at=end).to_json()
        empty = Record(workflow_id, name, 0, Status.RUNNING, text, progress, None, None, None)
        session = Session(self.runtime, cls, empty)
        if not _begin(session):
            existing = self._load(workflow_id)
            if existing.workflow != name:
                raise WorkflowExists(f"workflow {workflow_id!r} exists and is no {name!r}: choose another id")
            return self._snapshot(existing)
        try:
            record = self._attend(session, session.drive)
        except VersionConflict:  # somebody else was faster, and runs it now
            record = self._load(workflow_id)
        return replace(self._snapshot(record), created=True)

    def resume(self, workflow_id: str, budget: Budget | None = None) -> Snapshot:
        """Go on with a workflow until it is blocked or the budget is used up.

            engine.resume("request-7", budget=Budget(seconds=20))

        Called by workers and schedulers; harmless when there is nothing to do, or another worker runs it.
        Raises WorkflowNotFound, and UnknownWorkflow when this engine was not given its class.
        """
        record = self._load(workflow_id)
        if record.queued or not self._leased(record):
            try:
                session = self._session(record, budget)
                record = self._put_aside(record) if session is None else self._attend(session, session.run)
            except VersionConflict:  # somebody else was faster, and runs it now
                record = self._load(workflow_id)
        return self._snapshot(record)

    def look(self, workflow_id: str, budget: Budget | None = None) -> Snapshot:
        """Look for the Observations that a workflow waits for, and go on if one has happened.

            engine.look("request-7")

        To be called after something has happened that a workflow may wait for. When another worker runs the
        workflow, word is left with it. Raises WorkflowNotFound, and whatever a look() raises.
        """
        while True:
            record = self._load(workflow_id)
            if record.status.closed:
                return self._snapshot(record)
            try:
                session = self._session(record, budget)
                if session is None:
                    return self._snapshot(self._put_aside(record))
                if session.over(self.runtime.clock.now()):
                    return self._snapshot(self._attend(session, session.cancel, quiet=False))
                if record.lease_owner is None:
                    return self._snapshot(self._attend(session, session.look, quiet=False))
                self._post_look(record)
            except (VersionConflict, LeaseLost):
                continue  # somebody else was faster: look again
            return self._snapshot(record)

    def callback(
        self,
        workflow_id: str,
        event: str,
        payload: object = None,
        thread: str | None = None,
        event_id: str | None = None,
    ) -> Any:
        """Send an event and return its handler's output (as JSON holds it).

            output = engine.callback("request-7", "answer", {"approved": True}, event_id="click-1")

        thread: only this thread gets it, which must run, or be one that the definition would start as things
        stand; else the one that has waited longest. event_id: a repeat with the same id returns the first
        output and runs nothing (the last 100 outputs are kept, 64 KB together). An event that nobody waits
        for yet is kept (100 at most, 64 KB together) and None returned; so is one that a step or handler
        sends to its own workflow: it becomes part of that step's commit.

        Raises PayloadRefused (beyond 64 KB PayloadTooLarge), UnknownEvent, UnknownThread, WorkflowClosed,
        WorkflowNotFound, HandlerFailed when the handler raised (nothing has changed), EventsFull, and
        EventPending when another worker, which has the event now, has not answered in time. ValueError when
        the event_id is no text.
        """
        if isinstance(event_id, str) and not is_text(event_id):
            raise ValueError(f"event_id must be some text, not {event_id!r}")
        text = encode(payload, f"the payload of event {event!r}", _refused)
        if len(text.encode()) > MAX_EVENT_BYTES:
            long = f"the payload of event {event!r} is longer than {MAX_EVENT_BYTES} bytes"
            raise PayloadTooLarge(long, brief=long)
        clock = self.runtime.clock
        sender = uuid.uuid4().hex
        message = Event(event, text, thread, event_id or f"stepmark-{sender}", 0.0, sender=sender)
        message.until = clock.now() + self._callback_seconds
        contended = False
        while True:
            message.received_at = clock.now()
            try:
                return self._send(workflow_id, message, fleeting=event_id is None, contended=contended)
            except (VersionConflict, LeaseLost):
                contended = True  # somebody else was faster: see by its id what has become of the event

    def get(self, workflow_id: str) -> Snapshot:
        """The workflow as last committed; raises WorkflowNotFound."""
        return self._snapshot(self._load(workflow_id))

    def cancel(self, workflow_id: str) -> Snapshot:
        """End a workflow now and tear down what it waits for; one that is over stays as it is.

        A step that runs at this moment can't be stopped, but what it changes is not committed. When it can't
        be read any more what the workflow waits for, nothing of that is torn down.
        """
        while True:
            record = self._load(workflow_id)
            try:
                session = self._session(record)
                if session is None or (session.broken and read_or_none(record.state) is None):
                    return self._snapshot(self._close_unread(record))
                if session.progress.ended is not None and not session.over(self.runtime.clock.now()):
                    return self._snapshot(record)
                return self._snapshot(self._attend(session, session.cancel))
            except VersionConflict:
                continue

    def retry(self, workflow_id: str) -> Snapshot:
        """Give everything in a workflow that failed, or was parked, its attempts back, and go on.

        Raises WorkflowBusy while another worker runs it.
        """
        session = self._session_alone(workflow_id)
        return self._alone(session, session.retry)

    def move(self, workflow_id: str, thread: str, to: str) -> Snapshot:
        """Put a thread at another statement and go on from there; what it waited for is torn down.

            engine.move("request-7", "main", "ask")

        Raises UnknownThread, UnknownStatement (the message lists the statements there are), WorkflowClosed,
        and WorkflowBusy while another worker runs the workflow.
        """
        session = self._session_alone(workflow_id)
        if session.progress.ended is not None:
            raise WorkflowClosed(f"workflow {workflow_id!r} is {session.progress.ended}: it can't be moved")
        if thread not in session.progress.threads:
            known = ", ".join(map(repr, session.progress.threads))
            raise UnknownThread(f"workflow {workflow_id!r} has no thread {thread!r}; it has: {known}")
        return self._alone(session, lambda: session.move(thread, to))

    def renew_leases(self) -> None:
        """Prolong the leases of the workflows this engine runs now; the heartbeat does so."""
        for session in list(self._sessions):
            session.ledger.renew()

    # -- how it is done -------------------------------------------------------------------------------

    def _load(self, workflow_id: str) -> Record:
        record = self.runtime.store.load(workflow_id)
        if record is None:
            raise WorkflowNotFound(f"there is no workflow {workflow_id!r}")
        return record

    def _class_of(self, name: str) -> type[Workflow]:
        cls = self._classes.get(name)
        if cls is None:
            raise UnknownWorkflow(f"this engine has no workflow class {name!r}: give it to Engine(...)")
        return cls

    def _session(self, record: Record, budget: Budget | None = None) -> Session | None:
        """A session, or None when nobody can have one: the progress can't be read, or the class is gone.

        A class that this engine does not have may well be another's: it counts as gone when the workflow
        should have been over for long. Raises UnknownWorkflow until then.
        """
        cls = self._classes.get(record.workflow)
        if cls is None and not _long_over(record, self.runtime.clock.now()):
            cls = self._class_of(record.workflow)
        if cls is None:
            return None
        try:
            return Session(self.runtime, cls, record, budget)
        except StateError:
            return None

    def _put_aside(self, record: Record) -> Record:
        """What nobody can run is parked, until its end comes or somebody cancels it."""
        end = _end_of(record)
        if end is not None and self.runtime.clock.now() >= end:
            return self._close_unread(record)
        parked = replace(
            record,
            version=record.version + 1,
            status=Status.PARKED,
            due_at=end,
            lease_owner=None,
            lease_until=None,
        )
        if replace(parked, version=record.version) == record:
            return record
        self.runtime.store.commit(parked, record.version)
        return parked

    def _close_unread(self, record: Record) -> Record:
        """End what nobody can run; what it waits for is not torn down."""
        try:
            progress = Progress.from_json(record.progress)
        except StateError:
            progress = Progress(ends_at=record.ends_at)
        progress.ended = progress.ended or Status.CANCELLED
        progress.threads, progress.events, progress.teardowns = {}, [], []
        progress.timer = progress.error = progress.brief = None
        closed = replace(
            record,
            version=record.version + 1,
            status=progress.ended,
            progress=progress.to_json(),
            due_at=None,
            lease_owner=None,
            lease_until=None,
        )
        self.runtime.store.commit(closed, record.version)
        if self.runtime.keeper is not None:
            self.runtime.keeper.forget(record.workflow_id)
        return closed

    def _readable(self, record: Record) -> Session:
        """A session for what needs one; UnknownWorkflow or StateError when there can be none."""
        return Session(self.runtime, self._class_of(record.workflow), record)

    def _leased(self, record: Record) -> bool:
        """Whether somebody runs a workflow who, as far as can be seen from here, lives."""
        if not record.leased(self.runtime.clock.now()):
            return False
        on_one_machine = getattr(self.runtime.store, "on_one_machine", False)
        return not (on_one_machine and record.lease_owner is not None and has_died(record.lease_owner))

    def _attend(self, session: Session, run: Callable[[], None], *, quiet: bool = True) -> Record:
        """Let a session run, and return its last record; one that loses its lease is left to another."""
        self._sessions.add(session)
        HEARTBEAT.watch(self)
        try:
            run()
        except VersionConflict:
            session.ledger.mend_timer()
            raise
        except LeaseLost:
            session.ledger.mend_timer()
            if not quiet:
                raise
            return self._load(session.workflow_id)
        else:
            return session.ledger.record
        finally:
            session.drop_flights()
            self._sessions.discard(session)
            session.ledger.leave()

    def _session_alone(self, workflow_id: str) -> Session:
        record = self._load(workflow_id)
        session = self._readable(record)
        if session.over(self.runtime.clock.now()):
            self._alone(session, session.cancel)
            session = self._readable(self._load(workflow_id))
        elif self._leased(record):
            raise WorkflowBusy(f"another worker runs workflow {workflow_id!r} now: try again")
        return session

    def _alone(self, session: Session, run: Callable[[], None]) -> Snapshot:
        try:
            return self._snapshot(self._attend(session, run))
        except VersionConflict as error:
            raise WorkflowBusy(
                f"workflow {session.workflow_id!r} has changed meanwhile: try again"
            ) from error

    def _send(self, workflow_id: str, message: Event, *, fleeting: bool, contended: bool) -> Any:
        """Deliver an event, or have the one who runs the workflow deliver it.

        Raises VersionConflict or LeaseLost when it has to be tried again, from the start.
        """
        record = self._load(workflow_id)
        session = self._readable(record)
        if session.over(self.runtime.clock.now()):
            self._attend(session, session.cancel, quiet=False)
        progress = session.progress
        if message.event_id in progress.outputs:
            return progress.outputs[message.event_id]
        if progress.ended is not None:
            raise WorkflowClosed(f"workflow {workflow_id!r} is {progress.ended}: it takes no more events")
        if session.broken and not self._leased(record):
            self.resume(workflow_id)  # parks it: the definition, or the state, is of no use
        self._check_event(session, message)
        stored = next((event for event in progress.events if event.event_id == message.event_id), None)
        activity = activity_in(self.runtime.store, workflow_id)
        if activity is not None and activity.events is not None:
            if stored is None:
                _check_room(record, Progress(events=progress.events + activity.events), message)
                if not activity.send(replace(message, sender="")):
                    raise VersionConflict(workflow_id)  # it has returned meanwhile
            return None
        if self._leased(record):
            alongside = activity is not None  # such a step does not wait for what it sends
            if stored is None:
                self._post(record, replace(message, sender="") if alongside else message)
            return None if alongside else self._await_output(workflow_id, message)
        session.contended = contended
        session.receive(stored or replace(message), fleeting=fleeting)
        return self._deliver(session)

    def _deliver(self, session: Session) -> Any:
        """Run a workflow with an event that this call has brought, and return its output."""
        try:
            self._attend(session, session.run, quiet=False)
        except (VersionConflict, LeaseLost, RetryableError):
            if not session.handled and session.refused is None:
                raise
            # what went wrong came after the event, and others will go on with it
        if session.refused is not None:
            raise session.refused
        ended = session.progress.ended
        if not (session.handled or session.kept) and ended is not None:
            raise _closed(session.workflow_id, ended)
        return session.output

    def _check_event(self, session: Session, message: Event) -> None:
        """Refuse what the definition has no use for."""
        event, thread = message.event, message.thread
        tree = session.tree
        found = tree.shape.events.get(event, [])
        handlers = [tree[node].handler for node in found]
        wanted = [handler for handler in handlers if not isinstance(handler, Timeout | Observation)]
        if not wanted:
            why = "fires by itself" if handlers else "is not in its definition"
            raise UnknownEvent(f"workflow {session.workflow_id!r}: event {event!r} {why}")
        if thread is not None and not _possible(tree, session.progress, thread):
            raise UnknownThread(f"workflow {session.workflow_id!r} has no thread {thread!r}")
        refused: PayloadRefused | None = None
        for handler in wanted:
            try:
                decode_payload(handler, message.payload, event)
            except PayloadRefused as error:
                refused = error
            else:
                return
        if refused is not None:
            raise refused

    def _post(self, record: Record, message: Event) -> None:
        """Leave an event with the worker that runs the workflow: its next commit finds it."""
        progress = Progress.from_json(record.progress)
        _check_room(record, progress, message)
        progress.events.append(message)
        posted = replace(record, version=record.version + 1, progress=progress.to_json())
        self.runtime.store.commit(posted, record.version)

    def _post_look(self, record: Record) -> None:
        """Leave word; written even if it was left before, for that the worker may have heeded already."""
        progress = Progress.from_json(record.progress)
        progress.look = True
        posted = replace(record, version=record.version + 1, progress=progress.to_json())
        self.runtime.store.commit(posted, record.version)

    def _await_output(self, workflow_id: str, message: Event) -> Any:
        """Wait for what another worker makes of an event; LeaseLost when it has left the event behind."""
        clock = self.runtime.clock
        pause = 0.01
        while True:
            record = self._load(workflow_id)
            progress = Progress.from_json(record.progress)
            if message.event_id in progress.outputs:
                return progress.outputs[message.event_id]
            if message.sender in progress.outputs:
                raise refusal_from(progress.outputs[message.sender])
            if progress.ended is not None:
                raise _closed(workflow_id, progress.ended)
            if not self._leased(record) and any(
                event.event_id == message.event_id and not event.trouble.attempt for event in progress.events
            ):
                raise LeaseLost(workflow_id)
            if clock.now() >= message.until:
                raise EventPending(
                    f"workflow {workflow_id!r} has not handled the event yet: repeat with the same event_id"
                )
            clock.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _snapshot(self, record: Record) -> Snapshot:
        try:
            progress = Progress.from_json(record.progress)
        except StateError as error:
            progress = Progress(error=str(error), ends_at=record.ends_at)
        cls = self._classes.get(record.workflow)
        state: Any = read_or_none(record.state)
        tree = None
        if cls is not None:
            # a state or a definition that no longer works is shown as far as it goes
            with suppress(StateError, DefinitionError):
                state = codec_of(cls).load(record.state)
                tree = build(state)
        return snapshot_of(record, progress, state, tree)


def snapshot_of(record: Record, progress: Progress, state: Any, tree: Tree | None) -> Snapshot:
    """A record as a Snapshot; the names of events come from the tree, as far as there is one."""
    threads = {key: _thread(thread, tree) for key, thread in progress.threads.items()}
    error, brief = progress.error, progress.brief or progress.error
    for place, trouble in sorted(progress.places(), key=lambda each: not each[1].parked):
        if not error:
            error, brief = trouble.error, trouble.brief_error(place)
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
        positions=tuple(positions_of(record, progress)),
        ends_at=progress.ends_at,
        brief=brief,
    )


def _thread(thread: Thread, tree: Tree | None) -> ThreadSnapshot:
    times = [awaited.fire_at for awaited in thread.awaited.values()] + [thread.trouble.retry_at]
    node = None if tree is None else _node(thread, tree)
    return ThreadSnapshot(
        at=thread.at if node is None else node.name,
        waiting_for=[on.name for on in node.body] if node is not None and node.kind is Wait else [],
        attempt=thread.trouble.attempt,
        error=thread.trouble.error,
        parked=thread.trouble.parked,
        due_at=min((at for at in times if at is not None), default=None),
        brief=thread.trouble.brief_error(thread.at),
    )


def _node(thread: Thread, tree: Tree) -> Node | None:
    root = tree.root(thread.go, thread.id, several=thread.several)
    return None if root is None else tree.shape.find(root, thread.at)


def _possible(tree: Tree, progress: Progress, thread: str) -> bool:
    """Whether a thread of that name runs, or would be started by a Go of the definition as it is now."""
    if thread == MAIN or thread in progress.threads:
        return True
    gos = [(node.name, tree[node].id) for found in tree.shape.threads.values() for node in found]
    return thread in {name if ident is None else f"{name}[{ident}]" for name, ident in gos}


def _begin(session: Session) -> bool:
    """Write the first record; False when the id is taken, and then nobody holds it in this session's name."""
    begun = False
    try:
        begun = session.begin()
    finally:
        if not begun:
            session.ledger.leave()
    return begun


def _closed(workflow_id: str, ended: Status) -> WorkflowClosed:
    return WorkflowClosed(f"workflow {workflow_id!r} was {ended} before it took the event")


def _check_room(record: Record, progress: Progress, message: Event) -> None:
    if not progress.room_for(message.payload):
        raise EventsFull(record.workflow_id)


def _refused(message: str) -> PayloadRefused:
    return PayloadRefused(message, brief=message)


def _end_of(record: Record) -> float | None:
    """The end of a workflow's life, as far as it can be read."""
    try:
        return Progress.from_json(record.progress).ends_at
    except StateError:
        return record.ends_at


def _long_over(record: Record, now: float) -> bool:
    """Whether the end of a workflow's life is so long ago that what is left of it is given up."""
    end = _end_of(record)
    return end is not None and now >= end + GIVE_UP_SECONDS
