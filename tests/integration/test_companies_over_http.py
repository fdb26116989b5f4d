"""The real lookup functions against the demo companies, over real connections."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from conversation.errors import SourceUnavailable
from local.companies import (
    CREDENTIALS,
    SOURCES,
    Behaviour,
    Companies,
    Credentials,
    Fault,
    Service,
    Source,
    invented_customer,
)
from tests.support.cloud import Cloud
from tests.support.company_cloud import ask, deployed_with

NUMBER = "+33612345678"


@pytest.fixture
def cloud(companies: Companies) -> Iterator[Cloud]:
    with deployed_with(companies) as cloud:
        yield cloud


@pytest.mark.parametrize("source", SOURCES)
def test_a_customer_is_matched(source: Source, cloud: Cloud, companies: Companies) -> None:
    customer = invented_customer(source, NUMBER)
    companies.know(source, {NUMBER: customer})
    answer = ask(cloud, source, NUMBER)
    assert answer["outcome"] == "MATCH"
    assert answer["identity"] == {
        "source": source,
        "customerId": customer.customer_id,
        "displayName": f"{customer.first_name} {customer.last_name}",
        "firstName": customer.first_name,
        "lastName": customer.last_name,
        "segment": customer.segment,
        "candidates": 1,
    }
    assert ask(cloud, source, "+33612345679") == {"outcome": "NO_MATCH"}


RETRIED = {Fault.SERVER_ERROR, Fault.CONNECTION_CLOSED, Fault.HALF_BODY}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.WRONG_NUMBER])
def test_every_fault_is_no_answer_and_tried_again_only_where_that_may_help(
    fault: Fault, source: Source, cloud: Cloud, companies: Companies
) -> None:
    companies.know(source, {NUMBER: invented_customer(source, NUMBER)})
    companies.behave(source, by_number={NUMBER: Behaviour(fault=fault)})
    with pytest.raises(SourceUnavailable, match=rf"^{source} "):
        ask(cloud, source, NUMBER, seconds=0.5 if fault in {Fault.TIMEOUT, Fault.SLOW_DRIP} else 5)
    tries = 2 if fault in RETRIED else 1
    if source == "gamma" and fault is Fault.UNAUTHORIZED:
        tries = 2  # a token may die; a new one is asked for once
    assert companies.requests().lookups[source][NUMBER] == tries


@pytest.mark.parametrize("source", SOURCES)
def test_a_customer_with_another_number_is_no_match(
    source: Source, cloud: Cloud, companies: Companies
) -> None:
    companies.behave(source, by_number={NUMBER: Behaviour(fault=Fault.WRONG_NUMBER)})
    assert ask(cloud, source, NUMBER) == {"outcome": "NO_MATCH"}


@pytest.mark.parametrize("source", SOURCES)
def test_a_company_that_is_not_there_is_no_answer(source: Source, companies: Companies) -> None:
    nowhere = {f"{source.capitalize()}Url": "http://127.0.0.1:9"}
    with (
        deployed_with(companies, nowhere) as cloud,
        pytest.raises(
            SourceUnavailable, match=rf"^{source} could not be reached \(ConnectionRefusedError\)$"
        ),
    ):
        ask(cloud, source, NUMBER)


@pytest.mark.parametrize("source", SOURCES)
def test_wrong_credentials_are_no_answer(source: Source, companies: Companies) -> None:
    wrong: dict[Service, Credentials] = {source: dict.fromkeys(CREDENTIALS[source], "wrong")}
    with (
        deployed_with(companies, credentials=wrong) as cloud,
        pytest.raises(SourceUnavailable, match=rf"^{source} answered 401$"),
    ):
        ask(cloud, source, NUMBER)


def test_a_token_that_gamma_has_forgotten_is_replaced_within_the_lookup(
    cloud: Cloud, companies: Companies
) -> None:
    companies.know("gamma", {NUMBER: invented_customer("gamma", NUMBER)})
    assert ask(cloud, "gamma", NUMBER)["outcome"] == "MATCH"
    before = companies.requests().tokens
    companies.kill_tokens()
    assert ask(cloud, "gamma", NUMBER)["outcome"] == "MATCH"
    assert companies.requests().tokens == before + 1


@pytest.mark.parametrize("source", SOURCES)
def test_hundreds_of_lookups_at_once_each_find_their_own_caller(
    source: Source, cloud: Cloud, companies: Companies
) -> None:
    """They share an event loop, a client and a token; an answer must not reach another's caller."""
    numbers = [f"+3367{index:07}" for index in range(300)]
    known = {number: invented_customer(source, number) for number in numbers[::2]}
    companies.know(source, known)
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda number: ask(cloud, source, number), numbers))
    for number, answer in zip(numbers, answers, strict=True):
        found = answer["identity"]["customerId"] if answer["outcome"] == "MATCH" else None
        assert found == (known[number].customer_id if number in known else None)
    assert companies.requests().lookups[source] == dict.fromkeys(numbers, 1)


def test_many_lookups_share_few_connections(cloud: Cloud, companies: Companies) -> None:
    """Connection reuse: a new TLS connection would cost each caller two round trips."""
    ask(cloud, "alpha", NUMBER)
    connections = open_connections(companies)
    for index in range(20):
        ask(cloud, "alpha", f"+336123456{index:02}")
    assert open_connections(companies) == connections


def open_connections(companies: Companies) -> set[tuple[str, int]]:
    """The local ends of this process's connections to the companies, those that lookups keep."""
    port = int(companies.url.rpartition(":")[2])
    return {
        (one.laddr.ip, one.laddr.port)
        for one in psutil.Process().net_connections("tcp")
        if getattr(one.raddr, "port", None) == port and one.status == psutil.CONN_ESTABLISHED
    }
