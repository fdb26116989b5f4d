"""The demo companies speak their protocols, have the faults they are told to, count what they are asked."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local import companies as companies_module
from local.companies import CREDENTIALS, SOURCES, Behaviour, Companies, Customer, Fault, Source

NUMBER = "+33639980001"
STRANGER = "+33639980002"
CUSTOMER = Customer(customer_id="7", first_name="Élise", last_name="Haddad", segment="vip")

KNOWN = {
    "alpha": [
        {"id": "7", "first_name": "Élise", "last_name": "Haddad", "phone": NUMBER, "tier": "vip"},
    ],
    "beta": {
        "total": 1,
        "items": [
            {
                "contactId": "7",
                "msisdn": "33639980001",
                "name": {"given": "Élise", "family": "Haddad"},
                "vip": True,
            }
        ],
    },
    "gamma": {"personId": "7", "phone": NUMBER, "fullName": "Élise Haddad", "segment": "vip"},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Companies]:
    with companies_module.running(tmp_path_factory.mktemp("companies")) as companies:
        yield companies


@pytest.fixture
def companies(running: Companies) -> Companies:
    running.forget()
    for source in SOURCES:
        running.know(source, {NUMBER: CUSTOMER})
        running.behave(source, Behaviour())
    return running


def basic(source: Source) -> httpx.BasicAuth:
    return httpx.BasicAuth(*CREDENTIALS[source].values())


def token(companies: Companies) -> str:
    form = {"grant_type": "client_credentials"}
    answer = httpx.post(f"{companies.base_url('gamma')}/oauth/token", data=form, auth=basic("gamma"))
    return str(answer.raise_for_status().json()["access_token"])


def ask(companies: Companies, source: Source, number: str, *, read_timeout: float = 5) -> httpx.Response:
    url = companies.base_url(source)
    with httpx.Client(timeout=httpx.Timeout(5, read=read_timeout)) as http:
        match source:
            case "alpha":
                headers = {"X-Api-Key": CREDENTIALS["alpha"]["apiKey"]}
                return http.get(f"{url}/customers", params={"phone": number}, headers=headers)
            case "beta":
                query = {"msisdn": number.removeprefix("+")}
                return http.post(f"{url}/v2/contacts/search", json=query, auth=basic("beta"))
            case "gamma":
                headers = {"Authorization": f"Bearer {token(companies)}"}
                return http.get(f"{url}/people/{number}", headers=headers)


@pytest.mark.parametrize("source", SOURCES)
def test_a_customer_in_the_companys_own_words(companies: Companies, source: Source) -> None:
    answer = ask(companies, source, NUMBER)
    assert (answer.status_code, answer.json()) == (200, KNOWN[source])


def test_nobody(companies: Companies) -> None:
    answers = [ask(companies, source, STRANGER) for source in SOURCES]
    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert [answers[0].json(), answers[1].json()] == [[], {"total": 0, "items": []}]


def test_wrong_credentials(companies: Companies) -> None:
    alpha, beta, gamma = (companies.base_url(source) for source in SOURCES)
    wrong = httpx.BasicAuth("meanwhile", "wrong")
    answers = [
        httpx.get(f"{alpha}/customers", params={"phone": NUMBER}),
        httpx.get(f"{alpha}/customers", params={"phone": NUMBER}, headers={"X-Api-Key": "wrong"}),
        httpx.post(f"{beta}/v2/contacts/search", json={"msisdn": NUMBER[1:]}),
        httpx.post(f"{beta}/v2/contacts/search", json={"msisdn": NUMBER[1:]}, auth=wrong),
        httpx.post(f"{gamma}/oauth/token", data={"grant_type": "client_credentials"}, auth=wrong),
        httpx.get(f"{gamma}/people/{NUMBER}"),
        httpx.get(f"{gamma}/people/{NUMBER}", headers={"Authorization": "Bearer wrong"}),
    ]
    assert [answer.status_code for answer in answers] == [401] * len(answers)


def leave_note(companies: Companies, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": token}
    note = {"customerId": "7", "text": "wants to cancel"}
    return httpx.post(f"{companies.crm_url}/notes", json=note, headers=headers).status_code


def test_the_crm_takes_a_note_with_its_token_alone(companies: Companies) -> None:
    old = CREDENTIALS["crm"]["token"]
    assert httpx.post(f"{companies.crm_url}/notes", json={}).status_code == 401
    assert [leave_note(companies, one) for one in (old, "new")] == [201, 401]
    companies.accept("crm", {"token": old}, {"token": "new"})
    assert [leave_note(companies, one) for one in (old, "new")] == [200, 201]
    companies.accept("crm", {"token": "new"})
    assert [leave_note(companies, one) for one in (old, "new")] == [401, 200]
    assert companies.requests().refused == {"crm": 3}


def test_with_a_clients_secret_its_tokens_end(companies: Companies) -> None:
    url = f"{companies.base_url('gamma')}/people/{NUMBER}"
    headers = {"Authorization": f"Bearer {token(companies)}"}
    other = {**CREDENTIALS["gamma"], "clientSecret": "new"}
    companies.accept("gamma", CREDENTIALS["gamma"], other)
    assert httpx.get(url, headers=headers).status_code == 200
    companies.accept("gamma", other)
    assert httpx.get(url, headers=headers).status_code == 401


def test_an_unescaped_plus_is_not_a_number(companies: Companies) -> None:
    headers = {"X-Api-Key": CREDENTIALS["alpha"]["apiKey"]}
    answer = httpx.get(f"{companies.base_url('alpha')}/customers?phone={NUMBER}", headers=headers)
    assert answer.status_code == 400


def test_a_killed_token_is_refused_and_a_new_one_is_good(companies: Companies) -> None:
    url = f"{companies.base_url('gamma')}/people/{NUMBER}"
    headers = {"Authorization": f"Bearer {token(companies)}"}
    assert httpx.get(url, headers=headers).status_code == 200
    companies.kill_tokens()
    assert httpx.get(url, headers=headers).status_code == 401
    assert ask(companies, "gamma", NUMBER).status_code == 200
    assert companies.requests().tokens == 2


def test_a_token_expires(tmp_path: Path) -> None:
    with companies_module.running(tmp_path, token_lifetime=0.2) as short_lived:
        headers = {"Authorization": f"Bearer {token(short_lived)}"}
        url = f"{short_lived.base_url('gamma')}/people/{NUMBER}"
        until = time.monotonic() + 10
        while httpx.get(url, headers=headers).status_code != 401:
            assert time.monotonic() < until


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.SERVER_ERROR, 500), (Fault.UNAUTHORIZED, 401), (Fault.TOO_MANY_REQUESTS, 429)],
)
def test_a_fault_that_is_a_status(companies: Companies, source: Source, fault: Fault, status: int) -> None:
    companies.behave(source, by_number={NUMBER: Behaviour(fault=fault)})
    assert ask(companies, source, NUMBER).status_code == status
    assert ask(companies, source, STRANGER).status_code != status


@pytest.mark.parametrize("source", SOURCES)
def test_faults_in_a_body(companies: Companies, source: Source) -> None:
    companies.behave(source, by_number={NUMBER: Behaviour(fault=Fault.MALFORMED_JSON)})
    with pytest.raises(ValueError, match="Expecting"):
        ask(companies, source, NUMBER).json()
    companies.behave(source, by_number={NUMBER: Behaviour(fault=Fault.WRONG_SCHEMA)})
    assert ask(companies, source, NUMBER).json() != KNOWN[source]
    companies.behave(source, by_number={NUMBER: Behaviour(fault=Fault.WRONG_NUMBER)})
    answer = ask(companies, source, NUMBER)
    assert answer.status_code == 200
    assert answer.json() != KNOWN[source]
    assert NUMBER.removeprefix("+") not in answer.text


@pytest.mark.parametrize("source", SOURCES)
def test_faults_of_the_connection(companies: Companies, source: Source) -> None:
    companies.behave(source, by_number={NUMBER: Behaviour(fault=Fault.TIMEOUT)})
    with pytest.raises(httpx.ReadTimeout):
        ask(companies, source, NUMBER, read_timeout=0.3)
    for fault in (Fault.HALF_BODY, Fault.CONNECTION_CLOSED):
        companies.behave(source, by_number={NUMBER: Behaviour(fault=fault)})
        with pytest.raises(httpx.RemoteProtocolError):
            ask(companies, source, NUMBER)


def test_a_slow_drip_never_ends_and_never_pauses_for_long(companies: Companies) -> None:
    companies.behave("alpha", by_number={NUMBER: Behaviour(fault=Fault.SLOW_DRIP)})
    headers = {"X-Api-Key": CREDENTIALS["alpha"]["apiKey"]}
    url = f"{companies.base_url('alpha')}/customers"
    with httpx.stream("GET", url, params={"phone": NUMBER}, headers=headers, timeout=2) as answer:
        bytes_come = answer.iter_raw()
        assert [next(bytes_come) for _ in range(5)] == [b" "] * 5


def test_gamma_gives_no_token_while_the_whole_company_is_down(companies: Companies) -> None:
    companies.behave("gamma", Behaviour(fault=Fault.SERVER_ERROR))
    url = f"{companies.base_url('gamma')}/oauth/token"
    answer = httpx.post(url, data={"grant_type": "client_credentials"}, auth=basic("gamma"))
    assert answer.status_code == 500


def test_the_usual_behaviour_and_its_exceptions(companies: Companies) -> None:
    companies.behave("beta", Behaviour(fault=Fault.SERVER_ERROR), {NUMBER: Behaviour()})
    assert ask(companies, "beta", STRANGER).status_code == 500
    assert ask(companies, "beta", NUMBER).status_code == 200


def test_requests_are_counted_by_company_and_number(companies: Companies) -> None:
    for _ in range(3):
        ask(companies, "alpha", NUMBER)
    ask(companies, "beta", STRANGER)
    assert companies.requests().lookups == {"alpha": {NUMBER: 3}, "beta": {STRANGER: 1}, "gamma": {}}


def test_300_requests_are_held_side_by_side(companies: Companies) -> None:
    companies.behave("alpha", Behaviour(fault=Fault.TIMEOUT))
    numbers = [f"+3363997{n:04}" for n in range(300)]
    headers = {"X-Api-Key": CREDENTIALS["alpha"]["apiKey"]}

    async def all_are_held() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=None, headers=headers) as http:  # noqa: S113
            url = f"{companies.base_url('alpha')}/customers"
            held = [asyncio.create_task(http.get(url, params={"phone": number})) for number in numbers]
            while companies.requests().lookups["alpha"] != dict.fromkeys(numbers, 1):
                await asyncio.sleep(0.1)
            assert not any(task.done() for task in held)
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)

    asyncio.run(asyncio.wait_for(all_are_held(), timeout=60))
    # They were not only accepted: a new request is still answered.
    companies.behave("alpha", Behaviour())
    assert ask(companies, "alpha", NUMBER).status_code == 200
