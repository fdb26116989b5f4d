"""Execution environments share gamma's token: who reads, who renews, who waits, and what each costs."""

import asyncio
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from moto import mock_aws

from conversation import timestamps
from conversation.errors import SourceUnavailable
from conversation.sources import gamma, shared_token
from conversation.sources.client import SourceClient, run_within
from conversation.sources.identity import Identity
from tests.support.companies import NUMBER, PROTOCOLS, Company, token

GAMMA = PROTOCOLS["gamma"]
TABLE = "SourceTokens"
DEAD = 401
type MakeCompany = Callable[..., Company]


class Store:
    """The table, and how often each of its operations was called; `fail` is what it does instead."""

    def __init__(self) -> None:
        self.client = boto3.client("dynamodb")
        self.calls: Counter[str] = Counter()
        self.fail: Callable[[str], None] = lambda _operation: None
        self._one_at_a_time = threading.Lock()

    def get_item(self, **arguments: Any) -> Any:
        return self._call("get_item", arguments)

    def update_item(self, **arguments: Any) -> Any:
        return self._call("update_item", arguments)

    def _call(self, operation: str, arguments: Any) -> Any:
        self.calls[operation] += 1
        self.fail(operation)
        with self._one_at_a_time:  # moto lets two calls interleave, where DynamoDB is atomic
            return getattr(self.client, operation)(**arguments)

    @property
    def items(self) -> list[Any]:
        return self.client.scan(TableName=TABLE)["Items"]

    def took(self) -> dict[str, int]:
        """The calls since the last time."""
        calls, self.calls = dict(self.calls), Counter()
        return calls


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        made = Store()
        made.client.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "source", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "source", "AttributeType": "S"}],
        )
        monkeypatch.setattr(shared_token, "_dynamodb", lambda: made)
        yield made


def ask(
    secret: gamma.Secret | None = None, *, url: str = "https://gamma.example", seconds: float = 6
) -> tuple[Identity | None, Counter[str]]:
    """A lookup in the execution environment that remembers what `gamma._tokens` does."""
    client = SourceClient("gamma", url, TABLE)
    return run_within("gamma", seconds, GAMMA.look_up(client, secret or GAMMA.secret, NUMBER)), client.counted


def new_environment() -> None:
    gamma._tokens.clear()


def bearers(company: Company) -> list[str]:
    return [request.headers["authorization"].removeprefix("Bearer ") for request in company.lookups]


# --- what it costs -----------------------------------------------------------------------------------------


def test_what_each_lookup_reads_and_writes(store: Store, company: MakeCompany) -> None:
    asked = company(*(GAMMA.knows() for _ in range(4)))
    ask()
    assert store.took() == {"get_item": 1, "update_item": 2}, "the first of all: a look, a claim, the token"
    for _ in range(2):
        ask()
    assert store.took() == {}, "a valid token in memory"
    new_environment()
    ask()
    assert store.took() == {"get_item": 1}, "another environment finds it"
    assert bearers(asked) == ["token-1"] * 4
    assert len(asked.token_requests) == 1


def test_what_the_table_holds(store: Store, company: MakeCompany) -> None:
    company(GAMMA.knows())
    ask()
    [item] = store.items
    now = timestamps.now().timestamp()
    assert set(item) == {"source", "token", "validUntil", "version", "expiresAt"}, "no claim is left"
    assert item["token"] == {"S": "token-1"}
    assert 260 < float(item["validUntil"]["N"]) - now < 271
    assert 3_600 < int(item["expiresAt"]["N"]) - now < 4_000
    for secret in (GAMMA.secret.clientId, GAMMA.secret.clientSecret):
        assert secret not in str(item)


# --- many at once ------------------------------------------------------------------------------------------


def test_of_many_that_have_none_one_asks(
    store: Store, company: MakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads stand for environments here, each of which remembers nothing."""
    monkeypatch.setattr(gamma, "_tokens", _Forgetful())
    others_wait = threading.Event()

    async def slowly(_request: httpx.Request) -> httpx.Response:
        await asyncio.to_thread(others_wait.wait, 10)
        return token("one")

    asked = company(*(GAMMA.knows() for _ in range(12)), token_replies=[slowly])
    with ThreadPoolExecutor(12) as threads:
        answers = [threads.submit(copy_context().run, ask) for _ in range(12)]
        while store.calls["get_item"] < 24:  # all have looked, and those that wait have looked again
            time.sleep(0.01)
        others_wait.set()
        assert all(answer.result(20)[0] is not None for answer in answers)
    assert bearers(asked) == ["one"] * 12
    assert len(asked.token_requests) == 1


class _Forgetful(dict[Any, Any]):
    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def test_a_dead_renewers_claim_runs_out(
    store: Store, company: MakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_token, "_CLAIM_SECONDS", 0.5)
    client = SourceClient("gamma", "https://gamma.example", TABLE)
    claim = shared_token._claim(client, gamma._key(client, GAMMA.secret), "", "one that died")
    assert run_within("gamma", 5, claim) is None
    asked = company(GAMMA.knows())
    assert ask()[0] is not None
    assert bearers(asked) == ["token-1"]
    assert store.calls["get_item"] > 2


def test_a_budget_bounds_the_wait_for_another(store: Store, company: MakeCompany) -> None:
    client = SourceClient("gamma", "https://gamma.example", TABLE)
    run_within("gamma", 5, shared_token._claim(client, gamma._key(client, GAMMA.secret), "", "another"))
    asked = company()
    with pytest.raises(SourceUnavailable, match=r"^gamma gave no answer within 0\.5 s$"):
        ask(seconds=0.5)
    assert asked.token_requests == []
    assert store.calls["get_item"] > 1


def test_who_fails_to_renew_leaves_it_to_the_next(store: Store, company: MakeCompany) -> None:
    asked = company(GAMMA.knows(), token_replies=[httpx.Response(400), token("one")])
    with pytest.raises(SourceUnavailable, match=r"^gamma answered 400$"):
        ask()
    store.took()
    assert ask()[0] is not None
    assert store.took()["get_item"] == 1, "no claim is left to run out"
    assert bearers(asked) == ["one"]


def test_who_renews_too_late_takes_what_another_has_got_since(
    store: Store, company: MakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_token, "_CLAIM_SECONDS", 0.2)

    async def while_another_renews(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.3)  # the claim runs out
        client = SourceClient("gamma", "https://gamma.example", TABLE)
        key = gamma._key(client, GAMMA.secret)

        async def issue() -> shared_token.Token:
            return shared_token.Token("newer", timestamps.now().timestamp() + 200)

        await shared_token.get(client, key, None, issue)
        return token("older")

    asked = company(GAMMA.knows(), GAMMA.knows(), token_replies=[while_another_renews])
    ask()
    new_environment()
    ask()
    assert bearers(asked) == ["newer", "newer"]
    assert [item["token"]["S"] for item in store.items] == ["newer"]


# --- a token that died -------------------------------------------------------------------------------------


def test_after_a_401_the_shared_one_is_tried_before_a_new_one(store: Store, company: MakeCompany) -> None:
    asked = company(GAMMA.knows(), httpx.Response(DEAD), GAMMA.knows(), httpx.Response(DEAD), GAMMA.knows())
    ask()
    mine = dict(gamma._tokens)
    ask()
    assert bearers(asked) == ["token-1", "token-1", "token-2"], "nobody had another one: it was asked for"
    gamma._tokens.clear()
    gamma._tokens.update(mine)  # another environment, which still has the first
    store.took()
    ask()
    assert bearers(asked)[3:] == ["token-1", "token-2"]
    assert len(asked.token_requests) == 2
    assert store.took() == {"get_item": 1}


def test_when_the_shared_one_is_dead_too_a_new_one_is_asked_for_once(
    store: Store, company: MakeCompany
) -> None:
    asked = company(
        GAMMA.knows(),
        httpx.Response(DEAD),
        GAMMA.knows(),
        *(httpx.Response(DEAD) for _ in range(3)),
    )
    ask()
    mine = dict(gamma._tokens)
    ask()
    gamma._tokens.clear()
    gamma._tokens.update(mine)
    with pytest.raises(SourceUnavailable, match=r"^gamma answered 401$"):
        ask()
    assert bearers(asked)[3:] == ["token-1", "token-2", "token-3"]
    del store


def test_one_death_is_renewed_once(
    store: Store, company: MakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten environments with the same dead token: one asks for another, which all of them get."""
    live = ["token-1"]

    async def person(request: httpx.Request) -> httpx.Response:
        bearer = request.headers["authorization"].removeprefix("Bearer ")
        return GAMMA.knows() if bearer == live[-1] else httpx.Response(DEAD)

    async def grant(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.2)
        live.append(f"token-{len(live) + 1}")
        return token(live[-1])

    asked = company(*(person for _ in range(40)), token_replies=[token("token-1"), *[grant] * 5])
    ask()
    remembered = dict(gamma._tokens)

    class Remembering(_Forgetful):
        def get(self, key: Any, default: Any = None) -> Any:
            return remembered.get(key, default)

        def pop(self, *_: Any) -> Any:
            return None

    monkeypatch.setattr(gamma, "_tokens", Remembering())
    live.append("token-2 of another client")
    with ThreadPoolExecutor(10) as threads:
        answers = [threads.submit(copy_context().run, ask) for _ in range(10)]
        assert all(answer.result(20)[0] is not None for answer in answers)
    assert len(asked.token_requests) == 2
    del store


# --- whose token it is -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"secret": gamma.Secret(clientId="gamma-client", clientSecret="rotated")},
        {"secret": gamma.Secret(clientId="another", clientSecret="gamma-secret")},
        {"secret": gamma.Secret(clientId="gamma-clientg", clientSecret="amma-secret")},
        {"url": "https://gamma-test.example"},
    ],
)
def test_a_token_serves_its_client_at_its_gamma_alone(
    other: dict[str, Any], store: Store, company: MakeCompany
) -> None:
    asked = company(*(GAMMA.knows() for _ in range(3)))
    ask()
    new_environment()
    ask(**other)
    new_environment()
    ask()
    assert bearers(asked) == ["token-1", "token-2", "token-1"]
    assert len(store.items) == 2


# --- a table that fails ------------------------------------------------------------------------------------


def throttle(operation: str) -> None:
    raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, operation)


def denied(operation: str) -> None:
    raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, operation)


def gone(_operation: str) -> None:
    raise EndpointConnectionError(endpoint_url="https://dynamodb.example")


def late(_operation: str) -> None:
    raise ReadTimeoutError(endpoint_url="https://dynamodb.example")


def hang(_operation: str) -> None:
    time.sleep(3)  # what hangs, longer than anybody waits for it


@pytest.mark.parametrize("fail", [throttle, denied, gone, late, hang])
@pytest.mark.parametrize("from_call", [1, 2, 3])
def test_a_table_that_fails_costs_nobody_an_answer(
    fail: Callable[[str], None],
    from_call: int,
    store: Store,
    company: MakeCompany,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_token, "_STORE_SECONDS", 0.3)

    def fail_from(operation: str) -> None:
        if store.calls.total() >= from_call:
            fail(operation)

    store.fail = fail_from
    asked = company(GAMMA.knows(), GAMMA.knows())
    found, counted = ask(seconds=5)
    assert found is not None
    assert counted["LookupTokenStoreUnavailable"] == 1
    assert ask(seconds=5)[0] is not None, "its own token serves it on"
    assert bearers(asked) == ["token-1", "token-1"]
    assert len(asked.token_requests) == 1


def test_an_issuer_that_fails_is_the_error_whatever_the_table_does(
    store: Store, company: MakeCompany
) -> None:
    company(token_replies=[httpx.Response(400)])

    def fail_at_the_release(_operation: str) -> None:
        if store.calls.total() >= 3:
            throttle("update_item")

    store.fail = fail_at_the_release
    with pytest.raises(SourceUnavailable, match=r"^gamma answered 400$"):
        ask()


def test_without_a_table_each_environment_has_its_own(company: MakeCompany) -> None:
    asked = company(GAMMA.knows(), GAMMA.knows())
    GAMMA.ask()
    new_environment()
    dataclasses.replace(GAMMA).ask()
    assert bearers(asked) == ["token-1", "token-2"]
