"""A lookup that Lambda turns away is a company that could not answer; the other two and the caller go on."""

import itertools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from tests.support.cloud import CALLER, SOURCES, Cloud, Lookup, knows, knows_nobody, wait_until
from tests.support.simulated_aws import Throttled

# One retry after a second is all that a throttled lookup costs.
IN_TIME_MS = 4_000
PLACES = 2


@dataclass
class Turnstile:
    """A function that turns away the first `times` calls, then answers as `lookup` does."""

    lookup: Lookup
    times: int | None = None
    calls: list[str] = field(default_factory=list)

    def __call__(self, event: Mapping[str, str]) -> Mapping[str, object]:
        self.calls.append(event["conversationId"])
        if self.times is None or len(self.calls) <= self.times:
            raise Throttled
        return self.lookup(event)


@pytest.mark.parametrize("throttled", SOURCES)
@pytest.mark.parametrize("outcomes", list(itertools.product(["MATCH", "NO_MATCH"], repeat=2)), ids="-".join)
def test_one_company_alone_is_unavailable(throttled: str, outcomes: tuple[str, str], cloud: Cloud) -> None:
    others = dict(zip((source for source in SOURCES if source != throttled), outcomes, strict=True))
    for source, outcome in others.items():
        cloud.lookups[source] = knows(source) if outcome == "MATCH" else knows_nobody
    turnstile = Turnstile(knows(throttled))
    cloud.lookups[throttled] = turnstile
    assert cloud.start("6c5c").status == 202
    concluded = cloud.wait_for_end("6c5c")
    cloud.wait_for_executions()
    document = cloud.read("6c5c").body
    assert document["sources"] == {**others, throttled: "UNAVAILABLE"}
    assert document["status"] == ("SUCCESS" if "MATCH" in outcomes else "FAILED")
    assert concluded["elapsedMs"] < IN_TIME_MS
    assert turnstile.calls == ["6c5c"] * 2
    assert [one.exec_status for one in cloud.executions()] == ["SUCCEEDED"]


def test_a_place_that_becomes_free_within_a_second_is_as_good(cloud: Cloud) -> None:
    cloud.lookups.update(alpha=knows_nobody, beta=knows_nobody, gamma=Turnstile(knows("gamma"), times=1))
    cloud.start("6c5c")
    document = cloud.wait_for_end("6c5c")
    assert document["status"] == "SUCCESS"
    assert document["sources"]["gamma"] == "MATCH"
    assert document["elapsedMs"] < IN_TIME_MS


def test_all_three_turned_away_is_a_failure_in_time(cloud: Cloud) -> None:
    cloud.lookups.update({source: Turnstile(knows(source)) for source in SOURCES})
    cloud.start("6c5c")
    document = cloud.wait_for_end("6c5c")
    assert document["status"] == "FAILED"
    assert document["sources"] == dict.fromkeys(SOURCES, "UNAVAILABLE")
    assert document["elapsedMs"] < IN_TIME_MS


@dataclass
class Bulkhead:
    """A function of which `places` run at once, hanging until `let_go` is set; the others are turned away."""

    places: threading.Semaphore
    let_go: threading.Event = field(default_factory=threading.Event)

    def __call__(self, _event: Mapping[str, str]) -> Mapping[str, object]:
        if not self.places.acquire(blocking=False):
            raise Throttled
        try:
            self.let_go.wait(30)
        finally:
            self.places.release()
        return {"outcome": "NO_MATCH"}


@pytest.fixture
def hanging() -> Iterator[Bulkhead]:
    bulkhead = Bulkhead(threading.Semaphore(PLACES))
    yield bulkhead
    bulkhead.let_go.set()


def test_a_company_that_hangs_fills_its_own_places_and_nobody_elses(cloud: Cloud, hanging: Bulkhead) -> None:
    cloud.lookups.update(alpha=hanging, beta=knows_nobody, gamma=knows("gamma"))
    calls = [f"call-{number}" for number in range(8)]
    assert {cloud.start(call, CALLER).status for call in calls} == {202}
    for call in calls:
        document = cloud.wait_for_end(call)
        assert document["status"] == "SUCCESS"
        assert document["identity"]["source"] == "gamma"
        assert document["elapsedMs"] < IN_TIME_MS
    turned_away = len(calls) - PLACES

    def unavailable() -> int:
        return sum(cloud.read(call).body["sources"]["alpha"] == "UNAVAILABLE" for call in calls)

    wait_until(lambda: unavailable() == turned_away)
    hanging.let_go.set()
    cloud.wait_for_executions()
    answers = [cloud.read(call).body["sources"] for call in calls]
    assert {answer["beta"] for answer in answers} == {"NO_MATCH"}
    assert {answer["gamma"] for answer in answers} == {"MATCH"}
    assert (
        sorted(answer["alpha"] for answer in answers) == ["NO_MATCH"] * PLACES + ["UNAVAILABLE"] * turned_away
    )
