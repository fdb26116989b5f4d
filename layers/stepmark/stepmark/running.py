"""Calling what users wrote: functions that are sync or async, in this thread or alongside it."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from stepmark.context import StepContext, _current

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor, Future


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One event loop for the process, in a thread of its own, so that clients bound to a loop can be kept."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stepmark-asyncio", daemon=True)
    thread.start()

    def close() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    atexit.register(close)
    return loop


os.register_at_fork(after_in_child=_loop.cache_clear)  # threads do not survive a fork


def call(function: Callable[[], Any], context: StepContext) -> Any:
    """Call it here and return its result, awaited if need be; `current()` is the context meanwhile."""
    token = _current.set(context)
    try:
        result = function()
        if inspect.isawaitable(result):
            result = asyncio.run_coroutine_threadsafe(_await(result, context), _loop()).result()
        return result
    finally:
        _current.reset(token)


def begin(function: Callable[[], Any], context: StepContext, executor: Executor) -> Future[Any]:
    """Call it alongside: an `async def` on the event loop, anything else on a thread."""
    if inspect.iscoroutinefunction(function):
        return asyncio.run_coroutine_threadsafe(_await(function(), context), _loop())
    return executor.submit(call, function, context)


async def _await(awaitable: Awaitable[Any], context: StepContext) -> Any:
    _current.set(context)
    return await awaitable
