"""The three companies, asked by the plainest of clients: what the other ways of doing it are built on.

Only the standard library and urllib3, which Lambda's own runtime has: the same code runs in each of them.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import urllib3

_HTTP = urllib3.PoolManager(maxsize=10, timeout=15, retries=False)

type CompanyCustomer = dict[str, Any]
"""A customer in a company's own words."""


@dataclass(frozen=True)
class Company:
    """A company's name, its base URL and its credentials."""

    source: str
    url: str
    credentials: dict[str, str]


def ask(company: Company, number: str) -> CompanyCustomer | None:
    """The customer with this E.164 number, or None when the company knows nobody."""
    return {"alpha": _ask_alpha, "beta": _ask_beta, "gamma": _ask_gamma}[company.source](company, number)


def ask_all(companies: list[Company], number: str) -> CompanyCustomer | None:
    """Ask every company at once, wait for all of them, and take the first that knows the number."""
    with ThreadPoolExecutor(len(companies)) as threads:
        answers = list(threads.map(lambda company: ask(company, number), companies))
    return next((answer for answer in answers if answer is not None), None)


def _ask_alpha(company: Company, number: str) -> CompanyCustomer | None:
    headers = {"X-Api-Key": company.credentials["apiKey"]}
    query = {"phone": number}
    return _first(_HTTP.request("GET", f"{company.url}/customers", fields=query, headers=headers).json())


def _ask_beta(company: Company, number: str) -> CompanyCustomer | None:
    headers = _basic(company.credentials["username"], company.credentials["password"])
    query = {"msisdn": number.removeprefix("+")}
    found = _HTTP.request("POST", f"{company.url}/v2/contacts/search", headers=headers, json=query).json()
    return _first(found["items"])


def _ask_gamma(company: Company, number: str) -> CompanyCustomer | None:
    client = _basic(company.credentials["clientId"], company.credentials["clientSecret"])
    form = {"grant_type": "client_credentials"}
    token = _HTTP.request_encode_body(
        "POST", f"{company.url}/oauth/token", fields=form, headers=client, encode_multipart=False
    ).json()
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    found = _HTTP.request("GET", f"{company.url}/people/{number}", headers=headers)
    return None if found.status == HTTPStatus.NOT_FOUND else _first([found.json()])


def _first(customers: list[CompanyCustomer]) -> CompanyCustomer | None:
    return customers[0] if customers else None


def _basic(user: str, password: str) -> dict[str, str]:
    return dict(urllib3.util.make_headers(basic_auth=f"{user}:{password}"))
