"""A worker for one machine: resumes what is due, as long as anything is.

One thread looks into the store, and others take what it has found. It looks again as soon as little is left
of that; only when nothing was due does it pause.
"""

from __future__ import annotations

import logging
import signal
import time
from collections import Counter, deque
from contextlib import contextmanager
from inspect import signature
from random import SystemRandom
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING, cast

from stepmark.errors import RetryableError, UnknownWorkflow, printable, text_of
from stepmark.runtime.ledger import Budget
from stepmark.runtime.scheduler import LocalScheduler
from stepmark.runtime.unreadable import is_long_over

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from stepmark.runtime.ledger import Runtime
    from stepmark.stores.protocol import ChoosingStore, Store

_log = logging.getLogger("stepmark")
_chance = SystemRandom()

SLICE = Budget(seconds=2.0)  # after that a workflow goes to the back of the queue, and a stop is noticed
SET_ASIDE_SECONDS = 10.0  # for a workflow that could not be resumed
AHEAD = 4  # for each thread, so many workflows lie ready at most
# Workers that look at the same time find the same: each takes some of so many times more than it needs.
CHOICE = 8
STOP_SECONDS = 0.2  # how soon a stop is noticed while there is work
FOREIGN_SECONDS = 600.0  # how often a worker looks for what is due and is none of its own
MAX_FOREIGN = 1_000  # that are looked at then


class Worker:
    """Resumes due workflows, so many at once.

    resume: called with a workflow's id and what one call may do. names: the workflows that it can run.
    """

    def __init__(
        self,
        runtime: Runtime,
        resume: Callable[[str, Budget], object],
        names: Collection[str],
        concurrency: int,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be above zero, not {concurrency}")
        self._runtime = runtime
        self._resume_workflow = resume
        self._names = names
        self._concurrency = concurrency
        self._due = _due_of(runtime.store, names)
        self._changed = Condition()  # guards what follows
        self._ready: deque[str] = deque()
        self._running: set[str] = set()
        self._set_aside: dict[str, float] = {}  # when a workflow that could not be resumed is tried again
        self._done = False  # something was resumed: what is left of it may be due at once
        self._ended = False
        self._foreign: set[str] = set()  # names that were said already
        self._foreign_at = 0.0

    def run(self, stop: Event | None, poll_seconds: float) -> None:
        """Work until told to stop; steps that run then are brought to their end."""
        if not poll_seconds > 0:
            raise ValueError(f"poll_seconds must be above zero, not {poll_seconds}")
        stopping = stop or Event()
        threads = [
            # daemons, so that a second Ctrl-C ends the process though a step goes on
            Thread(target=self._work, name=f"stepmark-worker_{number}", daemon=True)
            for number in range(self._concurrency)
        ]
        for thread in threads:
            thread.start()
        with _stopping_signals(stop, stopping):
            try:
                self._look(stopping, poll_seconds)
            finally:
                with self._changed:
                    self._ended = True
                    self._changed.notify_all()
            for thread in threads:
                thread.join()

    def _look(self, stopping: Event, poll_seconds: float) -> None:
        while not stopping.is_set():
            if self._take_due():
                self._await_room(stopping)
            else:
                self._look_for_foreign()
                self._pause(poll_seconds, stopping)

    def _take_due(self) -> bool:
        """Lay ready what is due; whether anything was that is not under way already."""
        with self._changed:
            now = time.monotonic()
            self._set_aside = {key: at for key, at in self._set_aside.items() if at > now}
            self._done = False
            occupied = self._running | self._set_aside.keys() | set(self._ready)
            room = AHEAD * self._concurrency - len(self._ready)
        try:
            due = self._due(self._runtime.clock.now(), CHOICE * room + len(occupied))
        except RetryableError as error:
            _warn_of_store(error)
            return False
        free = [workflow_id for workflow_id in due if workflow_id not in occupied]
        chosen = free if len(free) <= room else _chance.sample(free, room)
        with self._changed:
            # what has been finished since the store was asked is due no more, or will be found again
            self._ready.extend(chosen)
            self._changed.notify_all()
        return bool(chosen)

    def _await_room(self, stopping: Event) -> None:
        """Wait until the threads will soon have nothing to do."""
        with self._changed:
            while len(self._ready) >= self._concurrency and not stopping.is_set():
                self._changed.wait(STOP_SECONDS)

    def _pause(self, seconds: float, stopping: Event) -> None:
        """Wait for the next look at the store."""
        scheduler = self._runtime.scheduler
        if isinstance(scheduler, LocalScheduler):
            scheduler.pause(seconds)
            return
        end = time.monotonic() + seconds
        with self._changed:
            while not self._done and not stopping.is_set() and (left := end - time.monotonic()) > 0:
                self._changed.wait(min(left, STOP_SECONDS))

    # -- in the threads -------------------------------------------------------------------------------

    def _work(self) -> None:
        while (workflow_id := self._take()) is not None:
            aside = None
            try:
                self._resume_workflow(workflow_id, SLICE)
            except Exception as error:  # noqa: BLE001 - one workflow that can't be resumed must not stop the others
                aside = time.monotonic() + SET_ASIDE_SECONDS
                # an older worker may meet a newer deploy's workflows: others will run those
                level = logging.DEBUG if isinstance(error, UnknownWorkflow) else logging.WARNING
                what = printable(workflow_id), type(error).__name__
                _log.log(level, "workflow %s could not be resumed: %s", *what)
            self._leave(workflow_id, aside)

    def _take(self) -> str | None:
        """The next workflow to resume, as soon as there is one; None when this worker has ended."""
        with self._changed:
            while not self._ended:
                if self._ready:
                    workflow_id = self._ready.popleft()
                    self._running.add(workflow_id)
                    if len(self._ready) == self._concurrency - 1:
                        self._changed.notify_all()  # whoever looks into the store is to look again
                    return workflow_id
                self._changed.wait()
            return None

    def _leave(self, workflow_id: str, aside: float | None) -> None:
        """A workflow was resumed, or could not be."""
        with self._changed:
            self._running.discard(workflow_id)
            if aside is not None:
                self._set_aside[workflow_id] = aside
            idle = not self._ready
            if idle:
                self._done = True
                self._changed.notify_all()
        if idle and isinstance(self._runtime.scheduler, LocalScheduler):
            self._runtime.scheduler.interrupt()

    # -- what nobody runs -----------------------------------------------------------------------------

    def _look_for_foreign(self) -> None:
        """Say once of each workflow class that it is due and this worker does not have it."""
        now = time.monotonic()
        if self._foreign_at > now:
            return
        self._foreign_at = now + FOREIGN_SECONDS
        store = self._runtime.store
        try:
            due = store.due(self._runtime.clock.now(), MAX_FOREIGN)
            records = [store.load(workflow_id) for workflow_id in due]
        except RetryableError as error:
            _warn_of_store(error)
            return
        foreign = [one for one in records if one is not None and one.workflow not in self._names]
        with self._changed:
            # what should have been over for long, anybody may put an end to
            self._ready.extend(
                one.workflow_id for one in foreign if is_long_over(one, self._runtime.clock.now())
            )
            self._changed.notify_all()
        for name, count in Counter(one.workflow for one in foreign).items():
            if name not in self._foreign:
                self._foreign.add(name)
                at_least = "at least " if len(due) == MAX_FOREIGN else ""
                what = f"{at_least}{count}", printable(name)
                _log.warning("%s workflows of class '%s' are due, which this worker was not given", *what)


def _warn_of_store(error: RetryableError) -> None:
    said = ": ".join(filter(None, [type(error).__name__, text_of(error)]))
    _log.warning("the store could not be asked for due work: %s", printable(said))


def _due_of(store: Store, names: Collection[str]) -> Callable[[float, int], list[str]]:
    """The store's due(), for those workflows alone if it can choose: one of somebody's own may not."""
    try:
        signature(store.due).bind(0.0, 1, names)
    except TypeError:
        return store.due
    choosing = cast("ChoosingStore", store)
    return lambda now, limit: choosing.due(now, limit, names)


@contextmanager
def _stopping_signals(given: Event | None, stopping: Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the worker, unless the caller has its own way; a second SIGINT does at once.

    Raises KeyboardInterrupt then: no step is told, and others find the leases of a dead process.
    """
    if given is not None:
        yield
        return

    def stop(number: int, _frame: object) -> None:
        if number == signal.SIGINT and stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, stop) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
