"""Whether what ends a step is the process's own end, which is nothing that the step has done."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Interrupts:
    """Notes whether Ctrl-C has interrupted this call, as nothing in a KeyboardInterrupt tells who raised it.

    with interrupts.noted(): ...
    """

    def __init__(self) -> None:
        self.seen = False

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note it for the length of a `with` block: in the main thread, where signals arrive.

        A program that handles SIGINT itself is left alone, as asyncio does.
        """
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGINT) == self._interrupt:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def _interrupt(self, *_: object) -> None:
        self.seen = True
        raise KeyboardInterrupt


def is_ending() -> bool:
    """Whether the interpreter ends: what a step needs of it, such as a pool of threads, is gone then."""
    return sys.is_finalizing() or not threading.main_thread().is_alive()
