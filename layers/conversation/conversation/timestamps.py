"""Times as they are stored and shown: UTC, milliseconds, always 24 characters, so that they sort as text."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def _system_time() -> datetime:
    return datetime.now(UTC)


# What tells the time, in UTC.
clock: ContextVar[Callable[[], datetime]] = ContextVar("clock", default=_system_time)


def now() -> datetime:
    """Tell the time, in UTC."""
    return clock.get()()


def to_text(moment: datetime) -> str:
    """Write a moment as `2026-11-21T19:34:01.123Z`, the format of Step Functions' own timestamps."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_text(text: str) -> datetime:
    """Read any ISO 8601 moment that carries its offset."""
    return datetime.fromisoformat(text)
