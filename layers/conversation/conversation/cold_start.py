"""What a function does before its first event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation import settings

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(*steps: Callable[[], object]) -> None:
    """Do now what the first event would wait for, when this is Lambda; for the end of a function's imports.

        prepare(connect, aws.step_functions)

    Lambda lends a whole core until a function is imported, and the part that its memory pays for from the first
    event on: a seventh of one at 256 MB. Elsewhere nothing happens: whoever imports a function there may have
    neither credentials nor a network. What a step raises ends the import, and Lambda begins anew.
    """
    if settings.is_on_lambda():
        for step in steps:
            step()
