"""What the template hands to the functions through their environment; nothing else reads `os.environ`."""

import os
from dataclasses import dataclass
from typing import Self

from conversation.errors import ConfigurationError


def _text(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise ConfigurationError(f"set the environment variable {name}")
    return value


def _seconds(name: str) -> int:
    value = _text(name)
    if not value.isdecimal() or int(value) == 0:
        raise ConfigurationError(f"the environment variable {name} must be a whole number above zero")
    return int(value)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where conversations are kept."""

    table_name: str

    @classmethod
    def from_environment(cls) -> Self:
        """Read CONVERSATION_TABLE."""
        return cls(table_name=_text("CONVERSATION_TABLE"))


@dataclass(frozen=True, slots=True)
class StartSettings:
    """How an identification starts, whom it asks, how long it may take and how long it is kept."""

    state_machine_arn: str
    sources: tuple[str, ...]
    deadline_seconds: int
    retention_hours: int
    default_region: str

    @classmethod
    def from_environment(cls) -> Self:
        """Read STATE_MACHINE_ARN, SOURCES, LOOKUP_DEADLINE_SECONDS, RETENTION_HOURS and DEFAULT_REGION."""
        return cls(
            state_machine_arn=_text("STATE_MACHINE_ARN"),
            sources=tuple(_text("SOURCES").split(",")),
            deadline_seconds=_seconds("LOOKUP_DEADLINE_SECONDS"),
            retention_hours=_seconds("RETENTION_HOURS"),
            default_region=_text("DEFAULT_REGION"),
        )


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Where one company's service is and which secret opens it."""

    base_url: str
    secret_id: str

    @classmethod
    def from_environment(cls) -> Self:
        """Read SOURCE_URL and SOURCE_SECRET."""
        return cls(base_url=_text("SOURCE_URL").rstrip("/"), secret_id=_text("SOURCE_SECRET"))
