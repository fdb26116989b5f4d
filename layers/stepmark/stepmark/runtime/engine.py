"""The engine: what a program calls to start workflows, send them events and look at them."""

from __future__ import annotations

import secrets
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from stepmark.core.delivery import Answered, Closed, JoinsCommit, Output, Posted, meet
from stepmark.core.event_ids import as_known
from stepmark.core.planning import is_settled
from stepmark.core.record import Event, Place, Progress, Record, Status, Thread
from stepmark.core.snapshot import read_snapshot
from stepmark.core.state import codec_of
from stepmark.core.values import read_or_none
from stepmark.definition.workflow import MAIN, check_start, classes_by_name, end_of_life
from stepmark.errors import (
    RetryableError,
    StateError,
    UnknownThread,
    UnknownWorkflow,
    VersionConflict,
    WorkflowBusy,
    WorkflowClosed,
    WorkflowExists,
    WorkflowNotFound,
)
from stepmark.runtime import senders
from stepmark.runtime.clock import Clock, SystemClock
from stepmark.runtime.context import activity_in, id_within_step
from stepmark.runtime.heartbeat import Leases
from stepmark.runtime.ledger import Budget, LeaseLost, Runtime, is_leased
from stepmark.runtime.loops import off_the_loop
from stepmark.runtime.session import Session, snapshot_after
from stepmark.runtime.unreadable import close_unread, is_long_over, put_aside
from stepmark.runtime.worker import Worker

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable

    from stepmark.core.delivery import Delivery
    from stepmark.core.snapshot import Snapshot
    from stepmark.definition.workflow import Workflow
    from stepmark.runtime.scheduler import Scheduler
    from stepmark.stores.protocol import Store


class _Sessions:
    """Loads workflows, and lets sessions run them: what an engine's methods are made of."""

    def __init__(self, workflows: Iterable[type[Workflow]], runtime: Runtime) -> None:
        self.runtime = runtime
        self._leases = Leases(runtime.lease_seconds)
        self._classes = classes_by_name(workflows)
        for cls in self._classes.values():
            codec_of(cls)

    @property
    def names(self) -> Collection[str]:
        """The names of the workflows that it runs."""
        return self._classes.keys()

    def _snapshot(self, record: Record) -> Snapshot:
        return read_snapshot(record, self._classes.get(record.workflow))

    def _load(self, workflow_id: str) -> Record:
        self.runtime.check_process()
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
        if record.workflow not in self._classes and is_long_over(record, self.runtime.clock.now()):
            return None
        try:
            return Session(self.runtime, self._class_of(record.workflow), record, budget)
        except StateError:
            return None

    def _readable(self, record: Record) -> Session:
        """A session for what needs one; UnknownWorkflow or StateError when there can be none."""
        return Session(self.runtime, self._class_of(record.workflow), record)

    def _attend(self, session: Session, run: Callable[[], None], *, quiet: bool = True) -> Snapshot:
        """Let a session run, and return what it committed; one that loses its lease is left to another."""
        self._leases.add(session.ledger)
        try:
            with session.interrupts.noted():
                run()
        except (VersionConflict, LeaseLost) as error:
            session.ledger.mend_timer()
            if isinstance(error, LeaseLost) and quiet:
                return self._snapshot(self._load(session.workflow_id))
            raise
        else:
            return snapshot_after(session)
        finally:
            session.flights.drop_all()
            self._leases.discard(session.ledger)
            session.ledger.leave()

    def _session_alone(self, workflow_id: str) -> Session:
        record = self._load(workflow_id)
        session = self._readable(record)
        if session.over:
            self._alone(session, session.cancel)
            session = self._readable(self._load(workflow_id))
        elif is_leased(self.runtime, record):
            raise WorkflowBusy(f"another worker runs workflow {workflow_id!r} now: try again")
        return session

    def _alone(self, session: Session, run: Callable[[], None]) -> Snapshot:
        try:
            return self._attend(session, run)
        except VersionConflict as error:
            raise WorkflowBusy(
                f"workflow {session.workflow_id!r} has changed meanwhile: try again"
            ) from error


@off_the_loop
class Engine(_Sessions):
    """Runs workflows of the given classes over a store.

        engine = Engine([Approval], store=SqliteStore("workflows.db"))
        engine.start(Approval(user="ada"), workflow_id="request-7")
        engine.callback("request-7", "answer", {"approved": True})

    start() and callback() run the workflow in the calling thread until it is blocked or the budget is used
    up; a worker (`run_worker`) goes on with what is due later. Any number of engines may share a store.

    lease_seconds: for how long a workflow belongs to the one who runs it; prolonged while a step takes
    longer, each on its own, and early enough for the store's slowest write if it is at least half as long
    again. Whoever dies is replaced after that time; over a MemoryStore or SqliteStore, every call from the
    same machine sees the death at once. budget: what one call may do; beyond it, callback() does no more than
    deliver its event. callback_seconds: how long callback() waits for another worker that runs the workflow.
    parallel: how many steps with `into` run at once on threads; those of a workflow that such a step runs
    itself have threads of their own.

    queued: the scheduler delivers each wake-up to one worker, which calls resume(); then what is left beyond
    the budget goes over with its lease, and costs no write of its own. Whoever takes it over writes nothing
    before the first step is done. So if the queue delivers a wake-up twice, which queues that promise "at
    least once" do now and then, both workers run that step, and one of them commits it.

    on_parked: called with the id of a workflow that has become PARKED, and the names of the statements that
    its threads are at, by whoever has seen it park; also when one that is over could not be torn down.

    max_commits_without_pause: a workflow that has committed so often since it last waited, for an event or
    for a second, is PARKED: most likely it loops for ever.

    Belongs to the process that has made it: a forked one makes its own. Raises TypeError or ValueError for
    what makes no sense.
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
        on_parked: Callable[[str, tuple[str, ...]], object] | None = None,
        max_commits_without_pause: int = 1_000_000,
    ) -> None:
        self._callback_seconds = callback_seconds
        self._executor = ThreadPoolExecutor(parallel, thread_name_prefix="stepmark")
        clock, budget, bound = clock or SystemClock(), budget or Budget(), max_commits_without_pause
        runtime = Runtime(
            store, scheduler, clock, self._executor, lease_seconds, budget, queued, on_parked, bound
        )
        super().__init__(workflows, runtime)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the steps that still run on threads; optional."""
        self._executor.shutdown()

    # -- what a program calls -------------------------------------------------------------------------

    def start[W: Workflow](
        self, workflow: W, workflow_id: str | None = None, *, ends_at: float | None = None
    ) -> Snapshot[W]:
        """Start a workflow and run it until it is blocked.

            snapshot = engine.start(Approval(user="ada"), workflow_id="request-7")

        ends_at: the end of its life, in seconds since the epoch. Whatever it is at then, it is cancelled;
        what can't be torn down within an hour is given up. A step that runs at that moment is cut off if it
        has a timeout. A `timeout` of the class sets an end too; the earlier one counts.

        Starting the same id again runs nothing twice and returns the workflow as it is (`created` is False).
        Raises StateError or DefinitionError, with nothing stored, when the workflow can't begin, and
        WorkflowExists when the id belongs to a workflow of another class; TypeError or ValueError when it is
        given no workflow, an id that is no text, or an ends_at that is no time.
        """
        self.runtime.check_process()
        check_start(workflow, workflow_id)
        end = end_of_life(workflow, ends_at, self.runtime.clock.now())
        workflow_id = uuid.uuid4().hex if workflow_id is None else workflow_id
        cls = type(workflow)
        name = cls.__workflow_name__
        self._class_of(name)
        text = codec_of(cls).store(workflow).text
        main = {MAIN: Thread(MAIN, Place(""))}
        progress = Progress(threads=main, ends_at=end, life=secrets.token_hex(4)).to_json()
        empty = Record(workflow_id, name, 0, Status.RUNNING, text, progress, None, None, None)
        session = Session(self.runtime, cls, empty)
        if not session.begin():
            existing = self._load(workflow_id)
            if existing.workflow != name:
                raise WorkflowExists(f"workflow {workflow_id!r} exists and is no {name!r}: choose another id")
            return self._snapshot(existing)
        try:
            snapshot = self._attend(session, session.drive)
        except VersionConflict:  # somebody else was faster, and runs it now
            snapshot = self.get(workflow_id)
        return replace(snapshot, created=True)

    def resume(self, workflow_id: str, budget: Budget | None = None) -> Snapshot:
        """Go on with a workflow until it is blocked or the budget is used up.

            engine.resume("request-7", budget=Budget(seconds=20))

        Called by workers and schedulers; harmless when there is nothing to do, or another worker runs it.
        Raises WorkflowNotFound, and UnknownWorkflow when this engine was not given its class.
        """
        record = self._load(workflow_id)
        if not record.queued and is_leased(self.runtime, record):
            return self._snapshot(record)
        try:
            session = self._session(record, budget)
            if session is None:
                return self._snapshot(put_aside(self.runtime, record))
            return self._attend(session, session.run)
        except VersionConflict:  # somebody else was faster, and runs it now
            return self.get(workflow_id)

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
                    return self._snapshot(put_aside(self.runtime, record))
                if session.over:
                    return self._attend(session, session.cancel, quiet=False)
                if record.lease_owner is None:
                    return self._attend(session, session.look, quiet=False)
                senders.post_look(self.runtime, record)
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
        stand; else the one that has waited longest. event_id: a repeat of the event with the same id, to the
        same thread if one is given, returns the first output and runs nothing, also while the first is still
        being handled (the last 100 ids are kept, their outputs up to 64 KB together; OutputForgotten beyond).
        What a step or handler sends without an id has one of its own: when it is run again, the event counts
        once. An event that nobody waits for yet is kept (100 at most, 64 KB together) and None returned; so
        is one that a step or handler sends to its own workflow: it becomes part of that step's commit.

        Raises PayloadRefused (beyond 64 KB PayloadTooLarge), UnknownEvent, UnknownThread, WorkflowClosed,
        WorkflowNotFound, HandlerFailed when the handler raised (nothing has changed), EventRefused when it is
        not taken now, EventsFull, and EventPending when another worker, which has the event now, has not
        answered in time. ValueError when the event_id is no text.
        """
        patience = senders.Patience(self.runtime, self._callback_seconds)
        with id_within_step(self.runtime.store, workflow_id, event, thread) as own_id:
            known = own_id if event_id is None else event_id
            message = senders.message_of(event, payload, thread, known, patience.until)
            contended = False
            while True:
                message.received_at = self.runtime.clock.now()
                try:
                    return self._send(
                        workflow_id, message, patience, once=bool(event_id), contended=contended
                    )
                except (VersionConflict, LeaseLost):
                    contended = True  # somebody else was faster: see by its id what has become of the event

    def get(self, workflow_id: str) -> Snapshot:
        """The workflow as last committed; raises WorkflowNotFound."""
        return self._snapshot(self._load(workflow_id))

    def cancel(self, workflow_id: str) -> Snapshot:
        """End a workflow now and tear down what it waits for.

        One that is over stays so; whatever of it could not be torn down is given up. A step that runs at this
        moment can't be stopped, but what it changes is not committed. When it can't be read any more what the
        workflow waits for, nothing of that is torn down.
        """
        while True:
            record = self._load(workflow_id)
            try:
                session = self._session(record)
                if session is None or (session.broken and read_or_none(record.state) is None):
                    return self._snapshot(close_unread(self.runtime, record))
                if not session.over and is_settled(session.draft.progress, broken=session.broken):
                    return self._snapshot(record)
                return self._attend(session, session.cancel)
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
        progress = session.draft.progress
        if progress.ended is not None:
            raise WorkflowClosed(f"workflow {workflow_id!r} is {progress.ended}: it can't be moved")
        if thread not in progress.threads:
            known = ", ".join(map(repr, progress.threads))
            raise UnknownThread(f"workflow {workflow_id!r} has no thread {thread!r}; it has: {known}")
        return self._alone(session, lambda: session.move(thread, to))

    def renew_leases(self) -> None:
        """Prolong the leases of the workflows this engine runs now; the heartbeat does so."""
        self._leases.renew()

    # -- how events are sent --------------------------------------------------------------------------

    def _send(
        self,
        workflow_id: str,
        message: Event,
        patience: senders.Patience,
        *,
        once: bool,
        contended: bool,
    ) -> Any:
        """Deliver an event, or have the one who runs the workflow deliver it.

        once: others may send it too at this moment. Raises VersionConflict or LeaseLost when it has to be
        tried again, from the start.
        """
        record = self._load(workflow_id)
        session = self._readable(record)
        if session.over:
            self._attend(session, session.cancel, quiet=False)
        progress, leased = session.draft.progress, is_leased(self.runtime, record)
        activity = activity_in(self.runtime.store, workflow_id)
        sender = senders.sender_of(activity)
        message.event_id = as_known(message, progress, session.draft.tree_if_any)
        meeting = meet(progress, message.event_id, sender, leased=leased)
        if isinstance(meeting, Answered):
            return meeting.output
        if isinstance(meeting, Closed):
            raise WorkflowClosed(f"workflow {workflow_id!r} is {meeting.status}: it takes no more events")
        if session.broken and not leased:
            self.resume(workflow_id)  # parks it: the definition, or the state, is of no use
        decoded = senders.check_event(session.draft.tree, progress, workflow_id, message, sender)
        if isinstance(meeting, JoinsCommit):
            if activity is not None and not meeting.stored:
                senders.join_commit(activity, progress, message, workflow_id)
            return None
        if isinstance(meeting, Posted):
            return senders.leave_to_holder(self.runtime, record, message, meeting, patience)
        once = once and senders.runs_code(session.draft.tree, message.event)
        session.contended = session.contended or contended or once
        return self._deliver(session, session.receive(replace(message), meeting.stored, decoded))

    def _deliver(self, session: Session, delivery: Delivery) -> Any:
        """Run a workflow with an event that this call has brought, and return its output."""
        try:
            self._attend(session, session.run, quiet=False)
        except (VersionConflict, LeaseLost, RetryableError):
            if not isinstance(delivery.reply, Output):
                raise
            # what went wrong came after the event, and others will go on with it
        return senders.reply_of(delivery, session.workflow_id, session.draft.progress.ended)


def run_worker(
    engine: Engine, *, stop: threading.Event | None = None, poll_seconds: float = 0.2, concurrency: int = 8
) -> None:
    """Resume whatever is due until told to stop; any number of processes may do so over one store.

        run_worker(Engine([Approval], store=SqliteStore("workflows.db")))

    stop: an event that ends it; without one, SIGTERM and SIGINT do (call it in the main thread then). Steps
    that run are brought to their end first; a second SIGINT raises KeyboardInterrupt at once. It goes on as
    long as anything is due. poll_seconds: how often the store is asked when nothing was; a LocalScheduler
    given to the engine saves that wait for work of this process. concurrency: how many workflows run at once.
    Workflows of classes that the engine does not have are left to others; a warning says once of each class
    how many of them are due.
    """
    engine.runtime.check_process()
    Worker(engine.runtime, engine.resume, engine.names, concurrency).run(stop, poll_seconds)
