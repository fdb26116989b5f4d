"""The deployed stack of the end-to-end tests, for loads that take minutes."""

from tests.e2e.conftest import companies, ivr, stack, system

__all__ = ["companies", "ivr", "stack", "system"]
