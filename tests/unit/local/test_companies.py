"""The customers that tests make up."""

from local.companies import SOURCES, invented_customer

NUMBERS = [f"+3363998{n:04}" for n in range(1000)]


def test_an_invented_customer_is_always_the_same_and_nobody_elses() -> None:
    ids = {invented_customer(source, number).customer_id for source in SOURCES for number in NUMBERS}
    assert len(ids) == len(SOURCES) * len(NUMBERS)
    assert all(invented_customer("gamma", n) == invented_customer("gamma", n) for n in NUMBERS)


def test_some_invented_customers_are_vip_and_some_are_not() -> None:
    assert {invented_customer("beta", number).segment for number in NUMBERS} == {"vip", "standard"}
