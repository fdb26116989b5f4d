"""One lookup function's work around its company: secret, budget, answer, metrics and log."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from conversation import credentials, timestamps
from conversation.errors import ConfigurationError, SourceUnavailable
from conversation.http_client import HttpAnswer
from conversation.sources import alpha, lookup
from conversation.sources.client import SourceClient
from conversation.sources.identity import Identity
from conversation.sources.lookup import LookupEvent, answer_lookup, import_own_company

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

NUMBER = "+33612345678"
JEAN = Identity("alpha", "A-1042", "Jean", "Dupont", "vip")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "lookup_alpha")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Meanwhile")
    monkeypatch.setenv("SOURCE_URL", "https://alpha.example/")
    monkeypatch.setenv("SOURCE_SECRET", "alpha")


@pytest.fixture(autouse=True)
def secrets() -> Iterator["SecretsManagerClient"]:
    """Secrets Manager with alpha's secret in it."""
    with mock_aws():
        credentials._known.clear()
        client = boto3.client("secretsmanager")
        client.create_secret(Name="alpha", SecretString='{"apiKey": "first"}')
        yield client
        credentials._known.clear()


def event(seconds: float = 10) -> LookupEvent:
    deadline = timestamps.now() + timedelta(seconds=seconds)
    return {"conversationId": "6c5c", "callerNumber": NUMBER, "deadlineAt": timestamps.to_text(deadline)}


class Asked:
    """A company's client function that notes what it is asked, and answers the same every time."""

    def __init__(self, answer: Identity | Exception | None = None) -> None:
        self.answer = answer
        self.keys: list[str] = []
        self.numbers: list[str] = []

    async def __call__(self, client: SourceClient, secret: alpha.Secret, number: str) -> Identity | None:
        assert client.source == "alpha"
        self.keys.append(secret.apiKey)
        self.numbers.append(number)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ask(company: Asked, seconds: float = 10) -> Mapping[str, Any]:
    return answer_lookup("alpha", alpha.Secret, company, event(seconds))


def test_a_match_goes_to_the_state_machine_whole() -> None:
    company = Asked(JEAN)
    assert ask(company) == {"outcome": "MATCH", "identity": JEAN.as_map()}
    assert company.numbers == [NUMBER]


def test_no_match_has_no_identity() -> None:
    assert ask(Asked()) == {"outcome": "NO_MATCH"}


def test_what_the_company_raises_comes_through() -> None:
    with pytest.raises(SourceUnavailable, match="alpha answered 500"):
        ask(Asked(SourceUnavailable("alpha answered 500")))


@pytest.mark.parametrize("field", ["customer_id", "first_name", "last_name", "segment"])
def test_a_text_too_long_for_step_functions_is_no_answer(field: str) -> None:
    texts: dict[str, Any] = {"customer_id": "1", "first_name": "", "last_name": "", "segment": ""}
    longest = Identity("alpha", **{**texts, field: "é" * 1_000})
    assert ask(Asked(longest))["outcome"] == "MATCH"
    with pytest.raises(
        SourceUnavailable, match=r"^alpha answered with a string of more than 1,000 characters$"
    ):
        ask(Asked(Identity("alpha", **{**texts, field: "é" * 1_001})))


@pytest.mark.parametrize(
    ("seconds", "budget"), [(60, 6.0), (10, 6.0), (7.2, 6.0), (6, 5.0), (3, 2.0), (1.5, 0.5)]
)
def test_the_budget_is_six_seconds_or_one_less_than_the_deadline_leaves(
    seconds: float, budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[float] = []

    def note(_source: str, given: float, work: Any) -> None:
        work.close()
        budgets.append(given)

    monkeypatch.setattr(lookup, "run_within", note)
    ask(Asked(), seconds)
    [given] = budgets
    # The time since the event was made is what a slow machine takes; it may not add to the budget.
    assert budget - 0.5 < given <= budget


@pytest.mark.parametrize("seconds", [1.0, 0.5, 0, -60])
def test_too_near_a_deadline_nobody_is_asked(seconds: float) -> None:
    company = Asked(JEAN)
    with pytest.raises(SourceUnavailable, match=r"^alpha was not asked: the deadline is too near$"):
        ask(company, seconds)
    assert company.numbers == []


def test_reading_the_secret_counts_into_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets Manager that hangs costs the caller no more than the budget."""
    let_go, hung = threading.Event(), threading.Event()

    def hang(_secret_id: str) -> str:
        let_go.wait(30)
        hung.set()
        return "{}"

    monkeypatch.setattr(credentials, "_get", hang)
    company = Asked(JEAN)
    try:
        with pytest.raises(SourceUnavailable, match=r"^alpha gave no answer within 0\.\d s$"):
            ask(company, 1.5)
        assert not hung.is_set()
    finally:
        let_go.set()
    assert company.keys == []


def move_clock_of_the_cache(monkeypatch: pytest.MonkeyPatch, forward: timedelta) -> None:
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + forward.total_seconds())
    monkeypatch.setattr(credentials, "time", later)


def test_the_secret_is_read_once_and_again_after_five_minutes(
    secrets: "SecretsManagerClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Asked()
    ask(company)
    secrets.put_secret_value(SecretId="alpha", SecretString='{"apiKey": "second"}')
    ask(company)
    move_clock_of_the_cache(monkeypatch, timedelta(seconds=295))
    ask(company)
    move_clock_of_the_cache(monkeypatch, timedelta(seconds=301))
    ask(company)
    assert company.keys == ["first", "first", "first", "second"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "hunter2",
        "{}",
        "[]",
        "null",
        '"hunter2"',
        '{"apikey": "hunter2"}',
        '{"apiKey": 7}',
        '{"apiKey": null}',
    ],
)
def test_a_secret_that_nobody_filled_says_what_to_fill_in(
    content: str, secrets: "SecretsManagerClient"
) -> None:
    secrets.delete_secret(SecretId="alpha", ForceDeleteWithoutRecovery=True)
    secrets.create_secret(Name="alpha", SecretString=content or " ")
    company = Asked(JEAN)
    with pytest.raises(
        SourceUnavailable, match=r"^fill the secret of alpha with a JSON object of apiKey$"
    ) as error:
        ask(company)
    assert error.value.__suppress_context__, "the error it was made from quotes the secret"
    assert company.keys == []


def test_a_filled_secret_may_hold_more_than_is_needed(secrets: "SecretsManagerClient") -> None:
    secrets.put_secret_value(SecretId="alpha", SecretString='{"apiKey": "first", "owner": "contact centre"}')
    assert ask(Asked(JEAN))["outcome"] == "MATCH"


def test_a_secret_that_cannot_be_read_is_read_again_the_next_time(secrets: "SecretsManagerClient") -> None:
    secrets.delete_secret(SecretId="alpha", ForceDeleteWithoutRecovery=True)
    company = Asked(JEAN)
    with pytest.raises(SourceUnavailable, match=r"^fill the secret of alpha with"):
        ask(company)
    secrets.create_secret(Name="alpha", SecretString='{"apiKey": "third"}')
    assert ask(company)["outcome"] == "MATCH"
    assert company.keys == ["third"]


@pytest.mark.parametrize("source", ["alpha", "beta", "gamma"])
def test_a_lookup_functions_company_is_the_one_that_it_is_told(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE", source)
    company = import_own_company()
    assert company.source == source
    assert company.look_up.__module__ == company.secret_type.__module__ == f"conversation.sources.{source}"


def test_a_lookup_function_without_a_company_is_a_defect_of_the_deployment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigurationError, match="set the environment variable SOURCE"):
        import_own_company()
    monkeypatch.setenv("SOURCE", "omega")
    with pytest.raises(ModuleNotFoundError, match=r"conversation\.sources\.omega"):
        import_own_company()


@pytest.mark.parametrize("name", ["SOURCE_URL", "SOURCE_SECRET"])
def test_without_its_settings_a_lookup_is_a_defect_of_the_deployment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match=name):
        ask(Asked())


OUTCOMES: list[tuple[Identity | Exception | None, str]] = [
    (JEAN, "Match"),
    (None, "NoMatch"),
    (SourceUnavailable("alpha answered 500"), "Unavailable"),
    (RuntimeError("a defect"), "Unavailable"),
]


@pytest.mark.parametrize(("answer", "outcome"), OUTCOMES)
def test_each_outcome_is_counted_with_its_source_and_its_duration(
    answer: Identity | Exception | None, outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The alarms of the template look for exactly these names and dimensions."""
    try:
        ask(Asked(answer))
    except (SourceUnavailable, RuntimeError):
        assert isinstance(answer, Exception)
    [blob] = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    [directive] = blob["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Meanwhile"
    assert [sorted(dimensions) for dimensions in directive["Dimensions"]] == [["service", "source"]]
    assert (blob["service"], blob["source"]) == ("lookup_alpha", "alpha")
    names = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    assert names == {f"Lookup{outcome}": "Count", "LookupDuration": "Milliseconds"}
    assert blob[f"Lookup{outcome}"] == [1.0]


@pytest.mark.parametrize(("answer", "outcome"), OUTCOMES)
def test_neither_log_nor_metric_tells_who_called(
    answer: Identity | Exception | None, outcome: str, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        ask(Asked(answer))
    except (SourceUnavailable, RuntimeError):
        assert isinstance(answer, Exception)
    written = "".join(capfd.readouterr())
    assert outcome in written
    for confidential in (NUMBER[1:], "Jean", "Dupont", "A-1042", "first"):
        assert confidential not in written


def test_what_a_client_counts_becomes_a_metric_of_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    async def look_up(client: SourceClient, _secret: alpha.Secret, _number: str) -> Identity | None:
        client.counted["LookupUnreadableNumber"] += 3
        return None

    assert answer_lookup("alpha", alpha.Secret, look_up, event()) == {"outcome": "NO_MATCH"}
    [blob] = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert blob["LookupUnreadableNumber"] == [3.0]
    [directive] = blob["_aws"]["CloudWatchMetrics"]
    assert {"Name": "LookupUnreadableNumber", "Unit": "Count"} in directive["Metrics"]
    assert [sorted(dimensions) for dimensions in directive["Dimensions"]] == [["service", "source"]]


class Rotated:
    """A company that takes one key only."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.keys: list[str] = []

    async def __call__(self, client: SourceClient, secret: alpha.Secret, _number: str) -> Identity | None:
        self.keys.append(secret.apiKey)
        if secret.apiKey != self.key:
            client.read_json(HttpAnswer(401, b"{}"))
        return JEAN


def test_a_secret_that_was_replaced_is_read_again_when_the_company_refuses_the_old_one(
    secrets: "SecretsManagerClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Rotated("first")
    assert answer_lookup("alpha", alpha.Secret, company, event())["outcome"] == "MATCH"
    secrets.put_secret_value(SecretId="alpha", SecretString='{"apiKey": "second"}')
    company.key = "second"
    move_clock_of_the_cache(monkeypatch, timedelta(seconds=11))
    assert answer_lookup("alpha", alpha.Secret, company, event())["outcome"] == "MATCH"
    assert company.keys == ["first", "first", "second"]


def test_credentials_that_are_wrong_are_not_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    company = Rotated("another")
    for seconds in (0, 11):
        move_clock_of_the_cache(monkeypatch, timedelta(seconds=seconds))
        with pytest.raises(SourceUnavailable, match=r"^alpha answered 401$") as refusal:
            answer_lookup("alpha", alpha.Secret, company, event())
        assert type(refusal.value) is SourceUnavailable, "the state machine and the docs know this name"
    assert company.keys == ["first", "first"]
