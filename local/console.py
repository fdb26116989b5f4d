"""How the local commands talk to the person who runs them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

_WIDTH = 100

console = Console(highlight=False, emoji=False)
if console.width > _WIDTH or not console.is_terminal:
    console = Console(highlight=False, emoji=False, width=_WIDTH)


def heading(text: str) -> None:
    """A line that starts a part of the output."""
    console.print()
    console.rule(f"[bold]{text}", align="left", style="dim")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done while it lasts, and then how long it took."""
    started = time.monotonic()
    if console.is_terminal:
        with console.status(f"{what} …"):
            yield
        console.print(f"  {what}", end=" ")
    else:
        console.print(f"  {what} …", end=" ")
        yield
    console.print(f"[dim]{time.monotonic() - started:.1f} s")
