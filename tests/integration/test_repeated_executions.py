"""Express runs an execution at least once: two of them leave what one would have left."""

import itertools
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversation import timestamps
from conversation.errors import SourceUnavailable
from tests.support.cloud import SOURCES, Cloud, identity, knows, knows_nobody
from tests.support.machine import Machine

OUTCOMES = ("MATCH", "NO_MATCH", "UNAVAILABLE")
PATIENCE = 20


def cannot_answer(_event: Mapping[str, str]) -> Mapping[str, object]:
    raise SourceUnavailable("as told")


@pytest.mark.parametrize("outcomes", list(itertools.product(OUTCOMES, repeat=3)), ids="-".join)
def test_twice_at_the_same_time_is_as_once(outcomes: tuple[str, str, str], cloud: Cloud) -> None:
    """All six lookups of the two executions answer at the same moment."""
    all_asked = threading.Barrier(6)

    def answer(source: str, outcome: str, event: Mapping[str, str]) -> Mapping[str, object]:
        all_asked.wait(PATIENCE)
        lookup = {"MATCH": knows(source), "NO_MATCH": knows_nobody, "UNAVAILABLE": cannot_answer}[outcome]
        return lookup(event)

    for source, outcome in zip(SOURCES, outcomes, strict=True):
        cloud.lookups[source] = lambda event, source=source, outcome=outcome: answer(source, outcome, event)  # type: ignore[misc]
    cloud.start("6c5c")
    [execution] = cloud.executions()
    cloud.execute_again(execution)
    cloud.wait_for_executions()
    document = cloud.read("6c5c").body
    matches = {source for source, outcome in zip(SOURCES, outcomes, strict=True) if outcome == "MATCH"}
    assert document["sources"] == dict(zip(SOURCES, outcomes, strict=True))
    if matches:
        assert document["status"] == "SUCCESS"
        assert document["identity"]["source"] in matches
        assert set(document["otherMatches"]) == matches - {document["identity"]["source"]}
    else:
        assert document["status"] == ("FAILED" if "UNAVAILABLE" in outcomes else "NOT_FOUND")
        assert document["otherMatches"] == {}


def test_a_repetition_after_the_end_changes_nothing_at_all(cloud: Cloud) -> None:
    cloud.lookups.update(alpha=knows_nobody, beta=cannot_answer, gamma=knows("gamma"))
    cloud.start("6c5c")
    cloud.wait_for_executions()
    before = cloud.item("6c5c")
    cloud.execute_again(cloud.executions()[0])
    cloud.wait_for_executions()
    assert cloud.item("6c5c") == before


def run(
    machine: Machine, conversation_id: str, outcomes: Mapping[str, str], now: datetime
) -> list[Iterator[None]]:
    """One execution as three branches and its end, each a series of writes that a test interleaves."""
    ended: set[str] = set()

    def branch(source: str) -> Iterator[None]:
        if outcomes[source] == "MATCH":
            counts = machine.identify(conversation_id, identity(source), now)
            yield
            if not counts:
                machine.keep(conversation_id, identity(source), now)
        else:
            machine.record(conversation_id, source, outcomes[source], now)
        ended.add(source)
        yield

    def end() -> Iterator[None]:
        while ended != set(SOURCES):
            yield
        if "MATCH" not in outcomes.values():
            conclusion = "FAILED" if "UNAVAILABLE" in outcomes.values() else "NOT_FOUND"
            machine.conclude(conversation_id, conclusion, now)
            yield

    return [*(branch(source) for source in SOURCES), end()]


ANSWERS = st.fixed_dictionaries(dict.fromkeys(SOURCES, st.sampled_from(OUTCOMES)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(first=ANSWERS, second=ANSWERS, readers=st.integers(0, 2), data=st.data())
def test_any_order_of_two_executions_and_of_readers_past_the_deadline(
    first: dict[str, str], second: dict[str, str], readers: int, machine: Machine, data: st.DataObject
) -> None:
    """Also when a company answers the second execution otherwise than the first."""
    cloud = machine.cloud
    conversation_id = f"c{len(cloud.executions())}"
    cloud.start(conversation_id)
    now = timestamps.now()
    told: list[str] = []

    def reader() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cloud, "clock", lambda: now + timedelta(seconds=10))
            told.append(cloud.read(conversation_id).body["status"])
        yield

    running = [
        *run(machine, conversation_id, first, now),
        *run(machine, conversation_id, second, now),
        *(reader() for _ in range(readers)),
    ]
    while running:
        chosen = data.draw(st.sampled_from(running))
        if next(chosen, "ended") == "ended":
            running.remove(chosen)
    document = cloud.read(conversation_id).body
    status, matches = (
        document["status"],
        {s for s, answer in document["sources"].items() if answer == "MATCH"},
    )
    counted = {document["identity"]["source"]} if document["identity"] else set()
    assert status != "ONGOING"
    assert set(told) <= {status}, "a reader was told another final status"
    assert bool(counted) == (status == "SUCCESS")
    assert "PENDING" not in document["sources"].values()
    assert matches == {s for s in SOURCES if "MATCH" in {first[s], second[s]}}
    assert counted | set(document["otherMatches"]) == matches
    assert counted.isdisjoint(document["otherMatches"])
    for source in set(SOURCES) - matches:
        assert document["sources"][source] in {first[source], second[source]}
