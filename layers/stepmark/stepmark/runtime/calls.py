"""Calling what users wrote: functions that are sync or async, in this thread or alongside it.

A step may itself call the engine, and then waits for the steps of another workflow. Those must not need what
it holds: the one event loop, if it is an `async def`, or its place in the pool.
"""

from __future__ import annotations

import atexit
import inspect
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import cache
from typing import TYPE_CHECKING, Any

from stepmark.errors import DefinitionError
from stepmark.runtime.context import StepContext, _current

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor, Future

# an `async def` further up holds the event loop until what runs here is done
_loop_held: ContextVar[bool] = ContextVar("stepmark_loop_held", default=False)


class _Exit(Exception):
    """Carries a SystemExit or KeyboardInterrupt, its cause, past the event loop, which it would end."""


def _loop() -> asyncio.AbstractEventLoop:
    """One event loop for the process, in a thread of its own, so that clients bound to a loop can be kept."""
    with _making_loop:
        return _made_loop()


_making_loop = threading.Lock()


@cache
def _made_loop() -> asyncio.AbstractEventLoop:
    import asyncio  # noqa: PLC0415 - ten milliseconds that workflows without an `async def` save

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stepmark-asyncio", daemon=True)
    thread.start()

    def close() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    atexit.register(close)
    return loop


def _forget_loop() -> None:
    """In a forked process: threads do not survive a fork."""
    global _making_loop  # noqa: PLW0603 - another thread may have held it
    _making_loop = threading.Lock()
    _made_loop.cache_clear()


os.register_at_fork(after_in_child=_forget_loop)


def call(function: Callable[[], Any], context: StepContext) -> Any:
    """Call it here and return its result, awaited if need be; `current()` is the context meanwhile.

    What it sets of the caller's context variables is seen by itself alone, and by what it calls.
    """
    return copy_context().run(_call, function, context)


def _call(function: Callable[[], Any], context: StepContext) -> Any:
    _current.set(context)
    try:
        result = _called(function())
        if inspect.isawaitable(result):
            result = _begin_awaiting(lambda: result, context).result()
    except _Exit as error:
        raise error.__cause__ or error from None
    else:
        return result


def _called[R](result: R) -> R:
    """Refuse what comes of calling a generator function, which runs nothing of it."""
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise DefinitionError(
            f"{result.__qualname__} has a `yield` and so runs nothing: return a list, or use For for a loop"
        )
    return result


def begin(function: Callable[[], Any], context: StepContext, executor: Executor) -> Future[Any]:
    """Call it alongside: an `async def` on the event loop, anything else on a thread."""
    if inspect.iscoroutinefunction(function):
        return _begin_awaiting(function, context)
    variables = copy_context()
    variables.run(_loop_held.set, _is_loop_held())
    if _current.get(None) is not None:  # called by a step, which may have the last place in the pool
        return _on_own_thread(variables.run, call, function, context)
    return executor.submit(variables.run, call, function, context)


def _begin_awaiting(function: Callable[[], Awaitable[Any]], context: StepContext) -> Future[Any]:
    import asyncio  # noqa: PLC0415 - as above

    awaiting = _await(function, context)
    if _is_loop_held():
        variables = copy_context()
        variables.run(_loop_held.set, True)
        return _on_own_thread(variables.run, asyncio.run, awaiting)
    return asyncio.run_coroutine_threadsafe(awaiting, _loop())


async def _await(function: Callable[[], Awaitable[Any]], context: StepContext) -> Any:
    _current.set(context)
    try:
        return _called(await function())
    except (SystemExit, KeyboardInterrupt) as error:
        raise _Exit from error


def _is_loop_held() -> bool:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:  # so no loop was ever made
        return False
    try:
        return _loop_held.get() or asyncio.get_running_loop() is _loop()
    except RuntimeError:  # no loop runs in this thread
        return False


def _on_own_thread(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    with_one = ThreadPoolExecutor(1, thread_name_prefix="stepmark-nested")
    future = with_one.submit(function, *arguments)
    with_one.shutdown(wait=False)
    return future
