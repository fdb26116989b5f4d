"""The time-out of a step: what takes longer is a failed attempt, and what it does later changes nothing.

Nothing can stop a thread: the step's goes on, as a daemon, with a state that nobody looks at any more.
"""

from __future__ import annotations

import inspect
import sys
import time
from concurrent.futures import Future, wait
from contextvars import copy_context
from functools import partial
from threading import TIMEOUT_MAX, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any

from stepmark.errors import StepTimedOut

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from stepmark.definition.statements import Step

CLEAN_UP_SECONDS = 5.0  # for what an `async def` does about its cancellation


def limited(step: Step, seconds_left: float | None) -> Callable[[], Any]:
    """A step's action, which raises StepTimedOut when it takes too long. seconds_left: of its workflow."""
    action, seconds = step.action, step.timeout
    if seconds is None:
        return action
    if seconds_left is not None:
        seconds = max(0.0, min(seconds, seconds_left))
    if inspect.iscoroutinefunction(action):
        return partial(_await_for, seconds, seconds, action)
    return partial(_call_for, seconds, action)


def _call_for(seconds: float, action: Callable[[], Any]) -> Any:
    """Call it in a thread of its own, which is written off after that time."""
    done: Future[Any] = Future()
    ends_at = time.monotonic() + seconds
    thread = Thread(
        target=copy_context().run, args=(_call_into, done, action), name="stepmark-timed", daemon=True
    )
    thread.start()
    if not wait([done], min(seconds, TIMEOUT_MAX)).done:
        raise _timed_out(seconds).with_traceback(_stack_of(thread))
    result = done.result()
    if inspect.isawaitable(result):
        return _await_for(seconds, ends_at - time.monotonic(), lambda: result)
    return result


def _call_into(done: Future[Any], action: Callable[[], Any]) -> None:
    try:
        done.set_result(action())
    except BaseException as error:  # noqa: BLE001 - for whoever waits, as without a time-out
        done.set_exception(error)


async def _await_for(limit: float, seconds: float, action: Callable[[], Awaitable[Any]]) -> Any:
    """Await it, and cancel it after so many seconds, which are what is left of the limit."""
    import asyncio  # noqa: PLC0415 - ten milliseconds that workflows without an `async def` save

    task = asyncio.ensure_future(_guard(action()))
    try:
        await _wait(task, seconds)
        in_time = task.done()
        if not in_time:
            task.cancel()
            await asyncio.wait({task}, timeout=CLEAN_UP_SECONDS)
    except asyncio.CancelledError:  # nobody waits any more
        task.cancel()
        raise
    if not in_time:
        raise _timed_out(limit).with_traceback(_end_of(task))
    result, error = task.result()
    if error is not None:
        raise error
    return result


async def _wait(task: asyncio.Task[Any], seconds: float) -> None:
    import asyncio  # noqa: PLC0415 - as above

    await asyncio.wait({task}, timeout=seconds)


async def _guard(action: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Hand over what would end the event loop as the error of one of its tasks."""
    try:
        return await action, None
    except (SystemExit, KeyboardInterrupt) as error:
        return None, error


def _timed_out(seconds: float) -> StepTimedOut:
    return StepTimedOut(f"it took longer than {seconds:g} s")


def _stack_of(thread: Thread) -> TracebackType | None:
    """Where a thread is stuck, as a traceback."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented as it is
    stack = None
    while frame is not None:
        stack = TracebackType(stack, frame, frame.f_lasti, frame.f_lineno or 0)
        frame = frame.f_back
    return stack


def _end_of(task: asyncio.Task[Any]) -> TracebackType | None:
    """Where a task was cancelled; what else it has come to is nobody's business any more."""
    if not task.done():
        task.add_done_callback(_end_of)
        return None
    try:
        task.result()
    except BaseException as error:  # noqa: BLE001 - as said
        return error.__traceback__
    return None
