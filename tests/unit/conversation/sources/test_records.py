"""Whose record it is: numbers parsed on both sides, records judged alone, and how many have the number."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat

from conversation.errors import SourceUnavailable
from conversation.sources.client import SourceClient, run_within
from conversation.sources.identity import Identity
from tests.support.companies import JEAN, NUMBER, OTHER_NUMBER, PROTOCOLS, Company, Person

type MakeCompany = Callable[..., Company]
LISTS = ("alpha", "beta")


def record(source: str, person: Person = JEAN, changed: Mapping[str, object] | None = None) -> dict[str, Any]:
    """One record in a company's own words, with some of its fields changed; `...` takes a field away."""
    document = PROTOCOLS[source].document(person)
    made: dict[str, Any] = {"alpha": lambda: document[0], "beta": lambda: document["items"][0]}.get(
        source, lambda: document
    )()
    return {key: value for key, value in {**made, **(changed or {})}.items() if value is not ...}


def answer(source: str, *records: object, **frame: object) -> httpx.Response:
    """An answer with these records; a `frame` replaces fields around beta's."""
    if source == "gamma":
        [body] = records
        return httpx.Response(200, content=json.dumps(body))
    if source == "alpha":
        return httpx.Response(200, content=json.dumps(list(records)))
    body = {"total": len(records), "items": list(records), **frame}
    return httpx.Response(200, content=json.dumps({k: v for k, v in body.items() if v is not ...}))


ID = {"alpha": "id", "beta": "contactId", "gamma": "personId"}
PHONE = {"alpha": "phone", "beta": "msisdn", "gamma": "phone"}

# --- the number ------------------------------------------------------------------------------------------


def example_numbers() -> Iterator[phonenumbers.PhoneNumber]:
    """The examples that the library ships: a fixed line and a mobile of every country."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE):
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None:
                yield number


def e164(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def spellings(number: phonenumbers.PhoneNumber) -> Iterator[str]:
    international = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
    yield e164(number)
    yield e164(number).replace("+", "00")
    yield international
    yield international.replace(" ", "-")
    yield international.replace(" ", ".")
    yield international.replace(" ", "\u202f")
    yield f"00{international[1:]}"
    yield f"  {international} "


EXAMPLES = list(example_numbers())


def test_the_table_is_as_large_as_it_should_be() -> None:
    assert len(EXAMPLES) > 450
    assert len([1 for one in EXAMPLES for _ in spellings(one)]) > 3_600


@pytest.mark.parametrize("source", PROTOCOLS)
def test_every_countrys_numbers_are_the_callers_in_any_spelling_with_a_country(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = [(e164(number), written) for number in EXAMPLES for written in spellings(number)]
    missed = [
        (caller, written)
        for caller, written in table
        if look_up(source, caller, [record(source, changed={PHONE[source]: written})], monkeypatch) is None
    ]
    assert missed == []


@pytest.mark.parametrize("source", PROTOCOLS)
def test_no_national_number_is_a_callers_whatever_its_digits(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digits of a caller's E.164 may be another country's national number, both ten digits long."""
    table = [
        (e164(number), written)
        for number in EXAMPLES
        for written in {
            phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL),
            str(number.national_number),
        }
    ]
    found = [
        (caller, written)
        for caller, written in table
        if look_up(source, caller, [record(source, changed={PHONE[source]: written})], monkeypatch)
        is not None
    ]
    assert found == []


@pytest.mark.parametrize("source", ["alpha", "gamma"])
def test_bare_digits_are_no_callers_number_but_at_beta(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for caller in map(e164, EXAMPLES):
        digits = caller.removeprefix("+")
        assert look_up(source, caller, [record(source, changed={PHONE[source]: digits})], monkeypatch) is None
        assert look_up("beta", caller, [record("beta", changed={"msisdn": digits})], monkeypatch) is not None


def look_up(
    source: str, number: str, records: list[object], monkeypatch: pytest.MonkeyPatch
) -> Identity | None:
    """Judge records without the wire, as some thousands of them are judged."""

    async def request(_client: SourceClient, *_: object, **__: object) -> Any:
        from conversation.http_client import HttpAnswer  # noqa: PLC0415 - in a stand-in

        return HttpAnswer(200, answer(source, *records).content)

    monkeypatch.setattr(SourceClient, "request", request)
    if source == "gamma":
        monkeypatch.setattr("conversation.sources.gamma._token", no_token)
    return PROTOCOLS[source].ask(number, seconds=30)


async def no_token(*_: object) -> Any:
    return type("Token", (), {"text": "t", "is_new": False})


@pytest.mark.parametrize(
    ("caller", "theirs", "is_theirs"),
    [
        ("+33639980001", "0033639980001", True),
        ("+33639980001", "+33 (0)6 39 98 00 01", True),
        ("+33639980001", "0033 6 39 98 00 01", True),
        ("+33639980001", "+33639980001 ", True),
        ("+33639980001", "\u202a+33639980001\u202c", True),
        ("+5215512345678", "+525512345678", True),
        ("+525512345678", "+52 1 55 1234 5678", True),
        ("+525512345678", "+525512345678", True),
        ("+33639980001", "0639980001", False),
        ("+33639980001", "639980001", False),
        ("+33639980001", "+33639980002", False),
        ("+33639980001", "+336399800010", False),
        ("+4930123456", "30123456", False),
        # Both ten digits: of Spain with its country code, and of the United States without.
        ("+3491234567", "3491234567", False),
        ("+12025550143", "12025550143", False),
        ("+12025550143", "2025550143", False),
        ("+12025550143", "011 1 202 555 0143", False),
        ("+12025550143", "+1202555XXXX", False),
    ],
)
def test_a_record_counts_when_it_says_its_country(
    caller: str, theirs: str, *, is_theirs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look_up("alpha", caller, [record("alpha", changed={"phone": theirs})], monkeypatch)
    assert (found is not None) is is_theirs


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize(
    ("theirs", "unreadable"),
    [("", 1), ("unknown", 1), ("0612345678", 1), (" " * 300, 1), ("+" + "1" * 5_000, 1), (OTHER_NUMBER, 0)],
)
def test_what_cannot_be_read_is_no_match_and_is_counted(
    source: str, theirs: str, unreadable: int, company: MakeCompany
) -> None:
    company(answer(source, record(source, changed={PHONE[source]: theirs})))
    client = SourceClient(source, f"https://{source}.example")
    protocol = PROTOCOLS[source]
    assert run_within(source, 5, protocol.look_up(client, protocol.secret, NUMBER)) is None
    assert client.counted["LookupUnreadableNumber"] == unreadable


# --- several customers -------------------------------------------------------------------------------------

ANN = JEAN._replace(customer_id="7", first_name="Ann")
STANDARD = JEAN._replace(customer_id="8", first_name="Bob", segment="standard")


@pytest.mark.parametrize("source", LISTS)
@pytest.mark.parametrize(
    ("people", "candidates", "segment"),
    [((JEAN, ANN), 2, "vip"), ((JEAN, STANDARD), 2, ""), ((JEAN, ANN, STANDARD), 3, "")],
)
def test_of_several_customers_nobody_is_named(
    source: str, people: tuple[Person, ...], candidates: int, segment: str, company: MakeCompany
) -> None:
    company(answer(source, *(record(source, person) for person in people)))
    found = PROTOCOLS[source].ask()
    assert found is not None
    assert found.as_map() == {
        "source": source,
        "customerId": "",
        "displayName": "",
        "firstName": "",
        "lastName": "",
        "segment": segment,
        "candidates": candidates,
    }


@pytest.mark.parametrize("source", LISTS)
def test_one_customer_twice_is_one(source: str, company: MakeCompany) -> None:
    company(
        answer(source, record(source), record(source), record(source, JEAN._replace(number=OTHER_NUMBER)))
    )
    assert PROTOCOLS[source].ask() == Identity(source, "1042", "Jean", "Dupont", "vip")


@pytest.mark.parametrize("source", LISTS)
def test_of_one_id_with_two_names_the_name_stays_open(source: str, company: MakeCompany) -> None:
    other = JEAN._replace(first_name="Ann")
    nameless = JEAN._replace(first_name="", last_name="")
    company(
        answer(source, record(source), record(source, other)),
        answer(source, record(source), record(source, nameless)),
    )
    assert PROTOCOLS[source].ask() == Identity(source, "1042", "", "Dupont", "vip")
    assert PROTOCOLS[source].ask() == Identity(source, "1042", "Jean", "Dupont", "vip")


@pytest.mark.parametrize(
    ("total", "candidates"),
    [
        (1, 1), (2, 2), (5, 5), ("3", 3), (3.0, 3), (10**400, 1_000_000), (float("inf"), 1_000_000),
        (..., 1), (None, 1), ("many", 1), (True, 1), ([], 1), ({}, 1), (0, 1), (-4, 1), ("", 1),
    ],
)  # fmt: skip
def test_what_beta_has_and_did_not_send_counts(total: object, candidates: int, company: MakeCompany) -> None:
    company(answer("beta", record("beta"), total=total))
    found = PROTOCOLS["beta"].ask()
    assert found is not None
    assert found.candidates == candidates
    assert bool(found.customer_id) is bool(found.last_name) is bool(found.segment) is (candidates == 1)


@pytest.mark.parametrize("sent", [[], [record("beta", changed={"msisdn": OTHER_NUMBER})]])
def test_a_caller_beyond_what_beta_sent_is_not_nobody(sent: list[object], company: MakeCompany) -> None:
    company(answer("beta", *sent, total=len(sent) + 1), answer("beta", *sent, total=len(sent)))
    with pytest.raises(SourceUnavailable, match=r"^beta did not send all the records that it has$"):
        PROTOCOLS["beta"].ask()
    assert PROTOCOLS["beta"].ask() is None


# --- one by one --------------------------------------------------------------------------------------------


def each(field: str, is_customer: bool, *values: object) -> list[tuple[Mapping[str, object], bool]]:
    return [({field: value}, is_customer) for value in values]


# A record's fields, and whether it is a customer when it has the caller's number.
CHANGES: dict[str, list[tuple[Mapping[str, object], bool]]] = {
    "alpha": [
        *each("id", False, ..., None, "", "  ", 7, [], {}, "a\tb", "a\u202eb", "\ud800"),
        *each("first_name", True, ..., None, "", " "),
        *each("last_name", True, ..., None, "", " "),
        *each("first_name", False, 7, [], {}, True, "é" * 1_001),
        *each("tier", True, ..., None, 7, True, [], {}),
        *each("new", True, {"deep": [None, "\ud800", 10**500]}),
    ],
    "beta": [
        *each("contactId", False, ..., None, "", "\n", 7),
        *each("name", True, ..., None, {}, {"given": None}, {"family": "D", "x": 1}),
        *each("name", False, "Jean", [], 7, {"given": 7}),
        *each("vip", True, ..., None, "yes", 1, [], {}),
    ],
    "gamma": [
        *each("personId", False, ..., None, "", "\u3000", 7),
        *each("fullName", True, ..., None, "", "\ud800"),
        *each("fullName", False, 7, ["Jean"], "x" * 1_001),
        *each("segment", True, ..., None, 7, []),
    ],
}
EACH_CHANGE = [(source, *one) for source, ones in CHANGES.items() for one in ones]


@pytest.mark.parametrize(("source", "change", "is_customer"), EACH_CHANGE)
def test_a_record_alone(
    source: str, change: Mapping[str, object], *, is_customer: bool, company: MakeCompany
) -> None:
    company(answer(source, record(source, changed=change)))
    if not is_customer:
        with pytest.raises(SourceUnavailable, match=rf"^{source} answered in an unknown format, first at "):
            PROTOCOLS[source].ask()
        return
    found = PROTOCOLS[source].ask()
    assert found is not None
    assert found.customer_id == "1042"
    assert found.candidates == 1


BROKEN: list[object] = [None, 7, "text", [], [{}], {}, True]


@pytest.mark.parametrize("source", LISTS)
@pytest.mark.parametrize(
    "neighbour",
    [*BROKEN, {"phone": None, "msisdn": None}, {"phone": 7, "msisdn": []}, {"phone": "?", "msisdn": "?"}],
)
def test_a_neighbours_broken_record_hurts_nobody(
    source: str, neighbour: object, company: MakeCompany
) -> None:
    company(answer(source, neighbour, record(source)), answer(source, record(source), neighbour))
    for _ in range(2):
        assert PROTOCOLS[source].ask() == Identity(source, "1042", "Jean", "Dupont", "vip")


@pytest.mark.parametrize(
    ("source", "change", "is_customer"), [one for one in EACH_CHANGE if one[0] in LISTS and not one[2]]
)
def test_a_broken_record_counts_when_nothing_better_is_there(
    source: str, change: Mapping[str, object], *, is_customer: bool, company: MakeCompany
) -> None:
    assert not is_customer
    broken = record(source, changed=change)
    of_another = record(source, JEAN._replace(number=OTHER_NUMBER), change)
    company(answer(source, broken, record(source)), answer(source, of_another))
    assert PROTOCOLS[source].ask() == Identity(source, "1042", "Jean", "Dupont", "vip")
    assert PROTOCOLS[source].ask() is None, "a broken record of another number says nothing of this caller"


@pytest.mark.parametrize("source", LISTS)
@pytest.mark.parametrize("broken", BROKEN)
def test_a_record_that_may_have_been_the_callers_is_not_nobody(
    source: str, broken: object, company: MakeCompany
) -> None:
    company(answer(source, record(source, JEAN._replace(number=OTHER_NUMBER)), broken))
    with pytest.raises(SourceUnavailable, match=rf"^{source} answered in an unknown format, first at "):
        PROTOCOLS[source].ask()


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize("marks", [b"\xef\xbb\xbf", b"\xef\xbb\xbf" * 3, b" \n\xef\xbb\xbf\t\xef\xbb\xbf"])
def test_byte_order_marks_before_an_answer_are_nothing(
    source: str, marks: bytes, company: MakeCompany
) -> None:
    body = marks + answer(source, record(source)).content
    company(httpx.Response(200, content=body))
    assert PROTOCOLS[source].ask() == Identity(source, "1042", "Jean", "Dupont", "vip")
