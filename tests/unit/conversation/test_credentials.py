"""Credentials: trimmed, read again or the ones before tried if refused, kept while nobody answers."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import exceptions
from botocore.stub import Stubber
from moto import mock_aws

from conversation import aws, credentials
from conversation.errors import SecretUnavailable
from conversation.observability import logger
from conversation.sources import alpha, beta, gamma
from tests.support.companies import PROTOCOLS

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

SECRETS: dict[str, type[Any]] = {"alpha": alpha.Secret, "beta": beta.Secret, "gamma": gamma.Secret}


# --- what a secret may hold --------------------------------------------------------------------------------


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


def read() -> str:
    return asyncio.run(credentials.read("alpha", "alpha", alpha.Secret)).secret.apiKey


class Refused(Exception):
    """The other side does not take the credentials."""


@dataclass
class OtherSide:
    """Takes some keys, and remembers which it was shown."""

    takes: set[str]
    shown: list[str] = field(default_factory=list)

    async def ask(self, held: credentials.Credentials[alpha.Secret]) -> str:
        key = held.secret.apiKey
        self.shown.append(key)
        if key not in self.takes:
            raise Refused
        return key

    def use(self) -> str:
        return asyncio.run(credentials.use("alpha", "alpha", alpha.Secret, self.ask, Refused))

    def refuses(self) -> bool:
        try:
            self.use()
        except Refused:
            return True
        return False


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
            with pytest.raises(SecretUnavailable, match=r"^the secret of alpha cannot be read$"):
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
        with pytest.raises(SecretUnavailable, match=r"^the secret of alpha cannot be read$"):
            read()
    del secrets


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of the secret's values was read."""
    counted: Counter[str] = Counter()
    get = credentials._get

    def count(secret_id: str, stage: str = "AWSCURRENT") -> str:
        counted[stage] += 1
        return get(secret_id, stage)

    monkeypatch.setattr(credentials, "_get", count)
    return counted


def put(secrets: "SecretsManagerClient", key: str) -> None:
    secrets.put_secret_value(SecretId="alpha", SecretString=json.dumps({"apiKey": key}))


def test_after_a_refusal_a_replaced_secret_is_read_at_once(
    secrets: "SecretsManagerClient", reads: Counter[str]
) -> None:
    """Also one that was read a moment before it was replaced."""
    company = OtherSide({"first"})
    assert company.use() == "first"
    put(secrets, "second")
    assert company.use() == "first", "both are taken while one replaces the other"
    company.takes = {"second"}
    assert company.use() == "second"
    assert company.use() == "second"
    assert company.shown == ["first", "first", "first", "second", "second"]
    assert reads == {"AWSCURRENT": 2}
    assert not credentials.is_previous("alpha", "alpha")


def test_a_value_that_is_not_taken_yet_leaves_the_one_before_it_in_use(
    secrets: "SecretsManagerClient",
    clock: SimpleNamespace,
    reads: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where there can be one credential only, the secret is written first and the other side follows."""
    logged = list[str]()
    monkeypatch.setattr(logger, "error", lambda text, **_more: logged.append(text))
    put(secrets, "second")
    company = OtherSide({"first"})
    assert [company.use() for _ in range(3)] == ["first"] * 3
    assert company.shown == ["second", *["first"] * 3], "what was taken is what is tried first from then on"
    assert logged == ["the secret's current value was refused; the one before it is tried"]
    assert reads == {"AWSCURRENT": 2, "AWSPREVIOUS": 1}
    assert credentials.is_previous("alpha", "alpha")
    company.takes = {"second"}
    assert [company.use() for _ in range(2)] == ["second"] * 2, "within ten seconds of the refusal before"
    assert company.shown[4:] == ["first", "second", "second"]
    assert not credentials.is_previous("alpha", "alpha")
    company.takes = {"first"}
    clock.forward = 301
    assert company.use() == "first", "a rotation that is undone at the other side"


def test_credentials_that_nobody_takes_are_tried_and_read_again_every_ten_seconds(
    secrets: "SecretsManagerClient", clock: SimpleNamespace, reads: Counter[str]
) -> None:
    """An account may be locked after so many refusals, and Secrets Manager throttles."""
    put(secrets, "second")
    company = OtherSide(set())
    for moment in range(0, 30, 2):
        clock.forward = moment
        assert company.refuses()
    assert reads == {"AWSCURRENT": 4, "AWSPREVIOUS": 3}
    assert Counter(company.shown) == {"second": 15, "first": 3}
    assert not credentials.is_previous("alpha", "alpha")


def test_one_request_that_is_refused_changes_nothing_for_the_next(
    secrets: "SecretsManagerClient", reads: Counter[str]
) -> None:
    """As when a company forbids a single number: the value before the current one was ended long ago."""
    put(secrets, "second")
    company = OtherSide({"second"})
    assert company.use() == "second"
    company.takes = set()
    assert company.refuses()
    company.takes = {"second"}
    assert company.use() == "second"
    assert company.shown == ["second", "second", "first", "second"]
    assert reads["AWSCURRENT"] == 2


def test_a_replaced_value_that_is_wrong_leads_back_after_ten_seconds(
    secrets: "SecretsManagerClient", clock: SimpleNamespace
) -> None:
    """The old one ended and the new one never taken: whatever is mended first is found."""
    company = OtherSide({"first"})
    assert company.use() == "first"
    put(secrets, "second")
    company.takes = set()
    assert company.refuses()
    company.takes = {"first"}
    clock.forward = 11
    assert company.use() == "first"


def test_what_is_pending_is_nobodys_credential(
    secrets: "SecretsManagerClient", clock: SimpleNamespace
) -> None:
    """A rotation function writes AWSPENDING first, and may leave the label on what has become current."""
    version = secrets.put_secret_value(
        SecretId="alpha", SecretString='{"apiKey": "second"}', VersionStages=["AWSPENDING"]
    )["VersionId"]
    company = OtherSide({"first"})
    assert company.use() == "first"
    clock.forward = 301
    assert company.use() == "first"
    before = secrets.get_secret_value(SecretId="alpha")["VersionId"]
    secrets.update_secret_version_stage(
        SecretId="alpha", VersionStage="AWSCURRENT", MoveToVersionId=version, RemoveFromVersionId=before
    )
    clock.forward = 602
    company.takes = {"first", "second"}
    assert company.use() == "second"


def test_a_label_that_is_moved_back_undoes_a_rotation(secrets: "SecretsManagerClient") -> None:
    before = secrets.get_secret_value(SecretId="alpha")["VersionId"]
    put(secrets, "second")
    company = OtherSide({"second"})
    assert company.use() == "second"
    secrets.update_secret_version_stage(
        SecretId="alpha",
        VersionStage="AWSCURRENT",
        MoveToVersionId=before,
        RemoveFromVersionId=secrets.get_secret_value(SecretId="alpha")["VersionId"],
    )
    company.takes = {"first"}
    assert company.use() == "first"
    assert not credentials.is_previous("alpha", "alpha")


@pytest.mark.parametrize(("code", "status"), PASSING)
def test_a_refusal_while_secrets_manager_fails_is_one(
    code: str, status: int, secrets: "SecretsManagerClient", clock: SimpleNamespace
) -> None:
    company = OtherSide({"first"})
    assert company.use() == "first"
    put(secrets, "second")
    company.takes = {"second"}
    with Stubber(aws.secrets_manager()) as stub:
        client_error(code, status)(stub)
        assert company.refuses()
    clock.forward = 11
    assert company.use() == "second"


def test_a_malformed_value_does_not_hide_that_the_one_before_it_is_refused(
    secrets: "SecretsManagerClient",
) -> None:
    secrets.put_secret_value(SecretId="alpha", SecretString="hunter2")
    assert OtherSide({"first"}).use() == "first"
    assert credentials.is_previous("alpha", "alpha")
    company = OtherSide(set())
    assert company.refuses()
    assert company.shown == ["first"]


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
    with pytest.raises(SecretUnavailable, match=fill):
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
    monkeypatch.setattr(logger, "error", lambda text, **_more: logged.append(text))
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
    with pytest.raises(SecretUnavailable, match=r"^fill the secret of alpha"):
        read()
