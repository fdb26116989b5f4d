"""Every combination of what three companies can do, 11 x 11 x 11, in three levels.

1. Each behaviour of each company, 33 in all, is real: the real lookup function asks the demo company over
   HTTP. What it answers or raises is noted.
2. All 1,331 combinations go through the real handlers of the API and the real state machine; the lookup
   functions are replaced by what level 1 noted, with each caller's own identity.
3. 121 of them, among which each pair of behaviours of each two companies occurs, go through all of it for
   real: handlers, state machine, lookup functions and HTTP. Only the lookups that would wait their six
   seconds for what never ends are told a nearer deadline.

A customer with another number than the caller's is nobody, so that behaviour counts as NO_MATCH.
"""

import itertools
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from conversation import timestamps
from conversation.errors import SourceUnavailable
from local.companies import SOURCES, Behaviour, Companies, Fault, Source, invented_customer
from tests.support.cloud import NOWHERE, Cloud, deployed, lookup_function
from tests.support.company_cloud import ask, deployed_with

BEHAVIOURS: dict[str, Fault | None] = {
    "match": None,
    "no match": None,
    "500": Fault.SERVER_ERROR,
    "time-out": Fault.TIMEOUT,
    "slow drip": Fault.SLOW_DRIP,
    "malformed JSON": Fault.MALFORMED_JSON,
    "wrong schema": Fault.WRONG_SCHEMA,
    "wrong number": Fault.WRONG_NUMBER,
    "429": Fault.TOO_MANY_REQUESTS,
    "401": Fault.UNAUTHORIZED,
    "connection refused": None,
}
OUTCOMES = dict.fromkeys(BEHAVIOURS, "UNAVAILABLE") | {
    "match": "MATCH",
    "no match": "NO_MATCH",
    "wrong number": "NO_MATCH",
}
DEADLINE_MS = 10_000
AT_ONCE = 6
type Combination = tuple[str, str, str]
# The third is the sum of the first two: whichever two are given, some row has them.
PAIRWISE: list[Combination] = [
    (first, second, list(BEHAVIOURS)[(i + j) % len(BEHAVIOURS)])
    for (i, first), (j, second) in itertools.product(enumerate(BEHAVIOURS), repeat=2)
]


def teach(companies: Companies, source: Source, callers: Mapping[str, str]) -> None:
    """Let a company behave as said for each caller's number."""
    known = [number for number, behaviour in callers.items() if behaviour != "no match"]
    companies.know(source, {number: invented_customer(source, number) for number in known})
    faults = {number: BEHAVIOURS[behaviour] for number, behaviour in callers.items()}
    companies.behave(source, by_number={number: Behaviour(fault=fault) for number, fault in faults.items()})


def identity_of(source: Source, number: str) -> dict[str, str | int]:
    customer = invented_customer(source, number)
    return {
        "source": source,
        "customerId": customer.customer_id,
        "displayName": f"{customer.first_name} {customer.last_name}",
        "firstName": customer.first_name,
        "lastName": customer.last_name,
        "segment": customer.segment,
        "candidates": 1,
    }


def check(document: Mapping[str, Any], combination: Combination, number: str) -> None:
    """Hold a conversation that has ended against what its combination must lead to."""
    expected = {source: OUTCOMES[one] for source, one in zip(SOURCES, combination, strict=True)}
    matches = [source for source, outcome in expected.items() if outcome == "MATCH"]
    assert document["callerNumber"] == number
    assert document["sources"] == expected
    assert document["elapsedMs"] < DEADLINE_MS
    if matches:
        assert document["status"] == "SUCCESS"
        assert document["identity"]["source"] in matches
    else:
        assert document["status"] == ("FAILED" if "UNAVAILABLE" in expected.values() else "NOT_FOUND")
        assert document["identity"] is None
    identities = {**document["otherMatches"]}
    if document["identity"]:
        identities[document["identity"]["source"]] = document["identity"]
    assert identities == {source: identity_of(source, number) for source in matches}


def run_all(cloud: Cloud, callers: Mapping[str, Combination]) -> None:
    """Start a conversation for each caller, a few at once, and check each when its execution has ended."""

    def run(number: str) -> dict[str, Any]:
        conversation_id = number.removeprefix("+")
        assert cloud.start(conversation_id, number).status == 202
        cloud.wait_for_execution(conversation_id)
        return cloud.read(conversation_id).body

    with ThreadPoolExecutor(AT_ONCE) as executor:
        for (number, combination), document in zip(callers.items(), executor.map(run, callers), strict=True):
            check(document, combination, number)


def numbered(combinations: Iterable[Combination]) -> dict[str, Combination]:
    return {f"+336{index:08}": combination for index, combination in enumerate(combinations)}


@pytest.fixture(scope="module")
def noted(_running_companies: Companies) -> dict[tuple[Source, str], str]:
    """Level 1: the outcome of each behaviour of each company, as its lookup function gives it."""
    companies = _running_companies
    companies.forget()
    outcomes: dict[tuple[Source, str], str] = {}
    numbers = {f"+336000000{index:02}": behaviour for index, behaviour in enumerate(BEHAVIOURS)}
    for source in SOURCES:
        teach(companies, source, numbers)
    with deployed_with(companies) as cloud, pytest.MonkeyPatch.context() as patch:
        for source, (number, behaviour) in itertools.product(SOURCES, numbers.items()):
            patch.setitem(cloud.lookups, source, partial(look_up, cloud, source, {number: behaviour}))
            try:
                answer = ask(cloud, source, number)
            except SourceUnavailable:
                outcomes[source, behaviour] = "UNAVAILABLE"
            else:
                outcomes[source, behaviour] = answer["outcome"]
                assert answer.get("identity") in (None, identity_of(source, number))
    return outcomes


def look_up(
    cloud: Cloud, source: Source, callers: Mapping[str, str], event: Mapping[str, str]
) -> Mapping[str, object]:
    """The real lookup; at a company that is not there for those callers whose connection is refused."""
    environment: dict[str, str] = {}
    match callers[event["callerNumber"]]:
        case "connection refused":
            environment["SOURCE_URL"] = NOWHERE[f"{source.capitalize()}Url"]
        case "time-out" | "slow drip":
            near = timestamps.now() + timedelta(seconds=1.5)  # which leaves half a second for the lookup
            event = {**event, "deadlineAt": timestamps.to_text(near)}
    answer: dict[str, object] = cloud.call(lookup_function(source), event, **environment)
    return answer


def test_each_behaviour_of_each_company(noted: dict[tuple[Source, str], str]) -> None:
    assert noted == {(source, one): OUTCOMES[one] for source in SOURCES for one in BEHAVIOURS}


# Where alpha matches or fails, the two others decide less.
@pytest.mark.parametrize(
    "alpha",
    ["no match", *(pytest.param(one, marks=pytest.mark.long) for one in BEHAVIOURS if one != "no match")],
)
def test_all_combinations_through_the_state_machine(alpha: str, noted: dict[tuple[Source, str], str]) -> None:
    callers = numbered((alpha, beta, gamma) for beta, gamma in itertools.product(BEHAVIOURS, repeat=2))
    assert len(callers) == 121

    def answer(source: Source, event: Mapping[str, str]) -> Mapping[str, object]:
        number = event["callerNumber"]
        outcome = noted[source, callers[number][SOURCES.index(source)]]
        if outcome == "UNAVAILABLE":
            raise SourceUnavailable(f"{source} as noted")
        return {"outcome": outcome, "identity": identity_of(source, number)}

    # The lookups answer at once; on a busy machine, to start as many executions may take the ten seconds.
    with deployed({"LookupDeadlineSeconds": "60"}) as cloud:
        cloud.lookups.update({source: partial(answer, source) for source in SOURCES})
        run_all(cloud, callers)


def test_each_pair_of_behaviours_is_in_the_sample() -> None:
    for one, other in itertools.combinations(range(3), 2):
        pairs = {(row[one], row[other]) for row in PAIRWISE}
        assert pairs == set(itertools.product(BEHAVIOURS, repeat=2))


def test_the_sample_through_everything(companies: Companies) -> None:
    callers = numbered(PAIRWISE)
    with deployed_with(companies) as cloud:
        for index, source in enumerate(SOURCES):
            behaviours = {number: combination[index] for number, combination in callers.items()}
            teach(companies, source, behaviours)
            cloud.lookups[source] = partial(look_up, cloud, source, behaviours)
        run_all(cloud, callers)
