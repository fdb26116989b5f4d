"""Hundreds of journeys at once; the queue delivers twice, late and in any order, four at a time."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import batched
from typing import Any

import pytest

from tests.support.cloud import deployed
from tests.support.journeys import APPROVAL, World, calls, running

ENDINGS = ("approved", "denied", "timed out", "no offer", "cancelled")

# What the IVR reads in the end, by how the journey ended.
TOLD = {
    "approved": "approved",
    "denied": "denied",
    "timed out": "timed out",
    "no offer": "no offer",
    "cancelled": "asked",
}


def ending(number: int) -> str:
    return ENDINGS[number % len(ENDINGS)]


def deliver_badly(world: World, chance: random.Random, pool: ThreadPoolExecutor) -> bool:
    """Deliver what is there: some twice, some later, all in another order, several at a time."""
    records = world.changes()
    chance.shuffle(records)
    world.notify(records + chance.sample(records, len(records) // 3))
    messages: list[Any] = world.messages()
    if not (messages or records):
        return False
    deliveries = messages + chance.sample(messages, len(messages) // 3)
    chance.shuffle(deliveries)
    for done in [pool.submit(copy_context().run, world.deliver_one, message) for message in deliveries]:
        done.result(timeout=60)
    return True


def settle_badly(world: World, chance: random.Random, pool: ThreadPoolExecutor) -> None:
    while deliver_badly(world, chance, pool):
        pass


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.long)])
def test_journeys_at_once_end_right(count: int) -> None:
    chance = random.Random(4)  # noqa: S311 - for a schedule that can be repeated
    with (
        deployed({"LookupDeadlineSeconds": "60"}) as cloud,
        running(cloud) as world,
        calls() as seen,
        ThreadPoolExecutor(4) as pool,
    ):
        names = {f"c{number}": ending(number) for number in range(count)}
        for group in batched(names.items(), 20, strict=True):  # what one minute brings, in any order
            deeds: list[tuple[Any, ...]] = []
            for name, how in group:
                world.begin(name)
                deeds.append((world.identify, name, "standard" if how == "no offer" else "vip"))
                deeds += [(world.start, name), (world.give_reason, name)]
            chance.shuffle(deeds)
            for number, (deed, *arguments) in enumerate(deeds):
                deed(*arguments)
                if number % 20 == 0:
                    deliver_badly(world, chance, pool)
        settle_badly(world, chance, pool)

        def answer(name: str) -> int:
            match names[name]:
                case "approved":
                    return [world.send(name, "approve", APPROVAL, key="k") for _ in range(2)][1].status
                case "denied":
                    return world.send(name, "deny", APPROVAL).status
                case "cancelled":
                    return world.cancel(name).status
                case _:
                    return 200

        shuffled = chance.sample(list(names), count)
        statuses = Counter(pool.map(lambda name: copy_context().run(answer, name), shuffled))
        assert statuses == {200: count}
        settle_badly(world, chance, pool)
        world.settle(700)

        endings = {name: (found := world.get(name))["result"] or found["status"].lower() for name in names}
        assert endings == names
        told = {name: world.attributes(name).get("retention") for name in names}
        assert told == {name: TOLD[how] for name, how in names.items()}
        assert [commit for commit, count in Counter(seen.commits).items() if count > 1] == []
        versions = Counter(workflow_id for workflow_id, _ in seen.commits)
        assert max(versions.values()) <= 12, "a journey was written again and again"
