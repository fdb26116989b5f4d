"""The first match counts at once, while the other companies are still being asked."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from conversation import timestamps
from tests.support.cloud import SOURCES, Cloud, Lookup, deployed, knows, knows_nobody, wait_until

PATIENCE = 20


class Gates:
    """Lookups that answer when the test says so."""

    def __init__(self) -> None:
        self.asked = {source: threading.Event() for source in SOURCES}
        self.open = {source: threading.Event() for source in SOURCES}

    def hold(self, source: str, lookup: Lookup) -> Lookup:
        def answer(event: Mapping[str, str]) -> Mapping[str, object]:
            self.asked[source].set()
            assert self.open[source].wait(PATIENCE), "the test never opened the gate"
            return lookup(event)

        return answer


@pytest.fixture
def gates() -> Iterator[Gates]:
    gates = Gates()
    yield gates
    for gate in gates.open.values():
        gate.set()


def test_all_three_are_asked_side_by_side(cloud: Cloud, gates: Gates) -> None:
    cloud.lookups.update({source: gates.hold(source, knows_nobody) for source in SOURCES})
    cloud.start("6c5c")
    for source in SOURCES:
        assert gates.asked[source].wait(PATIENCE), f"{source} was not asked while the others were"
    assert cloud.read("6c5c").body["status"] == "ONGOING"


@pytest.mark.parametrize("first", SOURCES)
def test_the_first_match_is_seen_while_the_others_are_still_being_asked(
    first: str, cloud: Cloud, gates: Gates
) -> None:
    cloud.lookups.update({source: gates.hold(source, knows(source)) for source in SOURCES})
    cloud.start("6c5c")
    gates.open[first].set()
    document = cloud.wait_for_end("6c5c")
    assert document["status"] == "SUCCESS"
    assert document["identity"]["source"] == first
    assert document["sources"] == {source: "MATCH" if source == first else "PENDING" for source in SOURCES}
    assert document["otherMatches"] == {}


@pytest.mark.parametrize("first", SOURCES)
@pytest.mark.parametrize("later", [knows, lambda _source: knows_nobody], ids=["other matches", "no match"])
def test_what_comes_later_changes_neither_status_nor_identity(
    first: str, later: Callable[[str], Lookup], cloud: Cloud, gates: Gates
) -> None:
    others = [source for source in SOURCES if source != first]
    cloud.lookups[first] = gates.hold(first, knows(first))
    cloud.lookups.update({source: gates.hold(source, later(source)) for source in others})
    cloud.start("6c5c")
    gates.open[first].set()
    before = cloud.wait_for_end("6c5c")
    for source in others:
        gates.open[source].set()
    cloud.wait_for_executions()
    after = cloud.read("6c5c").body
    kept = ("status", "identity", "startedAt", "deadlineAt", "elapsedMs")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    matched = later is knows
    assert after["sources"] == {
        source: "MATCH" if source == first or matched else "NO_MATCH" for source in SOURCES
    }
    assert set(after["otherMatches"]) == (set(others) if matched else set())


def test_both_sides_write_while_the_work_runs_and_neither_undoes_the_other(
    cloud: Cloud, gates: Gates, threads: ThreadPoolExecutor
) -> None:
    cloud.lookups.update({source: gates.hold(source, knows(source)) for source in SOURCES})
    cloud.start("6c5c", attributes={"a0": "old"})
    changes = [{f"a{index}": "new"} for index in range(30)]
    written = [threads.submit(cloud.set_attributes, "6c5c", change) for change in changes[:15]]
    for gate in gates.open.values():
        gate.set()
    written += [threads.submit(cloud.set_attributes, "6c5c", change) for change in changes[15:]]
    assert {answer.result().status for answer in written} == {200}
    cloud.wait_for_executions()
    document = cloud.read("6c5c").body
    assert document["attributes"] == {f"a{index}": "new" for index in range(30)}
    assert document["status"] == "SUCCESS"
    assert document["sources"] == dict.fromkeys(SOURCES, "MATCH")


def test_who_waits_is_answered_when_the_match_comes(cloud: Cloud, gates: Gates) -> None:
    cloud.lookups.update(alpha=gates.hold("alpha", knows_nobody), beta=gates.hold("beta", knows("beta")))
    cloud.lookups["gamma"] = gates.hold("gamma", knows_nobody)
    cloud.start("6c5c")
    assert gates.asked["beta"].wait(PATIENCE)
    opener = threading.Timer(0.3, gates.open["beta"].set)
    opener.start()
    try:
        # Alpha and gamma answer after the test only: nothing but the match can end this wait before 8 s.
        assert cloud.read("6c5c", wait="8").body["status"] == "SUCCESS"
        assert not gates.open["alpha"].is_set()
    finally:
        opener.join()


def test_who_waits_in_vain_gets_the_document_as_it_stands(cloud: Cloud, gates: Gates) -> None:
    cloud.lookups.update({source: gates.hold(source, knows_nobody) for source in SOURCES})
    cloud.start("6c5c")
    answer = cloud.read("6c5c", wait="1")
    assert answer.status == 200
    assert answer.body["status"] == "ONGOING"
    assert answer.body["elapsedMs"] >= 1_000


def test_who_waits_over_the_deadline_hears_of_it_then(gates: Gates) -> None:
    with deployed({"LookupDeadlineSeconds": "1"}) as cloud:
        cloud.lookups.update({source: gates.hold(source, knows_nobody) for source in SOURCES})
        cloud.start("6c5c")
        document = cloud.read("6c5c", wait="20").body
        for gate in gates.open.values():
            gate.set()
    assert document["status"] == "TIMED_OUT"
    assert document["elapsedMs"] == 1_000


def test_a_match_after_the_deadline_is_kept_beside_a_status_that_stays(gates: Gates) -> None:
    with deployed({"LookupDeadlineSeconds": "1"}) as cloud:
        cloud.lookups.update({source: gates.hold(source, knows(source)) for source in SOURCES})
        cloud.start("6c5c")
        before = cloud.wait_for_end("6c5c")
        assert before["status"] == "TIMED_OUT"
        assert before["elapsedMs"] == 1_000
        for gate in gates.open.values():
            gate.set()
        cloud.wait_for_executions()
        after = cloud.read("6c5c").body
    assert after["status"] == "TIMED_OUT"
    assert after["identity"] is None
    assert after["elapsedMs"] == 1_000
    assert set(after["otherMatches"]) == set(SOURCES)
    assert after["sources"] == dict.fromkeys(SOURCES, "MATCH")


def test_a_match_after_the_deadline_does_not_count_even_if_nobody_has_read_yet(gates: Gates) -> None:
    with deployed({"LookupDeadlineSeconds": "1"}) as cloud:
        cloud.lookups.update({source: gates.hold(source, knows(source)) for source in SOURCES})
        deadline = timestamps.from_text(cloud.start("6c5c").body["deadlineAt"])
        wait_until(lambda: timestamps.now() > deadline)
        for gate in gates.open.values():
            gate.set()
        cloud.wait_for_executions()
        item = cloud.item("6c5c")
        assert item is not None
        assert item["status"] == {"S": "ONGOING"}
        assert set(item["otherMatches"]["M"]) == set(SOURCES)
        assert cloud.read("6c5c").body["status"] == "TIMED_OUT"
