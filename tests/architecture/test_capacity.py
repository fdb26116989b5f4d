"""Which limit binds first is computed from what is deployed, and docs/operations.md says the same."""

import pytest

from operations import capacity
from tests.architecture.deployment import DOCUMENT, LOOKUPS, RESOURCES
from tests.support.template import REPOSITORY

DEFAULTS = capacity.defaults()


# The page is about the companies that this repository has; one that is added moves its figures.
COMPANIES = len(LOOKUPS)
three_companies = pytest.mark.skipif(COMPANIES != 3, reason="the page's figures are for three companies")


@three_companies
def test_the_page_has_what_the_script_computes() -> None:
    assert f"\n\n{capacity.tables()}\n\n" in (REPOSITORY / "docs/operations.md").read_text()


def test_it_reads_what_is_deployed() -> None:
    declared = DOCUMENT["Parameters"]
    assert {name: str(one["Default"]) for name, one in declared.items() if "Default" in one} == DEFAULTS
    assert capacity.number_of_companies() == len(LOOKUPS)
    wakeups = RESOURCES["RunJourneyFunction"]["Properties"]["Events"]["Wakeups"]["Properties"]
    assert capacity.run_journey_at_once() == wakeups["ScalingConfig"]["MaximumConcurrency"]


def rates(**parameters: str) -> dict[str, float]:
    limits = capacity.conversations({**DEFAULTS, **parameters})
    assert limits == sorted(limits, key=lambda limit: limit.a_second)
    return {limit.what: limit.a_second for limit in limits}


def test_the_order_is_the_known_one() -> None:
    """Own throttles, Lambda, a new table, API Gateway, Express."""
    of_interest = ["`ThrottlingRateLimit`", "Lambda", "DynamoDB, a new `ConversationTable`"]
    of_interest += ["API Gateway", "Step Functions"]
    found = rates()
    assert [what for what in found if what in of_interest] == of_interest
    assert (found["API Gateway"], found["Step Functions"]) == (2_000, 6_000)
    assert found["`ThrottlingRateLimit`"] == 20
    assert found["DynamoDB, a new `ConversationTable`"] == 800


def test_a_reservation_is_a_limit_of_its_own_and_takes_from_the_others() -> None:
    without, reserved = rates(), rates(LookupReservedConcurrency="200")
    assert "`LookupReservedConcurrency`" not in without
    assert reserved["`LookupReservedConcurrency`"] == pytest.approx(200 / 1.1)
    # 1,000 less 200 for each company and the 50 of run_journey, for a start and four reads.
    left = 950 - 200 * COMPANIES
    assert reserved["Lambda"] == pytest.approx(left / (0.1 + 1.3 + 0.3))
    assert "Lambda, while one company hangs" not in reserved
    readers = rates(LookupReservedConcurrency="200", ReaderReservedConcurrency="100")
    assert readers["`ReaderReservedConcurrency`"] == pytest.approx(100 / 1.6)
    assert readers["Lambda"] == pytest.approx((left - 100) / 0.1)


def test_more_is_reserved_than_there_is() -> None:
    assert rates(LookupReservedConcurrency="400")["Lambda"] == 0


def test_without_journeys_there_are_fifty_functions_more() -> None:
    seconds = COMPANIES * 1.1 + 0.1 + 1.3 + 0.3
    assert rates()["Lambda"] == pytest.approx(950 / seconds)
    assert rates(Journeys="off")["Lambda"] == pytest.approx(1_000 / seconds)


def test_a_new_account_takes_a_few() -> None:
    small = capacity.conversations({**DEFAULTS, "Journeys": "off"}, functions=10)
    assert {limit.what: round(limit.a_second) for limit in small}["Lambda"] == 2


def test_readers_who_wait_are_bounded() -> None:
    assert capacity.waiting_readers(DEFAULTS) == 600
    assert capacity.waiting_readers({**DEFAULTS, "MaxWaitSeconds": "5"}) == 150
    assert capacity.waiting_readers({**DEFAULTS, "ReaderReservedConcurrency": "100"}) == 100
