"""Find the workflows whose wake-up was lost: by a crash between a commit and its message, or by the queue."""

from __future__ import annotations

import time
from functools import cache
from itertools import batched
from typing import TYPE_CHECKING, NamedTuple, Self

from stepmark import StoreUnavailable
from stepmark.dynamodb import SHARDS, DynamoDBStore

from conversation import aws
from conversation.errors import InvalidRequest, TemporarilyUnavailable
from conversation.observability import count, logger
from journeys.queue import BATCH, BATCH_SECONDS, QueueUnavailable, send
from journeys.settings import SweepSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

OVERDUE_SECONDS = 30  # the queue has that long before a wake-up counts as lost
MAX_OVERDUE = 1_000
# What is not begun any more with less time than that: a page of the index and a batch, each at its slowest.
RESERVED_SECONDS = aws.CALL_SECONDS + BATCH_SECONDS + 1


class TimeIsOver(TemporarilyUnavailable):
    """The function would end before the next page or batch."""


class _Place(NamedTuple):
    """How far all journeys have looked: those of the shards before, and of this one up to that id."""

    shard: int = 0
    last: str = ""

    @classmethod
    def of(cls, text: str) -> Self:
        shard, colon, last = text.partition(":")
        if not text:
            return cls()
        if not (colon and shard.isdecimal() and int(shard) < SHARDS):
            raise InvalidRequest("`after` must be that of the last answer, as it stands")
        return cls(int(shard), last)

    def __str__(self) -> str:
        return f"{self.shard}:{self.last}"


def sweep() -> int:
    """Wake up what should have run half a minute ago, and say how many workflows that were."""
    overdue = _store().due(time.time() - OVERDUE_SECONDS, MAX_OVERDUE)
    send({"workflowId": workflow_id, "dueAt": 0} for workflow_id in overdue)
    if overdue:
        count("JourneyOverdue", len(overdue))
    return len(overdue)


def look_at_all(after: str, seconds_left: Callable[[], float]) -> tuple[int, str | None]:
    """Have live workflows look at their conversations, after the stream has lost something.

        woken, after = look_at_all("", lambda: 60)
        woken, after = look_at_all(after, lambda: 60)   # until `after` is None

    Goes on until all have been told to, or until 19 seconds are left. Returns how many were told, and where
    to go on: always beyond where it began. Who goes on there tells none twice but those of a batch that
    failed, and leaves out none that was live all the time. Raises InvalidRequest for an `after` that no
    answer had, and, when it did not get on at all, QueueUnavailable, stepmark's StoreUnavailable, TimeIsOver.
    """
    begin = place = _Place.of(after)
    woken = 0
    try:
        for shard in range(begin.shard, SHARDS):
            place = _Place(shard, begin.last if shard == begin.shard else "")
            ids = _while_there_is_time(_store().open_ids(shard), seconds_left)
            live = sorted(workflow_id for workflow_id in ids if workflow_id > place.last)
            for some in _while_there_is_time(batched(live, BATCH, strict=False), seconds_left):
                send({"workflowId": workflow_id, "look": 1} for workflow_id in some)
                woken += len(some)
                place = _Place(shard, some[-1])
    except (QueueUnavailable, StoreUnavailable, TimeIsOver) as error:
        if place == begin:
            raise
        logger.warning("not all journeys have looked", journeys=woken, reason=type(error).__name__)
        return woken, str(place)
    return woken, None


def _while_there_is_time[Part](parts: Iterable[Part], seconds_left: Callable[[], float]) -> Iterator[Part]:
    """Take the parts one by one, each of which may cost a call. Raises TimeIsOver before one that is late."""
    parts = iter(parts)
    while True:
        if seconds_left() < RESERVED_SECONDS:
            raise TimeIsOver("there is no time left to read a page of journeys: try again later")
        try:
            part = next(parts)
        except StopIteration:
            return
        yield part


@cache
def _store() -> DynamoDBStore:
    return DynamoDBStore(SweepSettings.from_environment().table_name, aws.dynamodb())
