"""What a function does before its first event, on Lambda.

Lambda lends a whole core until a function is imported, and the part that its memory pays for from the first
event on: a seventh of one at 256 MB. Elsewhere nothing happens here: who imports a function there may have
neither credentials nor a network.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from conversation import settings

if TYPE_CHECKING:
    from collections.abc import Callable


def begin() -> None:
    """Leave garbage where it is while modules are imported: to look for it takes a twentieth of the time."""
    if settings.is_on_lambda():
        gc.disable()


def connect() -> None:
    """Make the connection to the conversations' table that the first call would wait for."""
    from conversation import aws  # noqa: PLC0415 - who imports this package need not need botocore

    aws.connect(aws.dynamodb(), settings.StoreSettings.from_environment().table_name, "conversationId")


def prepare(*steps: Callable[[], object]) -> None:
    """Do now what the first event would wait for; to be called once, after a function's imports.

        prepare(connect, aws.step_functions)

    What a step raises ends the import, and Lambda begins anew.
    """
    if not settings.is_on_lambda():
        return
    for step in steps:
        step()
    # What is there by now stays; no later look for garbage has to go through it.
    gc.freeze()
    gc.enable()
