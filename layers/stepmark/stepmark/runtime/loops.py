"""The one event loop for the `async def`s of a process, so that clients that belong to a loop can be kept.

Such a function may call the engine, and then waits for workflows whose own `async def`s need the loop. So
while the engine is at work for it, another thread runs the loop:

    one thread      function ─▶ engine.callback() ···· waits ···▶ function goes on, this thread runs the loop
    another            └─▶ runs the loop: other functions go on ───┘ ends
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import isfunction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator


class _SharedLoop:
    """An event loop that one thread after another runs.

    asyncio has no name for "this thread does not run the loop for a while": what stands for it are the
    loop's thread and the task that runs, which are unset and set again here.
    """

    # ruff: noqa: SLF001

    def __init__(self) -> None:
        import asyncio  # noqa: PLC0415 - ten milliseconds that workflows without an `async def` save

        self._asyncio: Any = asyncio
        # the standard library's own, whatever the program uses elsewhere: others can't be handed over
        self.loop: Any = getattr(asyncio, "ProactorEventLoop", asyncio.SelectorEventLoop)()
        self._lock = threading.Lock()  # guards what follows
        self._coming_back: deque[threading.Event] = deque()  # threads whose engine call is over
        self._closing = False
        self._ended = threading.Event()
        self._go_on_elsewhere()

    def close(self) -> None:
        """End it; a thread that comes back later finds it closed."""
        self._closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._ended.wait()
        self.loop.close()

    def _go_on_elsewhere(self) -> None:
        threading.Thread(target=self._run, name="stepmark-asyncio", daemon=True).start()

    def _run(self) -> None:
        while True:
            with suppress(SystemExit, KeyboardInterrupt):  # of a task, whose awaiter is told as well
                self.loop.run_forever()
            with self._lock:
                if self._coming_back:
                    self._coming_back.popleft().set()
                    return
                if self._closing:
                    self._ended.set()
                    return

    @property
    def runs_here(self) -> bool:
        """Whether this thread runs it."""
        return self._asyncio._get_running_loop() is self.loop

    @contextmanager
    def handed_over(self) -> Iterator[None]:
        """Let another thread run it for the length of a `with` block; this one must run it now."""
        asyncio, loop = self._asyncio, self.loop
        task, thread, ready = asyncio.current_task(loop), loop._thread_id, len(loop._ready)
        if task is not None:
            asyncio.tasks._leave_task(loop, task)
        asyncio._set_running_loop(None)
        loop._thread_id = None
        self._go_on_elsewhere()
        try:
            yield
        finally:
            self._take_back()
            loop._thread_id = thread
            asyncio._set_running_loop(loop)
            if task is not None:
                asyncio.tasks._enter_task(loop, task)
            while len(loop._ready) < ready:  # this thread has yet to run so many callbacks at most
                loop.call_soon(_nothing)
            with self._lock:
                if self._coming_back or self._closing:
                    loop.stop()

    def _take_back(self) -> None:
        mine = threading.Event()
        with self._lock:
            self._coming_back.append(mine)
        self.loop.call_soon_threadsafe(self.loop.stop)
        mine.wait()


_making = threading.Lock()
_shared: _SharedLoop | None = None


def shared_loop() -> asyncio.AbstractEventLoop:
    """The event loop, which some thread runs."""
    global _shared  # noqa: PLW0603 - there is one for the process
    with _making:
        if _shared is None:
            _shared = _SharedLoop()
            atexit.register(_shared.close)
        loop: asyncio.AbstractEventLoop = _shared.loop
        return loop


def _forget_loop() -> None:
    """In a forked process: threads do not survive a fork."""
    global _making, _shared  # noqa: PLW0603 - another thread may have held it
    _making = threading.Lock()
    if _shared is not None:
        atexit.unregister(_shared.close)
    _shared = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_loop)


def off_the_loop[C](cls: type[C]) -> type[C]:
    """Have each public method of a class hand the loop over while it works for an `async def`."""
    for name, method in list(vars(cls).items()):
        if isfunction(method) and not name.startswith("_"):
            setattr(cls, name, _off_the_loop(method))
    return cls


def _off_the_loop(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        shared = _shared
        if shared is None or not shared.runs_here:
            return method(*args, **kwargs)
        with shared.handed_over():
            return method(*args, **kwargs)

    return call


def _nothing() -> None:
    """A callback in the place of one that another thread has run."""
