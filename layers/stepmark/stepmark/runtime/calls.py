"""Calling what users wrote: functions that are sync or async, in this thread or alongside it.

A step may itself call the engine, and then waits for the steps of another workflow. Those must not need what
it holds: its place in the pool, or the event loop, which the engine hands over meanwhile.
"""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from stepmark.errors import DefinitionError
from stepmark.runtime.context import StepContext, _current
from stepmark.runtime.loops import shared_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor, Future


class _Exit(Exception):
    """Carries a SystemExit or KeyboardInterrupt, its cause, past the event loop, which it would end."""


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
    if _current.get(None) is not None:  # called by a step, which may have the last place in the pool
        return _on_own_thread(variables.run, call, function, context)
    return executor.submit(variables.run, call, function, context)


def _begin_awaiting(function: Callable[[], Awaitable[Any]], context: StepContext) -> Future[Any]:
    import asyncio  # noqa: PLC0415 - ten milliseconds that workflows without an `async def` save

    return asyncio.run_coroutine_threadsafe(_await(function, context), shared_loop())


async def _await(function: Callable[[], Awaitable[Any]], context: StepContext) -> Any:
    _current.set(context)
    try:
        return _called(await function())
    except (SystemExit, KeyboardInterrupt) as error:
        raise _Exit from error


def _on_own_thread(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    with_one = ThreadPoolExecutor(1, thread_name_prefix="stepmark-nested")
    future = with_one.submit(function, *arguments)
    with_one.shutdown(wait=False)
    return future
