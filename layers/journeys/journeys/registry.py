"""The journeys that this deployment ships, one line each: module:class."""

from pkgutil import resolve_name

from journeys.journey import Journey

_NAMES = (
    "journeys.retention:Retention",
)  # fmt: skip

JOURNEYS: tuple[type[Journey], ...] = tuple(map(resolve_name, _NAMES))
