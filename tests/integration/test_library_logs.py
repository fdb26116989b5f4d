"""Lookups, a token's renewal and a note to the CRM with everything logged that can be: nobody is in it."""

import logging
from collections.abc import Iterator

import boto3
import pytest

from conversation import library_logs
from conversation.errors import SourceUnavailable
from conversation.observability import logger
from local.companies import CREDENTIALS, SOURCES, Behaviour, Companies, Fault, invented_customer
from tests.support.cloud import Cloud
from tests.support.company_cloud import ask, close_connections, deployed_with
from tests.support.crm import TOKEN, leave_note

NUMBER = "+33612345678"


class Everything(logging.Handler):
    """Keeps each record as text, with its arguments and its exception, whatever its level."""

    def __init__(self) -> None:
        super().__init__(level=logging.NOTSET)
        self.texts: list[str] = []
        self.loggers: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.loggers.add(record.name)
        self.texts.append(f"{logging.Formatter().format(record)} {record.args!r} {vars(record)!r}")


@pytest.fixture
def everything() -> Iterator[Everything]:
    """A handler at the root; every logger there is lets everything through."""
    handler = Everything()
    root = logging.getLogger()
    known = [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    before = {one: one.level for one in known}
    for one in known:
        one.setLevel(1)
    root.addHandler(handler)
    own = logging.getLogger(logger.name)
    own.addHandler(handler)
    yield handler
    own.removeHandler(handler)
    root.removeHandler(handler)
    for one, level in before.items():
        one.setLevel(level)


def test_nothing_of_a_caller_and_no_credential_is_logged_by_anybody(
    companies: Companies, everything: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    close_connections()  # connecting is logged too
    customers = {source: invented_customer(source, NUMBER) for source in SOURCES}
    confidential = {NUMBER[1:], "612345678"}
    for source, customer in customers.items():
        companies.know(source, {NUMBER: customer})
        confidential |= {customer.customer_id, customer.first_name, customer.last_name}
        confidential |= set(CREDENTIALS[source].values()) - {"meanwhile"}
    with deployed_with(companies) as cloud:
        look_everybody_up(cloud)
        companies.kill_tokens()
        look_everybody_up(cloud)
        tokens = boto3.client("dynamodb").scan(TableName="SourceTokens")["Items"]
        confidential |= {item["token"]["S"] for item in tokens}
        for source in SOURCES:
            companies.behave(source, Behaviour(fault=Fault.HALF_BODY))
            with pytest.raises(SourceUnavailable):
                ask(cloud, source, NUMBER)
    companies.accept("crm", {"token": TOKEN})
    confidential.add(TOKEN)
    leave_note(companies.crm_url, customers["gamma"].customer_id)
    assert len(confidential) > 10
    written = "".join([*everything.texts, *capfd.readouterr()])
    assert {word for word in confidential if word in written} == set()
    assert "lookup ended" in written, "the handler hears what is logged"
    heard = {name.partition(".")[0] for name in everything.loggers}
    assert "botocore" in heard, "what it logs is let through, and tells nothing"


def look_everybody_up(cloud: Cloud) -> None:
    for source in SOURCES:
        assert ask(cloud, source, NUMBER)["outcome"] == "MATCH"


@pytest.mark.parametrize(
    "name", ["httpx", "httpcore.http11", "botocore.parsers", "httpx2", "urllib3.made.later"]
)
def test_a_librarys_warning_is_heard_and_all_else_is_withheld(name: str, everything: Everything) -> None:
    library = logging.getLogger(name)
    library.setLevel(1)
    library.debug("a URL %s", NUMBER, exc_info=ValueError(NUMBER), stack_info=True)
    library.info("a URL %s", {"phone": NUMBER})
    library.warning("something is wrong")
    told = "".join(everything.texts)
    assert told.count(library_logs.WITHHELD) >= 2
    assert "something is wrong" in told
    assert NUMBER[1:] not in told


def test_silencing_again_changes_nothing() -> None:
    before = logging.getLogRecordFactory()
    library_logs.silence()
    assert logging.getLogRecordFactory() is before
