"""Connections that died while a function was frozen: who calls after a quiet hour waits for none of them.

Over real connections, as whoever holds the other end, and whatever is on the way, may end them.
"""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conversation import aws, http_client, idle, timestamps
from conversation.connections import tls
from conversation.errors import SourceUnavailable
from conversation.sources import gamma, shared_token
from journeys.crm import CrmUnavailable
from tests.support.cloud import Cloud, wait_until
from tests.support.companies import JEAN, PROTOCOLS
from tests.support.company_cloud import close_connections
from tests.support.crm import leave_note
from tests.support.keeping_server import Answer, Asked, Fate, KeepingServer, certified, keeping_server
from tests.support.raw_server import http

TOKEN = http(b'{"access_token": "t", "expires_in": 3600}')
ENOUGH_SECONDS = 6.0
NONE_AT_ALL = (Fate.CLOSED, Fate.RESET)


@pytest.fixture(autouse=True)
def _nothing_from_before() -> Iterator[None]:
    gamma.forget()
    close_connections()
    yield
    close_connections()
    gamma.forget()


@dataclass(frozen=True)
class Service:
    """One of the four services, and what it answers well."""

    name: str
    good: bytes
    ask: Callable[[str], object]
    error: type[Exception]


def company(source: str) -> Service:
    def ask(url: str) -> object:
        return PROTOCOLS[source].ask(base_url=url, seconds=ENOUGH_SECONDS)

    return Service(
        source, http(json.dumps(PROTOCOLS[source].document(JEAN)).encode()), ask, SourceUnavailable
    )


def ask_crm(url: str) -> object:
    return leave_note(url, seconds=ENOUGH_SECONDS)


CRM = Service("CRM", http(b'{"noteId": "N-1"}'), ask_crm, CrmUnavailable)
SERVICES = [*map(company, ("alpha", "beta", "gamma")), CRM]
ALPHA, GAMMA = SERVICES[0], SERVICES[2]
every_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
every_end = pytest.mark.parametrize("fate", NONE_AT_ALL, ids=lambda fate: fate.name)


def answering(service: Service, then: Callable[[Asked], Answer] | None = None) -> Callable[[Asked], Answer]:
    """Answer well; over a connection that has answered the service itself before, as `then` says."""
    served: set[int] = set()

    def script(asked: Asked) -> Answer:
        if asked.content.startswith(b"POST /oauth/token"):
            return TOKEN
        if then is not None and asked.connection in served:
            return then(asked)
        served.add(asked.connection)
        return service.good

    return script


def own(server: KeepingServer) -> list[int]:
    """Over which connections the service itself was asked, tokens apart."""
    return [one.connection for one in server.asked if not one.content.startswith(b"POST /oauth/token")]


# --- companies and CRM: what a kept connection may come to -------------------------------------------------


@every_service
def test_a_connection_is_kept(service: Service) -> None:
    with keeping_server(answering(service)) as server:
        for _ in range(3):
            assert service.ask(server.url)
    assert own(server) == [0, 0, 0]


@every_service
@every_end
def test_one_that_was_closed_meanwhile_is_not_used(service: Service, fate: Fate) -> None:
    with keeping_server(answering(service)) as server:
        assert service.ask(server.url)
        server.end(0, fate)
        assert service.ask(server.url)
    assert own(server) == [0, 1], "and nobody is asked twice"


def get(server: KeepingServer) -> int:
    """Ask with one try."""
    return http_client.run_within(ENOUGH_SECONDS, http_client.send("GET", server.url)).status


@every_end
def test_one_that_was_closed_meanwhile_costs_no_try(fate: Fate) -> None:
    with keeping_server(lambda _: http(b"{}")) as server:
        assert get(server) == 200
        server.end(0, fate)
        assert get(server) == 200


@every_end
def test_one_that_was_closed_while_everything_was_frozen_costs_no_try(fate: Fate) -> None:
    """The next request is there as soon as the news that the connection is over."""
    loop: Any = http_client._loop()
    frozen, thaw = threading.Event(), threading.Event()

    def freeze() -> None:
        frozen.set()
        thaw.wait(30)

    with keeping_server(lambda _: http(b"{}")) as server, ThreadPoolExecutor(1) as caller:
        assert get(server) == 200
        loop.call_soon_threadsafe(freeze)
        assert frozen.wait(30)
        before = len(loop._ready)
        server.end(0, fate)
        asking = caller.submit(get, server)
        wait_until(lambda: len(loop._ready) > before)
        thaw.set()
        assert asking.result(30) == 200


@every_service
@every_end
def test_one_that_is_closed_when_it_is_used_is_replaced(service: Service, fate: Fate) -> None:
    with keeping_server(answering(service, lambda _: fate)) as server:
        assert service.ask(server.url)
        assert service.ask(server.url)
    assert own(server) == [0, 0, 1]


@every_service
def test_one_that_swallows_requests_costs_a_moment_and_not_the_budget(service: Service) -> None:
    with keeping_server(answering(service, lambda _: Fate.SWALLOWED)) as server:
        assert service.ask(server.url)
        assert service.ask(server.url)
        wait_until(lambda: server.closed_by_client == [0])  # by the client, which has no use for it any more
    assert own(server) == [0, 0, 1]


@every_service
@every_end
def test_a_service_that_closes_every_connection_is_asked_twice_and_no_more(
    service: Service, fate: Fate
) -> None:
    unreachable = f"^(the )?{service.name} could not be reached"
    with (
        keeping_server(lambda asked: TOKEN if b"/oauth/token" in asked.content else fate) as server,
        pytest.raises(service.error, match=unreachable),
    ):
        service.ask(server.url)
    assert len(own(server)) == 2


def test_a_token_that_is_swallowed_is_asked_for_anew() -> None:
    """The kept connection dies between a person and the next token."""

    def script(asked: Asked) -> Answer:
        if asked.number > 1:
            return Fate.SWALLOWED
        return TOKEN if b"/oauth/token" in asked.content else GAMMA.good

    with keeping_server(script) as server:
        assert GAMMA.ask(server.url)
        gamma.forget()
        assert GAMMA.ask(server.url)
    assert server.places(b"/oauth/token") == [(0, 0), (0, 2), (1, 0)]


@pytest.mark.parametrize("service", [GAMMA, CRM], ids=lambda service: service.name)
def test_what_must_not_be_on_its_way_twice_is_given_up_first(service: Service) -> None:
    """The last token that was granted is the one that lives; a CRM may refuse a key that it works on."""
    given_up: list[list[int]] = []

    def script(asked: Asked) -> Answer:
        if asked.connection > 0:
            wait_until(lambda: 0 in server.closed_by_client)
            given_up.append(list(server.closed_by_client))
        elif asked.number >= (1 if service is CRM else 2):
            return Fate.SWALLOWED
        return TOKEN if b"/oauth/token" in asked.content else service.good

    with keeping_server(script) as server:
        assert service.ask(server.url)
        gamma.forget()
        assert service.ask(server.url)
    assert given_up[0] == [0]


def test_a_company_that_is_merely_slow_is_heard_out() -> None:
    """It answers on the old connection while the new one is silent: whoever answers first counts."""
    second_came = threading.Event()

    def script(asked: Asked) -> Answer:
        if asked.connection == 1:
            second_came.set()
            return Fate.SWALLOWED
        if asked.number == 1:
            assert second_came.wait(30)
        return ALPHA.good

    with keeping_server(script) as server:
        assert ALPHA.ask(server.url)
        assert ALPHA.ask(server.url)
        wait_until(lambda: 1 in server.closed_by_client)
        assert ALPHA.ask(server.url), "the connection that answered is kept"
    assert server.places() == [(0, 0), (0, 1), (1, 0), (0, 2)]


def test_a_company_that_always_takes_its_time_is_asked_once() -> None:
    """Silence is suspicious when it is longer than answers usually take."""
    pause = threading.Event()

    def script(_asked: Asked) -> Answer:
        pause.wait(1.5)  # more than what is suspicious in a company that answers at once
        return ALPHA.good

    with keeping_server(script) as server:
        for _ in range(3):
            assert ALPHA.ask(server.url)
    assert server.places() == [(0, 0), (0, 1), (0, 2)]


def test_when_one_has_died_those_of_its_age_are_given_up_too() -> None:
    both = threading.Barrier(2)

    def script(asked: Asked) -> Answer:
        if asked.connection < 2 and asked.number > 0:
            return Fate.SWALLOWED
        if asked.connection < 2:
            both.wait(30)
        return ALPHA.good

    with keeping_server(script) as server:
        with ThreadPoolExecutor(2) as threads:
            assert all(threads.map(ALPHA.ask, [server.url, server.url]))
        assert ALPHA.ask(server.url)
        assert ALPHA.ask(server.url)
        wait_until(lambda: sorted(server.closed_by_client) == [0, 1])
    swallowed = [one for one in server.places() if one in {(0, 1), (1, 1)}]
    assert len(swallowed) == 1
    assert server.places()[3:] == [(2, 0), (2, 1)]


def test_what_nobody_has_asked_for_is_no_answer() -> None:
    """Some servers say 408 before they close an idle connection."""
    with keeping_server(answering(ALPHA)) as server:
        assert ALPHA.ask(server.url)
        server.say(0, http(b"{}", status="408 Request Timeout"))
        wait_until(lambda: server.closed_by_client == [0])
        assert ALPHA.ask(server.url)
    assert server.places() == [(0, 0), (1, 0)]


def later(seconds: float, work: Callable[[], object]) -> object:
    """Do something so many seconds later by the clock on the wall."""
    context = copy_context()
    context.run(timestamps.clock.set, lambda: datetime.now(UTC) + timedelta(seconds=seconds))
    return context.run(work)


@every_service
@pytest.mark.parametrize("seconds", [idle.TRUSTED_SECONDS + 1, 3_600, -3_600])
def test_one_that_was_idle_for_long_is_not_trusted(service: Service, seconds: float) -> None:
    """It may be alive, and nobody could tell; nor is it younger when the clock was set back."""
    with keeping_server(answering(service)) as server:
        assert service.ask(server.url)
        gamma._tokens.clear()
        assert later(seconds, lambda: service.ask(server.url))
        wait_until(lambda: server.closed_by_client == [0])
    assert own(server) == [0, 1]


@every_service
def test_one_that_was_idle_for_a_while_is(service: Service) -> None:
    with keeping_server(answering(service)) as server:
        assert service.ask(server.url)
        assert later(idle.TRUSTED_SECONDS - 5, lambda: service.ask(server.url))
    assert own(server) == [0, 0]


# --- the same with TLS, where an end may come with a word of its own ---------------------------------------


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """What makes a server https; its certificate is trusted for the length of the test."""
    context, certificate = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    tls.cache_clear()
    yield context
    tls.cache_clear()


@every_service
@pytest.mark.parametrize("fate", Fate, ids=lambda fate: fate.name)
def test_with_tls_too(service: Service, fate: Fate, trusted: ssl.SSLContext) -> None:
    with keeping_server(answering(service, lambda _: fate), trusted) as server:
        assert service.ask(server.url)
        assert service.ask(server.url)
    assert own(server) == [0, 0, 1]


@every_end
def test_with_tls_one_that_was_closed_meanwhile_is_not_used(fate: Fate, trusted: ssl.SSLContext) -> None:
    with keeping_server(answering(ALPHA), trusted) as server:
        assert ALPHA.ask(server.url)
        server.end(0, fate)
        assert ALPHA.ask(server.url)
    assert own(server) == [0, 1]


def test_nobody_is_asked_whose_certificate_is_not_trusted(tmp_path: Path) -> None:
    context, _ = certified(tmp_path)
    with (
        keeping_server(answering(ALPHA), context) as server,
        pytest.raises(SourceUnavailable, match=r"^alpha could not be reached \(SSLCertVerificationError\)$"),
    ):
        ALPHA.ask(server.url)
    assert server.asked == []


# --- AWS ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call of a service, and an answer to it."""

    client: Callable[[], Any]
    operation: str
    arguments: dict[str, Any]
    answer: dict[str, Any]

    def __call__(self) -> Any:
        return getattr(self.client(), self.operation)(**self.arguments)


KEY = {"conversationId": {"S": "6c5c"}}
READ = Call(aws.dynamodb, "get_item", {"TableName": "T", "Key": KEY}, {"Item": KEY})
CALLS = {
    "DynamoDB": READ,
    "SQS": Call(
        aws.sqs,
        "send_message",
        {"QueueUrl": "https://sqs.example/1/q", "MessageBody": "{}"},
        {"MessageId": "1"},
    ),
    "Scheduler": Call(aws.schedules, "delete_schedule", {"GroupName": "timers", "Name": "a"}, {}),
    "Secrets Manager": Call(
        aws.secrets_manager, "get_secret_value", {"SecretId": "alpha"}, {"SecretString": "{}"}
    ),
    "shared tokens": Call(shared_token._dynamodb, "get_item", {"TableName": "T", "Key": KEY}, {"Item": KEY}),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[KeepingServer], None]]:
    """Lets a server stand for all of AWS, for clients that are made for the test."""
    factories = (
        aws.dynamodb, aws.step_functions, aws.secrets_manager, aws.sqs, aws.schedules, shared_token._dynamodb,
    )  # fmt: skip

    def forget() -> None:
        for factory in factories:
            factory.cache_clear()

    forget()
    yield lambda server: monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    forget()


def answered(call: Call, then: Callable[[Asked], Answer] | None = None) -> Callable[[Asked], Answer]:
    def script(asked: Asked) -> Answer:
        if then is not None and asked.number > 0:
            return then(asked)
        return http(json.dumps(call.answer).encode())

    return script


@every_call
@every_end
def test_a_call_after_a_quiet_hour_finds_another_connection(
    call: Call, fate: Fate, endpoint: Callable[[KeepingServer], None]
) -> None:
    with keeping_server(answered(call, lambda _: fate)) as server:
        endpoint(server)
        assert call()
        assert call()
        server.end(1, fate)
        assert call()
    assert server.places() == [(0, 0), (0, 1), (1, 0), (2, 0)]


@every_call
def test_a_call_that_is_swallowed_is_made_again_over_a_new_connection(
    call: Call, endpoint: Callable[[KeepingServer], None]
) -> None:
    with keeping_server(answered(call, lambda _: Fate.SWALLOWED)) as server:
        endpoint(server)
        assert call()
        assert call()
    assert server.places() == [(0, 0), (0, 1), (1, 0)]


@every_call
def test_a_connection_to_aws_that_was_idle_for_long_is_not_trusted(
    call: Call, endpoint: Callable[[KeepingServer], None]
) -> None:
    with keeping_server(answered(call)) as server:
        endpoint(server)
        assert call()
        assert later(idle.TRUSTED_SECONDS - 5, call)
        assert later(2 * idle.TRUSTED_SECONDS, call)
        wait_until(lambda: server.closed_by_client == [0])
    assert server.places() == [(0, 0), (0, 1), (1, 0)]


def test_of_two_connections_to_aws_that_died_a_call_finds_one(
    endpoint: Callable[[KeepingServer], None],
) -> None:
    """There are two tries, and urllib3 makes the second over a new connection, whatever else is kept."""
    both = threading.Barrier(2)

    def script(asked: Asked) -> Answer:
        if asked.connection < 2 and asked.number > 0:
            return Fate.SWALLOWED
        if asked.connection < 2:
            both.wait(30)
        return http(json.dumps(READ.answer).encode())

    with keeping_server(script) as server:
        endpoint(server)
        READ.client()
        with ThreadPoolExecutor(2) as threads:
            assert all(threads.map(lambda _: READ(), range(2)))
        assert READ()
    assert len(server.asked) == 4
    assert server.places()[-1] == (2, 0)


@every_end
def test_with_tls_a_call_finds_another_connection_too(
    fate: Fate, endpoint: Callable[[KeepingServer], None], trusted: ssl.SSLContext
) -> None:
    with keeping_server(answered(READ, lambda _: fate), trusted) as server:
        endpoint(server)
        assert READ()
        assert READ()
    assert server.places() == [(0, 0), (0, 1), (1, 0)]


# --- StartExecution, which the SDK does not repeat ---------------------------------------------------------

STARTED = http(json.dumps({"executionArn": "arn:aws:states:1", "startDate": 1}).encode())


@pytest.fixture
def step_functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[KeepingServer], None]]:
    """Lets a server stand for Step Functions alone; the table is moto's."""
    aws.step_functions.cache_clear()
    yield lambda server: monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", server.url)
    aws.step_functions.cache_clear()


@pytest.mark.parametrize("with_tls", [False, True])
@every_end
def test_a_start_after_a_quiet_hour_is_a_start(
    fate: Fate,
    with_tls: bool,
    cloud: Cloud,
    step_functions: Callable[[KeepingServer], None],
    request: pytest.FixtureRequest,
) -> None:
    context = request.getfixturevalue("trusted") if with_tls else None
    with keeping_server(lambda asked: STARTED if asked.number == 0 else fate, context) as server:
        step_functions(server)
        assert cloud.start("6c5c").status == 202
        assert cloud.start("7d6d").status == 202
    assert server.places() == [(0, 0), (0, 1), (1, 0)]


@every_end
def test_a_start_is_repeated_once(
    fate: Fate, cloud: Cloud, step_functions: Callable[[KeepingServer], None]
) -> None:
    with keeping_server(lambda _: fate) as server:
        step_functions(server)
        refused = cloud.start("6c5c")
    assert refused.status == 503
    assert refused.headers["Retry-After"] == "1"
    assert len(server.asked) == 2


def test_a_start_that_was_closed_late_has_no_time_for_another(
    cloud: Cloud, step_functions: Callable[[KeepingServer], None]
) -> None:
    pause = threading.Event()

    def script(_asked: Asked) -> Answer:
        pause.wait(aws.CLOSED_WITHIN_SECONDS + 0.3)
        return Fate.CLOSED

    with keeping_server(script) as server:
        step_functions(server)
        assert cloud.start("6c5c").status == 503
    assert len(server.asked) == 1


def test_a_start_that_is_swallowed_is_not_repeated(
    cloud: Cloud, step_functions: Callable[[KeepingServer], None]
) -> None:
    """Nobody knows whether it was begun, and there is no time for a second; the IVR repeats it."""
    with keeping_server(lambda _: Fate.SWALLOWED) as server:
        step_functions(server)
        assert cloud.start("6c5c").status == 503
        wait_until(lambda: server.closed_by_client == [0])
    assert len(server.asked) == 1


def test_a_start_over_a_connection_that_was_idle_for_long_takes_another(
    cloud: Cloud, step_functions: Callable[[KeepingServer], None]
) -> None:
    with keeping_server(lambda asked: STARTED if asked.number == 0 else Fate.SWALLOWED) as server:
        step_functions(server)
        assert cloud.start("6c5c").status == 202
        later(idle.TRUSTED_SECONDS + 1, lambda: cloud.start("7d6d"))
    assert server.places() == [(0, 0), (1, 0)]
