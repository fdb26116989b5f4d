"""Reader and state machine race for the final status at the deadline: one wins, and all readers agree."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest

from conversation import aws, timestamps
from tests.support.clock import Clock
from tests.support.cloud import Answer, Cloud, identity
from tests.support.faults import at
from tests.support.machine import Machine

FINAL = {"SUCCESS", "NOT_FOUND", "FAILED", "TIMED_OUT"}
WRITES = ("SUCCESS", "NOT_FOUND", "FAILED")
PLACES = ("before the read", "between the read and the write", "after the write")


@pytest.fixture(autouse=True)
def _started(cloud: Cloud, machine: Machine) -> None:
    assert machine.cloud is cloud
    cloud.start("6c5c")


def write(machine: Machine, status: str, entered_ms: int) -> bool:
    """The state machine's write, entered so many milliseconds after the deadline."""
    item = machine.cloud.item("6c5c")
    assert item is not None
    now = timestamps.from_text(item["deadlineAt"]["S"]) + timedelta(milliseconds=entered_ms)
    if status == "SUCCESS":
        return machine.identify("6c5c", identity("gamma"), now)
    return machine.conclude("6c5c", status, now)


@contextmanager
def happening(place: str, action: Callable[[], object]) -> Iterator[None]:
    """Let the action happen at that place of the reader's work in the `with` block."""
    match place:
        case "before the read":
            action()
            yield
        case "between the read and the write":
            with at(aws.dynamodb(), "UpdateItem", "before", action):
                yield
        case _:
            with at(aws.dynamodb(), "UpdateItem", "after", action):
                yield


@pytest.mark.parametrize("status", WRITES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("entered_ms", [-1, 0, 1])
@pytest.mark.parametrize("route", ["read", "start", "set_attributes"])
def test_one_writer_against_one_reader(
    *, status: str, place: str, entered_ms: int, route: str, cloud: Cloud, machine: Machine, clock: Clock
) -> None:
    routes: dict[str, Callable[[], Answer]] = {
        "read": lambda: cloud.read("6c5c"),
        "start": lambda: cloud.start("6c5c"),
        "set_attributes": lambda: cloud.set_attributes("6c5c", {}),
    }
    clock.advance(10)
    with happening(place, lambda: write(machine, status, entered_ms)):
        seen = routes[route]().body
    in_time = entered_ms < 0 and place != "after the write"
    assert seen["status"] == (status if in_time else "TIMED_OUT")
    for _ in range(2):
        assert cloud.read("6c5c").body["status"] == seen["status"]
    assert (seen["identity"] is not None) == (seen["status"] == "SUCCESS")


STEPS = ("alpha matches", "beta matches", "conclude", "read")


@pytest.mark.parametrize("order", list(itertools.permutations(STEPS)), ids=" - ".join)
@pytest.mark.parametrize("interrupted", [False, True], ids=["one after another", "within the reader"])
def test_every_order_of_two_matches_a_conclusion_and_a_reader(
    order: tuple[str, ...], *, interrupted: bool, cloud: Cloud, machine: Machine, clock: Clock
) -> None:
    """Entered in time, written around the deadline: what a reader was told first stays true.

    Within the reader: what follows the read in that order happens between its read and its write.
    """
    entered = clock.now()
    clock.advance(10)
    told: list[str] = []

    def run(steps: tuple[str, ...]) -> None:
        for step in steps:
            if step == "conclude":
                machine.conclude("6c5c", "FAILED", entered)
            else:
                machine.match("6c5c", identity(step.partition(" ")[0]), entered)

    place = order.index("read")
    run(order[:place])
    rest = order[place + 1 :]
    if interrupted:
        with at(aws.dynamodb(), "UpdateItem", "before", lambda: run(rest)) as happened:
            told.append(cloud.read("6c5c").body["status"])
        if not happened.count:  # the reader found a final status and had nothing to write
            run(rest)
    else:
        told.append(cloud.read("6c5c").body["status"])
        run(rest)
    final = cloud.read("6c5c").body
    assert told == [final["status"]]
    assert final["status"] in FINAL
    matches = {source for source in ("alpha", "beta") if final["sources"][source] == "MATCH"}
    counted = {final["identity"]["source"]} if final["identity"] else set()
    assert counted | set(final["otherMatches"]) == matches == {"alpha", "beta"}
    assert counted.isdisjoint(final["otherMatches"])
    assert bool(counted) == (final["status"] == "SUCCESS")


def test_many_readers_and_the_state_machine_agree(
    cloud: Cloud, machine: Machine, clock: Clock, threads: ThreadPoolExecutor
) -> None:
    """The same race, left to the threads: sixty conversations, four readers and a writer each."""
    ids = [f"race-{index}" for index in range(60)]
    list(threads.map(cloud.start, ids))
    entered = clock.now()
    clock.advance(10)
    readers = [threads.submit(cloud.read, one) for one in ids for _ in range(2)]
    writers = [threads.submit(machine.conclude, one, "NOT_FOUND", entered) for one in ids]
    readers += [threads.submit(cloud.read, one) for one in ids for _ in range(2)]
    won = {one: writer.result() for one, writer in zip(ids, writers, strict=True)}
    for reader in readers:
        document = reader.result().body
        assert document["status"] == ("NOT_FOUND" if won[document["conversationId"]] else "TIMED_OUT")
