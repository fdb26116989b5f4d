"""Settings come from the environment, whole or with an error that names the variable."""

import pytest

from conversation.errors import ConfigurationError
from conversation.settings import SourceSettings, StartSettings, StoreSettings

COMPLETE = {
    "CONVERSATION_TABLE": "Conversations",
    "STATE_MACHINE_ARN": "arn:aws:states:eu-west-1:123456789012:stateMachine:identify",
    "SOURCES": "alpha,beta,gamma",
    "LOOKUP_DEADLINE_SECONDS": "10",
    "RETENTION_HOURS": "24",
    "DEFAULT_REGION": "FR",
    "SOURCE_URL": "https://alpha.example/api/",
    "SOURCE_SECRET": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:alpha",
}


@pytest.fixture(autouse=True)
def _complete_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)


def test_all_that_the_template_sets_is_read() -> None:
    assert StoreSettings.from_environment() == StoreSettings("Conversations")
    assert StartSettings.from_environment() == StartSettings(
        state_machine_arn=COMPLETE["STATE_MACHINE_ARN"],
        sources=("alpha", "beta", "gamma"),
        deadline_seconds=10,
        retention_hours=24,
        default_region="FR",
    )
    # A base URL may end in a slash; the paths of the companies begin with one.
    assert SourceSettings.from_environment() == SourceSettings(
        "https://alpha.example/api", COMPLETE["SOURCE_SECRET"]
    )


@pytest.mark.parametrize("name", COMPLETE)
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_missing_is_named(name: str, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=rf"set the environment variable {name}$"):
        [settings.from_environment() for settings in (StoreSettings, StartSettings, SourceSettings)]


@pytest.mark.parametrize("name", ["LOOKUP_DEADLINE_SECONDS", "RETENTION_HOURS"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "ten", " ", "²"])
def test_times_are_whole_and_above_zero(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=rf"{name} must be a whole number above zero"):
        StartSettings.from_environment()


def test_the_error_is_no_reason_to_try_again() -> None:
    assert not ConfigurationError.retryable
