"""A worker for one machine: resumes what is due."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepmark.errors import RetryableError, UnknownWorkflow, printable
from stepmark.runtime.ledger import Budget
from stepmark.runtime.scheduler import LocalScheduler

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future, ThreadPoolExecutor

    from stepmark.runtime.ledger import Runtime

_log = logging.getLogger("stepmark")

SLICE = Budget(seconds=2.0)  # after that a workflow goes to the back of the queue, and a stop is noticed
SET_ASIDE_SECONDS = 10.0  # for a workflow that could not be resumed


class Worker:
    """Resumes due workflows, so many at once.

    resume: called with a workflow's id and what one call may do.
    """

    def __init__(
        self,
        runtime: Runtime,
        resume: Callable[[str, Budget], object],
        executor: ThreadPoolExecutor,
        concurrency: int,
    ) -> None:
        self._runtime = runtime
        self._resume_workflow = resume
        self._executor = executor
        self._concurrency = concurrency
        self._running: dict[str, Future[None]] = {}
        self._set_aside: dict[str, float] = {}  # when a workflow that could not be resumed is tried again

    def take_due(self) -> bool:
        """Start what is due, as far as there is room; whether anything was."""
        self._running = {key: future for key, future in self._running.items() if not future.done()}
        self._set_aside = {key: at for key, at in self._set_aside.items() if at > time.monotonic()}
        room = self._concurrency - len(self._running)
        if room <= 0:
            return False
        occupied = self._running.keys() | self._set_aside.keys()
        try:
            due = self._runtime.store.due(self._runtime.clock.now(), self._concurrency + len(occupied))
        except RetryableError as error:
            _log.warning("the store could not be asked for due work: %s", type(error).__name__)
            return False
        chosen = [workflow_id for workflow_id in due if workflow_id not in occupied][:room]
        for workflow_id in chosen:
            self._running[workflow_id] = self._executor.submit(self._resume, workflow_id)
        return bool(chosen)

    def _resume(self, workflow_id: str) -> None:
        try:
            self._resume_workflow(workflow_id, SLICE)
        except Exception as error:  # noqa: BLE001 - one workflow that can't be resumed must not stop the others
            self._set_aside[workflow_id] = time.monotonic() + SET_ASIDE_SECONDS
            # an older worker may meet a newer deploy's workflows: others will run those
            level = logging.DEBUG if isinstance(error, UnknownWorkflow) else logging.WARNING
            what = printable(workflow_id), type(error).__name__
            _log.log(level, "workflow %s could not be resumed: %s", *what)

    def pause(self, seconds: float, stopping: threading.Event) -> None:
        """Wait for the next look at the store."""
        scheduler = self._runtime.scheduler
        if isinstance(scheduler, LocalScheduler):
            scheduler.pause(seconds)
        else:
            stopping.wait(seconds)


@contextmanager
def stopping_signals(given: threading.Event | None, stopping: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the worker, unless the caller has its own way."""
    if given is not None:
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stopping.set()) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
