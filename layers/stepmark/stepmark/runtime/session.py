"""One workflow, run by one worker for as long as something can run.

A session picks one piece of work after the other, in a fair order over the threads, and ends each with one
conditional write that says both what was done and what comes next. The write after which nothing is left to
do gives the lease back. A sender's event comes before all other work, as far as it is waited for.

    plan ─▶ perform ─┬─▶ commit ─▶ plan ...
                     └─▶ fail: draft the committed record again, note the failure, commit
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepmark.core.delivery import delivery_of, refusal_as_stored, refusal_of
from stepmark.core.draft import Draft, cancel, check_kept, park_crashing, refuse_change, settle_events
from stepmark.core.event_ids import is_anonymous
from stepmark.core.failures import is_failure
from stepmark.core.planning import due_at, is_over, next_work, status_of, times_ahead, works_of_threads
from stepmark.core.record import Event, Status, Trouble
from stepmark.core.snapshot import snapshot_of
from stepmark.core.state import codec_of, stored_fields
from stepmark.core.tree import first_of
from stepmark.core.work import (
    Deliver,
    End,
    Expect,
    Launch,
    Look,
    StoreResult,
    TearDown,
)
from stepmark.definition.workflow import MAIN
from stepmark.errors import EventRefused, RecordTooLarge, UnknownStatement, VersionConflict, text_of
from stepmark.runtime.actions import Actions
from stepmark.runtime.flights import Flights
from stepmark.runtime.interrupts import Interrupts, is_ending
from stepmark.runtime.ledger import Budget, Ledger, Runtime, Standing
from stepmark.runtime.logs import log_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepmark.core.delivery import Delivery
    from stepmark.core.payloads import Decoded
    from stepmark.core.record import Progress, Record
    from stepmark.core.snapshot import Snapshot
    from stepmark.core.tree import Tree
    from stepmark.core.work import Work
    from stepmark.definition.workflow import Workflow

MAX_CRASHES = 20  # in a row, of whoever runs a workflow, before its steps are parked
MAILBOX_SECONDS = 0.5  # how often a session that only waits for long steps looks for new events


class Session:
    """Runs one workflow; see the module's docstring."""

    def __init__(
        self, runtime: Runtime, cls: type[Workflow], record: Record, budget: Budget | None = None
    ) -> None:
        self.clock = runtime.clock
        self.workflow_id = record.workflow_id
        self.draft = Draft(codec_of(cls), record)
        posted = len(self.draft.progress.events)
        self.ledger = Ledger(runtime, record, posted, adopts=not self.draft.unsaved)
        if self.ledger.was_abandoned:  # by one who is dead, or is about to lose the workflow
            self.ledger.doubt_timer(self.draft.progress)
        self.flights = Flights()
        self.contended = self.draft.unsaved  # or somebody else was faster before: take the lease first
        self._actions = Actions(runtime, self.ledger, self.draft, self.flights)
        self._budget = budget or runtime.budget
        self._planned: Work | None = None  # what the last commit has found to be next
        self._commits = 0
        self._served = MAIN
        self.interrupts = Interrupts()
        self._began = runtime.monotonic()

    @property
    def broken(self) -> bool:
        """Whether the committed state can't be read, or definition() fails on it."""
        return self.draft.tree_if_any is None

    @property
    def over(self) -> bool:
        """Whether the end of the workflow's life has come, and not all that was its own has ended."""
        return is_over(self.draft.progress, self.clock.now(), broken=self.broken)

    def receive(self, message: Event, stored: Event | None, decoded: list[Decoded]) -> Delivery:
        """Take the event of a sender who waits in this very call."""
        repeatable = not is_anonymous(message.event_id)
        delivery = delivery_of(self.draft.progress, message, stored, decoded, repeatable=repeatable)
        self.draft.delivery = delivery
        self.draft.unsaved = self.draft.unsaved or stored is None
        return delivery

    # -- choosing what to do --------------------------------------------------------------------------

    def _situation(self, now: float) -> tuple[Progress, Tree | None, Mapping[str, bool], float]:
        return self.draft.progress, self.draft.tree_if_any, self.flights.landed, now

    def _plan(self, now: float) -> Work | None:
        return next_work(self.draft.progress, self.draft.tree_if_any, self.flights.landed, now)

    def _next(self, now: float) -> Work | None:
        """The next piece of work; beyond the budget, only what is under way is brought to its end.

        Under way are a step that has run alongside, the delivery of the event whose sender waits in this
        call, and the arrival of a thread where it has to wait.
        """
        if self.flights:
            self.flights.drop_stale(self.draft.progress, self.draft.tree_if_any)
        delivery = self.draft.delivery
        if delivery is not None and delivery.open and not self.over:
            work = self._first(now, self.draft.delivers)
            if work is not None:
                return work
        work, spent = self._plan(now), self.ledger.runtime.monotonic() - self._began
        if work is None or isinstance(work, End) or not self._budget.is_spent(spent, self._commits):
            return work
        return self._first(now, _is_under_way)

    def _first(self, now: float, wanted: Callable[[Work], bool]) -> Work | None:
        """What a thread has to do next, if it is of a certain kind."""
        return next(filter(wanted, works_of_threads(*self._situation(now))), None)

    # -- running --------------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Write the first record; False when the id is taken, and then this session holds nothing."""
        begun = False
        try:
            begun = self._create()
        finally:
            if not begun:
                self.ledger.leave()
        return begun

    def _create(self) -> bool:
        draft, now = self.draft, self.clock.now()
        thread = draft.progress.threads[MAIN]
        draft.arrive(thread, lambda tree: first_of(tree.shape.root), self.ledger.next_version, now)
        refuse_change(draft)
        if self.over:
            draft.close(Status.CANCELLED, None)
        else:
            self._actions.look_on_arrival()
        draft.post_outbox()
        standing = self._standing()
        if not (standing.held or standing.queued):
            self.ledger.note_pause(draft.progress, standing.due_at, now)
            self.ledger.note_timer(draft.progress, standing.due_at)
        if not self.ledger.create(draft.text, draft.progress, standing):
            return False
        draft.committed()
        self.ledger.set_noted_timer(draft.progress)
        self.ledger.wake()
        return True

    def run(self) -> None:
        """Work until nothing is left or the budget is used up; EventsFull, EventRefused if it isn't kept."""
        record, progress, now = self.ledger.record, self.draft.progress, self.clock.now()
        self._planned = work = self._next(now)
        if self.draft.delivery is not None and not self.draft.delivers(work):
            check_kept(self.draft, self.workflow_id, at_rest=self._plan(now) is None)
        if work is not None:
            self.drive()
            return
        left = self._plan(now) is not None
        status = status_of(progress, now, record.status, work_left=left)
        settled = (status, progress.to_json(), due_at(progress, now, work_left=left), None)
        if settled != (record.status, record.progress, record.due_at, record.lease_owner):
            self._commit()

    def claim(self) -> None:
        """Become the one who runs the workflow, or raise VersionConflict."""
        progress, now = self.draft.progress, self.clock.now()
        if self.ledger.was_abandoned:
            progress.crashes += 1
            if progress.crashes > MAX_CRASHES:  # a step that takes its process down would do so for ever
                park_crashing(self.draft, self._plan(now), works_of_threads(*self._situation(now)))
        status = status_of(progress, now, self.ledger.record.status, work_left=True)
        self._write(Standing(status, held=True))
        self.draft.committed()

    def drive(self) -> None:
        """Work until the lease is given back; it is taken before the first work that needs it."""
        while True:
            work, self._planned = self._planned or self._next(self.clock.now()), None
            if work is not None:
                if not self.ledger.held and (self.contended or _needs_lease(self.draft, work)):
                    self.claim()
                elif self.ledger.spins(self.draft.progress) and not isinstance(work, End):
                    works = works_of_threads(*self._situation(self.clock.now()))
                    self.draft.park_spinning(works, self.ledger.record.version)
                    self._commit()
                else:
                    self._perform(work)
            elif self.flights:
                self._await_flights()
            elif self.ledger.held or self.draft.unsaved:
                self._commit()
            if not (self.ledger.held or self.draft.unsaved):
                return

    def _perform(self, work: Work) -> None:
        try:
            to_commit = self._actions.perform(work)
        except BaseException as error:
            if is_ending() or not is_failure(error, interrupted=self.interrupts.seen):
                raise  # no attempt: others will see that nobody holds the lease any more
            to_commit = self._fail(work, error)
        if not isinstance(work, (TearDown, End)):
            self._served = work.thread
        if to_commit:
            self._commit()

    def _fail(self, work: Work, error: BaseException) -> bool:
        """Draft the committed record again and note the failure; whether that is to be committed."""
        draft = self.draft
        what, retry = self._actions.about(work)
        event = draft.progress.event(work.event_id) if isinstance(work, Deliver) and work.event_id else None
        draft.restart(self.ledger.record)
        if not isinstance(work, Launch | TearDown | End):
            draft.turn(work.thread)
        told = None if event is None else _tell_sender(draft, event, error, self.clock.now())
        if told is None:
            self._actions.note(work, what, error, retry)
            return True
        log_failure(self.workflow_id, what, error, None)
        return told

    def look(self) -> None:
        """Look for what the threads wait for, and do what is due besides. Errors of a look are raised."""
        if self.draft.progress.ended is not None:
            return
        if self.draft.unsaved:
            self.drive()
        if not self.broken:
            self._actions.look_now()
        if self.broken or self.draft.unsaved or self._next(self.clock.now()) is not None:
            self.run()

    def _await_flights(self) -> None:
        now = self.clock.now()
        ahead = times_ahead(self.draft.progress, now)
        if not self.flights.wait(min([MAILBOX_SECONDS, *(at - now for at in ahead)])):
            self.ledger.catch_up(self.draft.progress)
            self.draft.apply_look_request()
            self.ledger.renew()

    # -- what people ask for --------------------------------------------------------------------------

    def cancel(self) -> None:
        """End the workflow now, whoever runs it; of one that is over, give up what can't be torn down."""
        now = self.clock.now()
        cancel(self.draft, now, over=self.over)
        self.flights.drop_all()
        if self._plan(now) is None:
            progress = self.draft.progress
            status = status_of(progress, now, self.ledger.record.status, work_left=False)
            self._write(Standing(status, due_at(progress, now, work_left=False)))
            self.ledger.wake()
        else:
            self.claim()
            self.drive()

    def retry(self) -> None:
        """Give everything that failed its attempts back."""
        self.draft.forgive()
        if self._next(self.clock.now()) is None:
            self.run()
        else:  # a failure begins with the committed record again, which must know of it
            self.claim()
            self.drive()

    def move(self, key: str, to: str) -> None:
        """Put a thread at another statement of its part of the definition, as if it had just come there."""
        tree, thread = self.draft.tree, self.draft.progress.threads[key]
        root = tree.root(thread.place)
        node = None if root is None else tree.shape.find(root, to)
        if root is None or node is None:
            names = ", ".join(map(repr, tree.shape.names(root))) if root is not None else "none"
            raise UnknownStatement(f"thread {key!r} has no statement {to!r}; it has: {names}")
        self.draft.leave(thread, None)
        self.draft.arrive(thread, lambda _: node, self.ledger.next_version, self.clock.now())
        self.claim()
        self.drive()

    # -- committing -----------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Write state and progress in one go; with nothing left to do, give the lease back in that write."""
        draft = self.draft
        self._commits += 1
        draft.progress.crashes = 0
        while True:
            if self.ledger.held and not self.broken:
                self._actions.look_on_arrival()
            draft.post_outbox()
            standing = self._standing()
            if draft.progress.events and not (standing.held or standing.queued):
                settle_events(draft, at_rest=self._plan(self.clock.now()) is None)
            try:
                self._write(standing)
            except VersionConflict:
                if not self.ledger.catch_up(draft.progress):
                    draft.apply_look_request()
                    continue
            except RecordTooLarge as error:
                self._give_up(error)
                continue
            break
        draft.committed()
        self.ledger.wake()

    def _standing(self) -> Standing:
        """Where the workflow stands once the draft is committed."""
        now = self.clock.now()
        self._planned = self._next(now)
        held = bool(self.flights) or self._planned is not None
        left = held or self._plan(now) is not None
        queued = left and not held and self.ledger.runtime.queued
        progress, before = self.draft.progress, self.ledger.record.status
        status = status_of(progress, now, before, work_left=left)
        due = None if held else due_at(progress, now, work_left=left)
        return Standing(status, due, held, queued)

    def _write(self, standing: Standing) -> None:
        progress, now = self.draft.progress, self.clock.now()
        if not (standing.held or standing.queued):
            self.ledger.note_pause(progress, standing.due_at, now)
            self.ledger.set_timer(progress, standing.due_at, times_ahead(progress, now))
        self.ledger.write(self.draft.text, progress, standing)

    def _give_up(self, error: RecordTooLarge) -> None:
        """Drop what does not fit into the store, and park the thread that was about to commit it.

        If that was an event whose sender waits in this call, or its handling, it is refused instead.
        """
        draft, delivery = self.draft, self.draft.delivery
        is_open = delivery is not None and delivery.open
        is_handled = delivery is not None and draft.progress.event(delivery.event.event_id) is None
        draft.forget_looks()
        draft.restart(self.ledger.record)
        if delivery is not None and is_open and (is_handled or not delivery.stored):
            draft.refuse(error)
            return
        thread = draft.progress.threads.get(self._served)
        if thread is None:
            raise error
        thread.trouble = Trouble(1, parked=True)
        thread.trouble.failed_with(thread.at, error, text_of(error))


def _needs_lease(draft: Draft, work: Work) -> bool:
    """Whether a piece of work needs the lease, or delivers an event that others may find in the store."""
    is_kept = isinstance(work, Deliver) and bool(work.event_id) and not draft.delivers(work)
    return work.needs_lease or is_kept


def _is_under_way(work: Work) -> bool:
    """Whether a piece of work ends what has begun, or notes what to wait for, or looks for the first time."""
    return isinstance(work, StoreResult | Expect) or (isinstance(work, Look) and work.first)


def snapshot_after(session: Session) -> Snapshot:
    """The workflow as last committed by a session that has come to its end."""
    draft = session.draft
    state = stored_fields(draft.text) if draft.state_if_any is None else draft.state_if_any
    return snapshot_of(session.ledger.record, draft.progress, state, draft.tree_if_any)


def _tell_sender(draft: Draft, event: Event, error: BaseException, now: float) -> bool | None:
    """Tell who waits for an event's output that its handler has failed.

    Whether that is to be committed; None when nobody waits, and the event is to be tried again.
    """
    refusal = refusal_of(event.event, error)
    if draft.delivery is not None and draft.delivery.is_of(event.event_id):
        draft.refuse(refusal)
        return False
    if event.sender and now < event.until:
        draft.progress.drop_event(event.event_id)
        draft.progress.remember(event.sender, refusal_as_stored(refusal))
        return True
    if isinstance(error, EventRefused):  # its sender was told that it is kept, and can't be told otherwise
        draft.progress.drop_event(event.event_id)
        return True
    return None
