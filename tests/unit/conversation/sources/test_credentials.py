"""Credentials: trimmed, named when they cannot be sent, read again if refused, kept while nobody answers."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from botocore import exceptions
from botocore.stub import Stubber
from moto import mock_aws

from conversation import aws
from conversation.errors import SourceUnavailable
from conversation.observability import logger
from conversation.sources import alpha, beta, credentials, gamma
from conversation.sources.client import SourceClient, run_within
from tests.support.companies import NUMBER, PROTOCOLS, Company

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

type MakeCompany = Callable[..., Company]
SECRETS: dict[str, type[Any]] = {"alpha": alpha.Secret, "beta": beta.Secret, "gamma": gamma.Secret}


# --- what is sent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", [" ", "\n", "\r\n", "\t", "\u00a0", "\ufeff", "\u200b", " \ufeff\n "])
@pytest.mark.parametrize("source", PROTOCOLS)
def test_what_surrounds_a_credential_is_stripped(source: str, around: str) -> None:
    fields = SECRETS[source]._fields
    text = json.dumps(dict.fromkeys(fields, f"{around}in side{around}"))
    assert credentials.parse(text, SECRETS[source]) == SECRETS[source](**dict.fromkeys(fields, "in side"))


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "7", '"apiKey"', "[]", '["apiKey"]', "{}", '{"apiKey": null}', '{"apiKey": 7}',
        '{"apiKey": true}', '{"apiKey": ["x"]}', '{"apiKey": {}}', '{"apiKey": ""}', r'{"apiKey": " \u200b"}',
        '{"apikey": "x"}', '{"apiKey": "x",}', r'{"apiKey": "\ud800"}', '{"apiKey": "a\nb"}', "[" * 100_000,
        '{"apiKey": "x", "other": ' + "9" * 10_000 + "}",
    ],
)  # fmt: skip
def test_what_is_no_secret(text: str) -> None:
    assert credentials.parse(text, alpha.Secret) is None


@pytest.mark.parametrize(
    "text", ['{"apiKey": "x"}', '{"apiKey": "x", "note": null}', '{"note": {"a": [1.5, NaN]}, "apiKey": "x"}']
)
def test_a_secret_may_hold_more_than_is_asked_for(text: str) -> None:
    assert credentials.parse(text, alpha.Secret) == alpha.Secret(apiKey="x")


@pytest.mark.parametrize("source", PROTOCOLS)
@pytest.mark.parametrize("bad", ["hunter2\x00", "hun\nter2", "hun\x7fter2", "hun\ud800ter2", "hun\x85ter2"])
def test_a_credential_that_cannot_be_sent_is_the_credentials_fault(
    source: str, bad: str, company: MakeCompany
) -> None:
    asked = company()
    fields = SECRETS[source]._fields
    for field in fields:
        values: dict[str, Any] = {**dict.fromkeys(fields, "good"), field: f"x{bad}x"}
        secret = SECRETS[source](**values)
        client = SourceClient(source, f"https://{source}.example")
        with pytest.raises(SourceUnavailable) as refusal:
            run_within(source, 5, PROTOCOLS[source].look_up(client, secret, NUMBER))
        assert (
            str(refusal.value)
            == f"{source} was not asked: fill its secret again, {field} has a control character"
        )
    assert asked.lookups == asked.token_requests == []


def test_what_http_basic_cannot_carry_is_said_too(company: MakeCompany) -> None:
    company()
    secret = beta.Secret(username="a:b", password="hunter2")  # noqa: S106 - opens nothing
    with pytest.raises(SourceUnavailable, match=r"^beta was not asked: .*username$"):
        run_within("beta", 5, beta.look_up(SourceClient("beta", "https://beta.example"), secret, NUMBER))


@pytest.mark.parametrize("user", ["müller", "100%", "a b", "a+b", "👋"])
def test_betas_credentials_go_as_they_are(user: str, company: MakeCompany) -> None:
    asked = company(PROTOCOLS["beta"].knows())
    secret = beta.Secret(username=user, password=f"{user}:{user}")
    client = SourceClient("beta", "https://beta.example")
    assert run_within("beta", 5, beta.look_up(client, secret, NUMBER)) is not None
    [request] = asked.lookups
    assert request.headers["authorization"] == httpx.BasicAuth(user, f"{user}:{user}")._auth_header


# --- Secrets Manager ---------------------------------------------------------------------------------------


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator["SecretsManagerClient"]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        credentials._known.clear()
        client = boto3.client("secretsmanager")
        client.create_secret(Name="alpha", SecretString='{"apiKey": "first"}')
        yield client
        credentials._known.clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    moved = SimpleNamespace(forward=0.0)
    moved.monotonic = lambda: time.monotonic() + moved.forward
    monkeypatch.setattr(credentials, "time", moved)
    return moved


def read(*, refused: bool = False) -> str:
    return asyncio.run(credentials.read("alpha", "alpha", alpha.Secret, refused=refused)).secret.apiKey


def client_error(code: str, status: int) -> Callable[[Stubber], None]:
    return lambda stub: stub.add_client_error("get_secret_value", code, http_status_code=status)


PASSING = [
    ("InternalServiceError", 500), ("InternalFailure", 500), ("ServiceUnavailable", 503), ("502", 502),
    ("ThrottlingException", 400), ("Throttling", 400), ("TooManyRequestsException", 429), ("", 504),
    ("RequestLimitExceeded", 400), ("RequestTimeout", 400),
]  # fmt: skip
FINAL = [
    ("AccessDeniedException", 400), ("AccessDenied", 403), ("DecryptionFailure", 400),
    ("InvalidRequestException", 400), ("UnrecognizedClientException", 400),
]  # fmt: skip


@pytest.mark.parametrize(("code", "status"), PASSING)
def test_what_passes_leaves_the_last_value(
    code: str, status: int, secrets: "SecretsManagerClient", clock: SimpleNamespace
) -> None:
    assert read() == "first"
    secrets.put_secret_value(SecretId="alpha", SecretString='{"apiKey": "second"}')
    clock.forward = 301
    with Stubber(aws.secrets_manager()) as stub:
        client_error(code, status)(stub)
        assert read() == "first"
        assert read() == "first", "Secrets Manager is not asked at every call meanwhile"
    clock.forward = 312
    assert read() == "second"


@pytest.mark.parametrize(("code", "status"), FINAL)
def test_what_is_final_forgets_the_last_value(
    code: str, status: int, secrets: "SecretsManagerClient", clock: SimpleNamespace
) -> None:
    assert read() == "first"
    clock.forward = 301
    with Stubber(aws.secrets_manager()) as stub:
        for _ in range(2):
            client_error(code, status)(stub)
            with pytest.raises(SourceUnavailable, match=r"^the secret of alpha cannot be read$"):
                read()
    assert read() == "first"
    del secrets


@pytest.mark.parametrize(
    "error",
    [
        exceptions.EndpointConnectionError(endpoint_url="https://x"),
        exceptions.ConnectTimeoutError(endpoint_url="https://x"),
        exceptions.ReadTimeoutError(endpoint_url="https://x"),
        exceptions.ConnectionClosedError(endpoint_url="https://x"),
        exceptions.SSLError(endpoint_url="https://x", error=OSError()),
        exceptions.HTTPClientError(error="x"),
    ],
)
def test_a_network_that_fails_leaves_the_last_value(
    error: Exception, secrets: "SecretsManagerClient", clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_secret_id: str) -> str:
        raise error

    assert read() == "first"
    clock.forward = 301
    with monkeypatch.context() as patch:
        patch.setattr(credentials, "_get", fail)
        assert read() == "first"
    credentials._known.clear()
    with monkeypatch.context() as patch:
        patch.setattr(credentials, "_get", fail)
        with pytest.raises(SourceUnavailable, match=r"^the secret of alpha cannot be read$"):
            read()
    del secrets


def test_after_a_refusal_it_is_read_before_its_time_but_not_at_every_call(
    secrets: "SecretsManagerClient", clock: SimpleNamespace
) -> None:
    assert read() == "first"
    secrets.put_secret_value(SecretId="alpha", SecretString='{"apiKey": "second"}')
    assert read(refused=True) == "first", "it was read a moment ago"
    clock.forward = 11
    assert read() == "first"
    assert read(refused=True) == "second"
    assert read() == "second"


def test_a_secret_may_begin_with_a_byte_order_mark_and_be_binary(secrets: "SecretsManagerClient") -> None:
    secrets.put_secret_value(SecretId="alpha", SecretString='\ufeff{"apiKey": "marked"}')
    assert read() == "marked"
    credentials._known.clear()
    secrets.put_secret_value(SecretId="alpha", SecretBinary=b'{"apiKey": "binary"}')
    assert read() == "binary"


def test_a_secret_without_a_value_says_what_to_fill_in(secrets: "SecretsManagerClient") -> None:
    """As the template makes it."""
    secrets.delete_secret(SecretId="alpha", ForceDeleteWithoutRecovery=True)
    secrets.create_secret(Name="alpha")
    fill = r"^fill the secret of alpha with a JSON object of apiKey$"
    with pytest.raises(SourceUnavailable, match=fill):
        read()
    secrets.put_secret_value(SecretId="alpha", SecretString='{"apiKey": "filled"}')
    assert read() == "filled"


@pytest.mark.parametrize("content", ['{"apiKey": "second",}', '{"api_key": "second"}', "second"])
def test_an_invalid_value_leaves_the_one_before_it_in_use(
    content: str, secrets: "SecretsManagerClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody edits it by hand: the caller is recognised, and the log says that it is wrong."""
    secrets.put_secret_value(SecretId="alpha", SecretString=content)
    logged = list[str]()
    monkeypatch.setattr(logger, "error", logged.append)
    assert read() == "first"
    assert logged == ["the secret's current value is invalid; the one before it goes on"]
    secrets.put_secret_value(SecretId="alpha", SecretString='{"apiKey": "third"}')
    credentials.forget()
    assert read() == "third"


def test_the_value_before_an_invalid_one_may_be_out_of_reach(
    secrets: "SecretsManagerClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets.put_secret_value(SecretId="alpha", SecretString="{}")
    get = credentials._get

    def fail_for_the_previous(secret_id: str, stage: str = "AWSCURRENT") -> str:
        if stage == "AWSCURRENT":
            return get(secret_id)
        raise exceptions.ReadTimeoutError(endpoint_url="https://x")

    monkeypatch.setattr(credentials, "_get", fail_for_the_previous)
    with pytest.raises(SourceUnavailable, match=r"^fill the secret of alpha"):
        read()
