"""Idempotency keys: no two of anything share one, and those that workflows have already used stay."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from stepmark import Go, Section, Step, Workflow, current
from stepmark.core.keys import key_of
from stepmark.testing import LocalEngine

KEYS: list[str] = []


@dataclass
class Shop(Workflow):
    within: bool = False

    def definition(self) -> Section:
        step = Step("note", self.note)
        return Section(Go("a/main", step) if self.within else step)

    def note(self) -> None:
        KEYS.append(current().idempotency_key)


def test_a_workflow_and_another_ones_thread_have_different_keys() -> None:
    KEYS.clear()
    engine = LocalEngine(Shop)
    engine.start(Shop(within=True), "shop")
    engine.start(Shop(), "shop/a")
    assert len(set(KEYS)) == 2


def test_keys_that_can_be_read_in_one_way_are_those_of_earlier_releases() -> None:
    assert key_of("request-7", "main", 3) == "request-7/main/3"
    assert key_of("shop/a", "main", 3) == "shop/a/main/3"
    assert key_of("w", "per[b]", 12) == "w/per[b]/12"
    assert key_of("w", "main", 3, "paid", "") == "w/main/3/paid"
    assert key_of("w", "main", 3, "answer", "click-1") == "w/main/3/answer/click-1"
    assert key_of("w", "main", 3, "answer", "17") == "w/main/3/answer/17"
    assert key_of("w", "main", 3, "task", "", "setup") == "w/main/3/task/setup"


PARTS = ["a", "a/b", "main", "5", "5/main", "a|b", "a%2Fb", "setup", "a/5", ""]


def everything() -> list[tuple[Any, ...]]:
    named = [part for part in PARTS if part]
    found: list[tuple[Any, ...]] = []
    for workflow_id, thread, since in product(named, named, (1, 5)):
        found.append((workflow_id, thread, since))
        for event, more in product(named, PARTS):
            found.append((workflow_id, thread, since, event, more))
        found += [(workflow_id, thread, since, e, "", own) for e in named for own in ("setup", "look")]
    return found


def test_no_two_of_anything_share_a_key() -> None:
    of_key: dict[str, tuple[Any, ...]] = {}
    for parts in everything():
        assert of_key.setdefault(key_of(*parts), parts) == parts


SOME = st.text(st.sampled_from("a/|%5"), min_size=1, max_size=5)
PURPOSE = st.one_of(
    st.just(()),
    st.tuples(SOME, st.just("") | SOME | st.just("setup")),
    st.tuples(SOME, st.just(""), st.sampled_from(("setup", "look"))),
)
THING = st.tuples(SOME, SOME, st.integers(1, 60), PURPOSE)


@given(THING, THING)
def test_whatever_their_parts_hold(one: Any, other: Any) -> None:
    first, second = key_of(*one[:3], *one[3]), key_of(*other[:3], *other[3])
    assert (first == second) == (one == other)
