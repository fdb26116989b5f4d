"""The stored record of one workflow, and the lease on it.

    load ─▶ claim (lease taken, version + 1) ─▶ commit ─▶ commit ─▶ ... ─▶ last commit (lease given back)

The claim is left out before the mere delivery of an event, whose commit takes the lease if there is more to
do, and after a commit that left the lease in the scheduler's queue: whoever takes it out goes on.

Every write is conditional on the version. Two kinds of writes can come in between: an event or a word that
somebody posts for the holder of the lease, or the holder's own heartbeat, which are taken over; and a
cancellation, or somebody's claim after the lease has run out, after which this holder is out.
"""

from __future__ import annotations

import logging
import math
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeGuard, cast

from stepmark.core.planning import left_behind
from stepmark.core.record import QUEUE, UNKNOWN, Progress, Record, Status
from stepmark.errors import RetryableError, StateError, VersionConflict, printable
from stepmark.runtime import owners
from stepmark.runtime.clock import monotonic_of
from stepmark.runtime.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from concurrent.futures import Executor

    from stepmark.core.record import Event
    from stepmark.runtime.clock import Clock
    from stepmark.runtime.lease import LeaseEnd
    from stepmark.runtime.scheduler import KeepingScheduler, Scheduler
    from stepmark.stores.protocol import Store


_log = logging.getLogger("stepmark")

SOON_SECONDS = 5.0  # a wake-up for a time that is this near may already be on its way


class LeaseLost(Exception):
    """Somebody else has taken the workflow over: what this holder had not committed is dropped."""


PAUSE_SECONDS = 1.0  # a timer that is nearer is no pause


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one resume may do before it stops cleanly and leaves the rest to the next.

        engine.resume(workflow_id, budget=Budget(seconds=20))

    seconds: no step begins later than that. steps: how many commits at most. None: no limit.
    """

    seconds: float | None = None
    steps: int | None = None

    def is_spent(self, seconds: float, commits: int) -> bool:
        """Whether so much is all that one resume may do."""
        return (self.seconds is not None and seconds >= self.seconds) or (
            self.steps is not None and commits >= self.steps
        )


@dataclass(frozen=True, slots=True)
class Runtime:
    """What every session of an engine works with."""

    store: Store
    scheduler: Scheduler | None
    clock: Clock
    executor: Executor
    lease_seconds: float
    budget: Budget
    queued: bool
    on_parked: Callable[[str, tuple[str, ...]], object] | None
    max_commits_without_pause: int
    pid: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        if not 0 < self.lease_seconds < math.inf:
            raise ValueError(f"lease_seconds must be a number above zero, not {self.lease_seconds!r}")
        if self.max_commits_without_pause < 1:
            raise ValueError("max_commits_without_pause must be a number above zero")

    def check_process(self) -> None:
        """Refuse to work in a forked process, in which the threads and connections of its parent are dead."""
        if os.getpid() != self.pid:
            raise RuntimeError("this Engine was made before a fork: make store and engine in each process")

    def tell_parked(self, workflow_id: str, at: tuple[str, ...]) -> None:
        """Call the hook: nobody goes on without being told to. What it raises must not stop anything."""
        if self.on_parked is None:
            return
        try:
            self.on_parked(workflow_id, at)
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            workflow_id, name = printable(workflow_id), type(error).__name__
            _log.warning("workflow %s: on_parked raised %s", workflow_id, name)

    @property
    def on_one_machine(self) -> bool:
        """Whether all who use the store run on one machine; a store of somebody's own may not say."""
        return getattr(self.store, "on_one_machine", False)

    def monotonic(self) -> float:
        """The time for measuring how long something takes."""
        return monotonic_of(self.clock)

    @property
    def keeper(self) -> KeepingScheduler | None:
        """The scheduler, if it keeps wake-ups that have to be forgotten."""
        return cast("KeepingScheduler", self.scheduler) if hasattr(self.scheduler, "forget") else None


class Standing(NamedTuple):
    """Where a workflow stands after a commit.

    held: whether the lease is kept. queued: whether it is left in the scheduler's queue, with the work that
    is left. due_at: when a worker must look again, if neither is so.
    """

    status: Status
    due_at: float | None = None
    held: bool = False
    queued: bool = False


class Ledger:
    """Writes the record of one workflow; see the module's docstring."""

    def __init__(self, runtime: Runtime, record: Record, posted: int, *, adopts: bool) -> None:
        self.runtime = runtime
        self.record = record
        self.owner = owners.new_owner()
        self._attempted = record
        self._adopted = record.queued and adopts  # the lease that lies in the queue, without a write
        self._woken_for = record.due_at if record.lease_owner is None else None
        self._posted = posted
        self._stuck = record.status is Status.PARKED or (
            record.status.closed and left_behind(Progress.from_json(record.progress))
        )
        self._keeper = runtime.keeper
        self._far = 0.0
        if self._keeper is not None:
            self._far = max(SOON_SECONDS, getattr(self._keeper, "far_seconds", 0.0))
        self._timer_moved = False  # for a commit that is still to come
        slowest_write = getattr(runtime.store, "slowest_write", 0.0)  # as far as the store says so
        self._lease = Lease(runtime.clock, runtime.lease_seconds, slowest_write, record.lease_until)
        self._lost = False  # somebody else has the workflow, as a renewal has found
        self._lock = Lock()  # one write at a time: the heartbeat writes too

    @property
    def held(self) -> bool:
        """Whether this ledger has the lease, as far as it knows."""
        return self._adopted or self._is_ours(self.record)

    @property
    def was_abandoned(self) -> bool:
        """Whether whoever had the lease last has never given it back."""
        return self.record.lease_owner is not None and not self.record.queued

    @property
    def next_version(self) -> int:
        """The version that the next commit writes."""
        return self.record.version + 1

    def spins(self, progress: Progress) -> bool:
        """Whether the workflow has gone on for longer than any should without a pause."""
        return self.record.version - progress.rested >= self.runtime.max_commits_without_pause

    def note_pause(self, progress: Progress, due_at: float | None, now: float) -> None:
        """The next commit leaves nothing to be done before `due_at`."""
        if due_at is None or due_at >= now + PAUSE_SECONDS:
            progress.rested = self.next_version

    def create(self, state: str, progress: Progress, standing: Standing) -> bool:
        """Write the first record; False when the id is taken."""
        with self._lock:
            record, lease = self._next(state, progress, standing)
            with self._lease.written():
                created = self.runtime.store.create(record)
            if not created:
                return False
            self._written(record, progress)
            self._lease.end = lease
        return True

    def leave(self) -> None:
        """Do nothing more; a lease that is still held is anybody's where this can be seen."""
        owners.end(self.owner)

    def write(self, state: str, progress: Progress, standing: Standing) -> None:
        """Commit, and give the lease back in the same write unless it is to be held, or left in the queue."""
        with self._lock:
            record, lease = self._next(state, progress, standing)
            self._attempted = record
            with self._lease.written():
                self.runtime.store.commit(record, self.record.version)
            self._written(record, progress)
            self._lease.end = lease

    def _next(self, state: str, progress: Progress, standing: Standing) -> tuple[Record, LeaseEnd]:
        old, lease = self.record, self._next_lease()
        if standing.held:
            owners.begin(self.owner)
        # another name each time: of two who take it out, the slower must see that it lies there anew
        owner = self._holder(lease) if standing.held else f"{QUEUE}{self.owner}" if standing.queued else None
        until = lease.until if owner is not None else None
        record = Record(
            workflow_id=old.workflow_id,
            workflow=old.workflow,
            version=old.version + 1,
            status=standing.status,
            state=state,
            progress=progress.to_json(),
            due_at=standing.due_at if owner is None else until,
            lease_owner=owner,
            lease_until=until,
            ends_at=progress.ends_at,
        )
        return record, lease

    # -- the lease ------------------------------------------------------------------------------------

    def _is_ours(self, record: Record) -> bool:
        return record.lease_owner is not None and record.lease_owner.startswith(self.owner)

    def _is_still_held(self, theirs: Record | None) -> TypeGuard[Record]:
        """Whether nobody else has taken the workflow over, going by what is stored."""
        return theirs is not None and (
            self._is_ours(theirs) or theirs.lease_owner == self.record.lease_owner  # adopted from the queue
        )

    def _holder(self, lease: LeaseEnd) -> str:
        return owners.with_end(self.owner, lease.monotonic) if self.runtime.on_one_machine else self.owner

    @property
    def needs_renewal(self) -> bool:
        """Whether the lease is to be prolonged by a write for that alone."""
        return self.held and not self._lost and self._lease.is_short(0.4)

    def _next_lease(self) -> LeaseEnd:
        """The end of the lease; it moves seldom, so that few writes touch the index on due_at."""
        if self.held and not self._lease.is_short(0.5):
            return self._lease.end
        return self._lease.prolonged()

    def _written(self, record: Record, progress: Progress) -> None:
        self.record = record
        self._adopted = False
        self._timer_moved = False
        self._posted = len(progress.events)
        stuck = record.status is Status.PARKED or left_behind(progress)
        if stuck and not self._stuck:
            at = [thread.at for thread in progress.threads.values()]
            at += [each.place.at for each in progress.teardowns if progress.ended is not None]
            self.runtime.tell_parked(record.workflow_id, tuple(at))
        self._stuck = stuck

    def catch_up(self, progress: Progress) -> bool:
        """After a conflict, or to see whether there is anything new: take over what was posted.

        True when the conflict was with our own write, whose answer was lost. Raises VersionConflict when we
        do not have the lease, so that nothing of ours is stored, and LeaseLost when somebody else has the
        workflow now.
        """
        with self._lock:
            theirs = self.runtime.store.load(self.record.workflow_id)
            if theirs == self.record and self.held:
                return False
            if theirs is not None and theirs == self._attempted:
                self._written(theirs, progress)
                return True
            if not self.held:
                raise VersionConflict(self.record.workflow_id)
            if not self._is_still_held(theirs):
                raise LeaseLost(self.record.workflow_id)
            there = Progress.from_json(theirs.progress)
            posted: list[Event] = there.events
            known = {event.event_id for event in progress.events} | progress.outputs.keys()
            progress.events += [event for event in posted[self._posted :] if event.event_id not in known]
            progress.look = progress.look or there.look
            self._posted = len(posted)
            self.record = theirs
            return False

    def renew(self) -> None:
        """Prolong the lease when it is time; called while a long step runs."""
        with self._lock:
            if not self.needs_renewal:
                return
            old, lease = self.record, self._next_lease()
            record = self._prolonged(old, lease)
            try:
                with self._lease.written():
                    self.runtime.store.commit(record, old.version)
            except VersionConflict:
                self._renew_beside(lease)
            else:
                self.record, self._lease.end = record, lease

    def _renew_beside(self, lease: LeaseEnd) -> None:
        """Prolong the lease after something was posted; what that was, the next commit finds out."""
        store = self.runtime.store
        theirs = store.load(self.record.workflow_id)
        if not self._is_still_held(theirs):
            self._lost = True
            return
        with suppress(VersionConflict):  # something else was posted: the next beat tries again
            store.commit(self._prolonged(theirs, lease), theirs.version)
            self._lease.end = lease

    def _prolonged(self, record: Record, lease: LeaseEnd) -> Record:
        holder = self._holder(lease) if self._is_ours(record) else record.lease_owner
        version, until = record.version + 1, lease.until
        return replace(record, version=version, lease_owner=holder, lease_until=until, due_at=until)

    def wake(self) -> None:
        """Once the lease is given back, have the workflow resumed when it is due.

        No timer is set twice, unless it is due so soon that its wake-up may have come, and found the
        workflow leased.
        """
        record, scheduler = self.record, self.runtime.scheduler
        if scheduler is None or self.held:
            return
        now = self.runtime.clock.now()
        if record.queued:
            scheduler.wake(record.workflow_id, now)
        elif (
            record.due_at is not None
            and not self._is_far(record.due_at, now)
            and (record.due_at != self._woken_for or record.due_at - now < SOON_SECONDS)
        ):
            self._woken_for = record.due_at
            scheduler.wake(record.workflow_id, record.due_at)

    # -- the wake-up that a scheduler keeps -----------------------------------------------------------

    def set_timer(self, progress: Progress, due_at: float | None, waited_for: Collection[float]) -> None:
        """Set, move or remove the wake-up that is kept, before the commit that gives the lease back.

        Whoever makes it void comes after that commit, and so finds it set; if the commit fails, `mend_timer`
        puts right what was done. waited_for: all times ahead at which something is due.
        """
        if self._keeper is None:
            return
        now = self.runtime.clock.now()
        if self._is_far(due_at, now):
            if progress.timer != due_at:
                self._timer_moved = True
                self._keep(due_at)
                progress.timer = due_at
        elif progress.timer is not None and progress.timer not in waited_for:
            if progress.timer == UNKNOWN or progress.timer > now:  # else it has come, and is gone
                self._timer_moved = True
                self._keep(None)
            progress.timer = None

    def note_timer(self, progress: Progress, due_at: float | None) -> None:
        """In the first record: no wake-up is set before it is known that the id is not taken."""
        if self._keeper is not None and self._is_far(due_at, self.runtime.clock.now()):
            progress.timer = due_at

    def set_noted_timer(self, progress: Progress) -> None:
        """Set it then; somebody may have come in between and made it void."""
        if self._keeper is not None and progress.timer is not None:
            self._keep(progress.timer)
            self._mend_timer(progress.timer)

    def doubt_timer(self, progress: Progress) -> None:
        """Somebody has set out to move the timer, perhaps, and not come to say so."""
        if self._keeper is not None:
            progress.timer = UNKNOWN

    def mend_timer(self) -> None:
        """After a commit that has failed: what it was to say of the timer was done before."""
        if self._keeper is not None and self._timer_moved:
            self._timer_moved = False
            self._mend_timer(math.nan)

    def _mend_timer(self, done: float | None) -> None:
        """Do what the record says of the timer, until it says nothing else than what was done."""
        with suppress(RetryableError, StateError):  # a sweep will find it
            while True:
                record = self.runtime.store.load(self.record.workflow_id)
                timer = None if record is None else Progress.from_json(record.progress).timer
                if timer == done:
                    return
                if timer is None or timer > self.runtime.clock.now():
                    self._keep(timer)
                done = timer

    def _keep(self, at: float | None) -> None:
        """Have the scheduler keep that wake-up, or none; it must not stand in the way of a commit."""
        keeper, workflow_id = self._keeper, self.record.workflow_id
        if keeper is None:
            return
        try:
            if at is None:
                keeper.forget(workflow_id)
            else:
                keeper.wake(workflow_id, at)
        except Exception as error:  # noqa: BLE001 - a scheduler of the user's may raise anything
            _log.warning(
                "workflow %s: its timer was not moved (%s); a sweep will find it",
                printable(workflow_id),
                type(error).__name__,
            )

    def _is_far(self, at: float | None, now: float) -> TypeGuard[float]:
        return self._keeper is not None and at is not None and at - now > self._far


def is_leased(runtime: Runtime, record: Record) -> bool:
    """Whether somebody runs a workflow who, as far as can be seen from here, lives."""
    holder, now = record.lease_owner, runtime.clock.now()
    if holder is None or not runtime.on_one_machine:
        return record.leased(now)
    end = owners.end_of(holder)
    # whatever the wall clock says, if that can be told: it may have been set since
    leased = record.leased(now) if end is None else runtime.monotonic() < end
    return leased and not owners.has_died(holder)
