"""The journeys that this deployment ships, one line each."""

from journeys.journey import Journey
from journeys.retention import Retention

JOURNEYS: tuple[type[Journey], ...] = (
    Retention,
)  # fmt: skip
