"""What the template hands to the functions through their environment; nothing else reads `os.environ`."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, Self

from conversation.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

# On Lambda each function has a process of its own. Functions that share one each run in their own context.
environment: ContextVar[Mapping[str, str]] = ContextVar("environment", default=os.environ)


def text(name: str) -> str:
    """Read a variable. Raises ConfigurationError when it is missing or empty."""
    value = optional_text(name)
    if not value:
        raise ConfigurationError(f"set the environment variable {name}")
    return value


def optional_text(name: str) -> str:
    """Read a variable; empty when it is missing."""
    return environment.get().get(name, "")


def whole_number(name: str) -> int:
    """Read a variable that is a whole number above zero. Raises ConfigurationError when it is not."""
    value = text(name)
    if not value.isdecimal() or int(value) == 0:
        raise ConfigurationError(f"the environment variable {name} must be a whole number above zero")
    return int(value)


def is_on_lambda() -> bool:
    """Tell whether this is an execution environment of Lambda, which says in a variable how it was begun."""
    return bool(optional_text("AWS_LAMBDA_INITIALIZATION_TYPE"))


class StoreSettings(NamedTuple):
    """Where conversations are kept."""

    table_name: str

    @classmethod
    def from_environment(cls) -> Self:
        """Read CONVERSATION_TABLE."""
        return cls(table_name=text("CONVERSATION_TABLE"))


class StartSettings(NamedTuple):
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
            state_machine_arn=text("STATE_MACHINE_ARN"),
            sources=tuple(text("SOURCES").split(",")),
            deadline_seconds=whole_number("LOOKUP_DEADLINE_SECONDS"),
            retention_hours=whole_number("RETENTION_HOURS"),
            default_region=text("DEFAULT_REGION"),
        )


def source() -> str:
    """Read SOURCE, the company that a lookup function asks. Raises ConfigurationError when it is missing."""
    return text("SOURCE")


class SourceSettings(NamedTuple):
    """Where one company's service is, which secret opens it, and where its token is shared; "": nowhere."""

    base_url: str
    secret_id: str
    token_table: str = ""

    @classmethod
    def from_environment(cls) -> Self:
        """Read SOURCE_URL, SOURCE_SECRET and, where a company has tokens, TOKEN_TABLE."""
        return cls(
            base_url=text("SOURCE_URL").rstrip("/"),
            secret_id=text("SOURCE_SECRET"),
            token_table=optional_text("TOKEN_TABLE"),
        )
