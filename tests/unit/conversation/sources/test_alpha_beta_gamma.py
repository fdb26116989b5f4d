"""Each company is asked in its own protocol, and each of its usable answers becomes an identity or nobody."""

import base64
import json
from collections.abc import Callable
from urllib.parse import parse_qsl

import httpx
import pytest

from conversation.errors import SourceUnavailable
from conversation.sources.identity import Identity
from tests.support.companies import JEAN, NUMBER, OTHER_NUMBER, PROTOCOLS, Company, with_field

ALPHA, BETA, GAMMA = PROTOCOLS["alpha"], PROTOCOLS["beta"], PROTOCOLS["gamma"]
type MakeCompany = Callable[..., Company]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_alpha_is_asked_with_a_query_and_a_key(company: MakeCompany) -> None:
    alpha = company(ALPHA.nobody())
    assert ALPHA.ask() is None
    [request] = alpha.lookups
    assert request.method == "GET"
    assert str(request.url) == "https://alpha.example/api/customers?phone=%2B33612345678"
    assert request.headers["x-api-key"] == "alpha-key"
    assert "authorization" not in request.headers


def test_beta_is_asked_with_digits_and_basic_authentication(company: MakeCompany) -> None:
    beta = company(BETA.nobody())
    assert BETA.ask() is None
    [request] = beta.lookups
    assert request.method == "POST"
    assert str(request.url) == "https://beta.example/api/v2/contacts/search"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == {"msisdn": "33612345678"}
    assert request.headers["authorization"] == basic("beta-user", "beta-password")


def test_gamma_is_asked_with_a_token_that_is_asked_for_first(company: MakeCompany) -> None:
    gamma = company(GAMMA.nobody())
    assert GAMMA.ask() is None
    [granted] = gamma.token_requests
    assert granted.method == "POST"
    assert str(granted.url) == "https://gamma.example/api/oauth/token"
    assert granted.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qsl(granted.content.decode()) == [("grant_type", "client_credentials")]
    assert granted.headers["authorization"] == basic("gamma-client", "gamma-secret")
    [request] = gamma.lookups
    assert request.method == "GET"
    assert str(request.url) == "https://gamma.example/api/people/+33612345678"
    assert request.headers["authorization"] == "Bearer token-1"


@pytest.mark.parametrize("source", PROTOCOLS)
def test_a_customer_becomes_an_identity(source: str, company: MakeCompany) -> None:
    company(PROTOCOLS[source].knows(JEAN))
    assert PROTOCOLS[source].ask() == Identity(source, "1042", "Jean", "Dupont", "vip")


def test_the_identity_as_the_state_machine_gets_it() -> None:
    assert Identity("gamma", "G-1042", "Jean", "Dupont", "vip").as_map() == {
        "source": "gamma",
        "customerId": "G-1042",
        "displayName": "Jean Dupont",
        "firstName": "Jean",
        "lastName": "Dupont",
        "segment": "vip",
        "candidates": 1,
    }


@pytest.mark.parametrize("source", PROTOCOLS)
def test_a_customer_with_another_number_is_no_match(source: str, company: MakeCompany) -> None:
    company(PROTOCOLS[source].knows(JEAN._replace(number=OTHER_NUMBER)))
    assert PROTOCOLS[source].ask() is None


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize(
    "theirs", ["0033612345678", "+33 6 12 34 56 78", "+33-6-12.34.56.78", "(+33) 612345678"]
)
def test_the_number_counts_and_not_how_it_is_written(source: str, theirs: str, company: MakeCompany) -> None:
    company(PROTOCOLS[source].knows(JEAN._replace(number=theirs)))
    assert PROTOCOLS[source].ask() is not None


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize(
    "theirs", ["", "+", "612345678", "0612345678", "+336123456780", "3361234567", "unknown"]
)
def test_a_part_of_the_number_is_not_the_number(source: str, theirs: str, company: MakeCompany) -> None:
    company(PROTOCOLS[source].knows(JEAN._replace(number=theirs)))
    assert PROTOCOLS[source].ask() is None


@pytest.mark.parametrize("source", ["alpha", "beta"])
def test_of_several_customers_those_with_the_number_count(source: str, company: MakeCompany) -> None:
    def listed(*numbers: str) -> httpx.Response:
        documents = [
            PROTOCOLS[source].document(JEAN._replace(number=number, customer_id=str(index)))
            for index, number in enumerate(numbers)
        ]
        if source == "alpha":
            return httpx.Response(200, json=[document[0] for document in documents])
        items = [document["items"][0] for document in documents]
        return httpx.Response(200, json={"total": len(items), "items": items})

    company(
        listed(OTHER_NUMBER, NUMBER),
        listed(OTHER_NUMBER, NUMBER, NUMBER),
        listed(OTHER_NUMBER, OTHER_NUMBER),
    )
    assert PROTOCOLS[source].ask() == Identity(source, "1", "Jean", "Dupont", "vip")
    assert PROTOCOLS[source].ask() == Identity(source, "", "", "", "vip", candidates=2)
    assert PROTOCOLS[source].ask() is None


@pytest.mark.parametrize("source", PROTOCOLS)
def test_fields_that_nobody_asked_for_may_be_there(source: str, company: MakeCompany) -> None:
    place = {"alpha": "0.new", "beta": "items.0.new", "gamma": "new"}[source]
    company(with_field(PROTOCOLS[source].document(JEAN), place, {"deep": [1, 2, None]}))
    assert PROTOCOLS[source].ask() is not None


@pytest.mark.parametrize(
    ("full_name", "first", "last"),
    [
        ("Jean Dupont", "Jean", "Dupont"),
        ("  Jean   Dupont ", "Jean", "Dupont"),
        ("Maria de la Cruz", "Maria", "de la Cruz"),
        ("Pelé", "Pelé", ""),
        ("", "", ""),
    ],
)
def test_gammas_full_name_becomes_two(full_name: str, first: str, last: str, company: MakeCompany) -> None:
    company(with_field(GAMMA.document(JEAN), "fullName", full_name))
    found = GAMMA.ask()
    assert found is not None
    assert (found.first_name, found.last_name) == (first, last)
    assert found.as_map()["displayName"] == f"{first} {last}".strip()


@pytest.mark.parametrize(("vip", "segment"), [(True, "vip"), (False, "standard")])
def test_betas_flag_becomes_a_segment(*, vip: bool, segment: str, company: MakeCompany) -> None:
    company(with_field(BETA.document(JEAN), "items.0.vip", vip))
    found = BETA.ask()
    assert found is not None
    assert found.segment == segment


WRONG_SHAPES: dict[str, list[tuple[str, object]]] = {
    "alpha": [
        ("0", None), ("0", {}), ("0.id", 1042), ("0.id", None), ("0.first_name", ["Jean"]),
        ("0.phone", 33612345678), ("0.phone", None), ("0.id", ""), ("0.id", " \t"),
    ],
    "beta": [
        ("items", None), ("items", {}), ("items.0.contactId", 7), ("items.0.name", "Jean"),
        ("items.0.name.family", 7), ("items.0.msisdn", 336), ("items.0", []), ("items.0.contactId", ""),
    ],
    "gamma": [
        ("personId", 7), ("fullName", []), ("phone", None), ("phone", {"e164": NUMBER}), ("personId", ""),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "path", "value"), [(source, *one) for source, ones in WRONG_SHAPES.items() for one in ones]
)
def test_a_wrong_type_is_no_answer(source: str, path: str, value: object, company: MakeCompany) -> None:
    """A company whose format changed must not look like one that does not know the caller."""
    company(with_field(PROTOCOLS[source].document(JEAN), path, value))
    with pytest.raises(SourceUnavailable, match=rf"^{source} answered in an unknown format, first at {path}"):
        PROTOCOLS[source].ask()


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"7", b'"text"', b"true", b"NaN", b"<html>sorry</html>", b"\xff\xfe", b"{", b"[{]",
     b"[" * 100_000, b'{"personId": ' * 10_000, b"9" * 10_000, rb'"\ud800"', b"\xef\xbb\xbf",
     b'{"phone": "\xe9"}'],
)  # fmt: skip
def test_what_is_not_the_documented_json_is_no_answer(source: str, body: bytes, company: MakeCompany) -> None:
    company(httpx.Response(200, content=body))
    with pytest.raises(
        SourceUnavailable, match=rf"^{source} answered in an unknown format, first at its body"
    ):
        PROTOCOLS[source].ask()


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 402, 403, 409, 410, 418, 422, 429, 505])
def test_other_statuses_are_no_answer_and_not_asked_again(
    source: str, status: int, company: MakeCompany
) -> None:
    asked = company(httpx.Response(status, json=PROTOCOLS[source].document(JEAN)))
    with pytest.raises(SourceUnavailable, match=rf"^{source} answered {status}$"):
        PROTOCOLS[source].ask()
    assert len(asked.lookups) == 1


@pytest.mark.parametrize(("source", "status"), [("alpha", 404), ("beta", 404), ("alpha", 401), ("beta", 401)])
def test_only_gamma_says_404_for_nobody_and_401_for_a_dead_token(
    source: str, status: int, company: MakeCompany
) -> None:
    company(httpx.Response(status, json={}))
    with pytest.raises(SourceUnavailable, match=rf"^{source} answered {status}$"):
        PROTOCOLS[source].ask()
