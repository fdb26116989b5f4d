"""Credentials replaced in the order that docs/operations.md has, secret by secret: no call fails meanwhile.

The real handlers ask the companies and the CRM over HTTP, each from two execution environments: one that was
there before, and one that begins while the credentials are being replaced.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from conversation import credentials
from conversation.errors import SourceUnavailable
from conversation.sources import gamma
from local.companies import CREDENTIALS, SOURCES, Companies, Credentials, Service, invented_customer
from tests.support.cloud import Cloud, lookup_function
from tests.support.company_cloud import ask, deployed_with, fill
from tests.support.journeys import World, new_id, running
from tests.support.template import Template

NUMBER = "+33612345678"
NEW: dict[Service, Credentials] = {
    "alpha": {"apiKey": "alpha-new-key"},
    # HTTP Basic has one password for each user: another user is the second credential.
    "beta": {"username": "meanwhile-2", "password": "beta-new-password"},
    "gamma": {"clientId": "meanwhile", "clientSecret": "gamma-new-secret"},
    "crm": {"token": "crm-new-token"},
}
FIVE_MINUTES = 301
TEN_SECONDS = 11

each_secret = pytest.mark.parametrize("service", NEW)


def test_every_secret_is_replaced_here() -> None:
    """Those of companies that were added since have their companies' code in common with these."""
    document = Template.load().document
    secrets = [
        name.removesuffix("Secret").lower()
        for name in Template.load().resources("AWS::SecretsManager::Secret")
    ]
    others = [one for one in secrets if lookup_function(one) not in document["Resources"]]
    assert others == ["crm"]
    assert set(secrets) >= set(NEW) == {*SOURCES, *others}


@dataclass
class Environment:
    """What one execution environment remembers."""

    known: dict[Any, Any] = field(default_factory=dict)
    tokens: dict[Any, Any] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(credentials, "_known", self.known)
            patch.setattr(gamma, "_tokens", self.tokens)
            yield


@dataclass
class Rotation:
    """One secret on its way from one value to another, and two environments that use it."""

    service: Service
    companies: Companies
    world: World
    clock: SimpleNamespace
    before: Environment = field(default_factory=Environment)
    since: Environment = field(default_factory=Environment)

    @property
    def old(self) -> Credentials:
        return CREDENTIALS[self.service]

    @property
    def new(self) -> Credentials:
        return NEW[self.service]

    def accept(self, *those: Credentials) -> None:
        self.companies.accept(self.service, *those)

    def fill(self, content: Credentials) -> None:
        fill(self.service, content)

    def call(self, environment: Environment) -> None:
        """A lookup that finds its caller, or a journey that leaves its note at the first attempt."""
        with environment.running():
            if self.service in SOURCES:
                assert ask(self.world.cloud, self.service, NUMBER)["outcome"] == "MATCH"
                return
            noted = leave_note(self.world)
        assert noted["state"]["crm_note"].startswith("N-"), noted

    def secret_id(self) -> str:
        return f"{self.service.capitalize()}Secret"


def leave_note(world: World) -> dict[str, Any]:
    """A journey up to where it has told the CRM, without time for a second attempt."""
    conversation_id = new_id()
    world.begin(conversation_id)
    world.identify(conversation_id)
    world.give_reason(conversation_id)
    world.start(conversation_id)
    world.settle()
    return world.get(conversation_id)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What tells the time to the credentials that are kept."""
    moved = SimpleNamespace(forward=0.0)
    moved.monotonic = lambda: time.monotonic() + moved.forward
    monkeypatch.setattr(credentials, "time", moved)
    return moved


@pytest.fixture
def begin(companies: Companies, clock: SimpleNamespace) -> Iterator[Callable[[Service], Rotation]]:
    with deployed_with(companies) as cloud, running(cloud) as world:

        def rotation(service: Service) -> Rotation:
            for source in SOURCES:
                companies.know(source, {NUMBER: invented_customer(source, NUMBER)})
            begun = Rotation(service, companies, world, clock)
            begun.call(begun.before)
            return begun

        yield rotation


# --- the documented order ----------------------------------------------------------------------------------


@each_secret
def test_with_two_credentials_at_once_none_is_ever_refused(
    service: Service, begin: Callable[[Service], Rotation]
) -> None:
    one = begin(service)
    one.accept(one.old, one.new)
    one.call(one.before)
    one.fill(one.new)
    for environment in (one.before, one.since):
        one.call(environment)
    one.clock.forward = FIVE_MINUTES
    for environment in (one.before, one.since):
        one.call(environment)
    one.accept(one.new)
    for environment in (one.before, one.since, Environment()):
        one.call(environment)
    assert one.companies.requests().refused == {}


@each_secret
def test_with_one_credential_at_a_time_the_secret_goes_first(
    service: Service, begin: Callable[[Service], Rotation]
) -> None:
    one = begin(service)
    one.fill(one.new)
    for _ in range(2):
        for environment in (one.before, one.since):
            one.call(environment)
        one.clock.forward += FIVE_MINUTES
    for environment in (one.before, one.since):
        one.call(environment)
    one.accept(one.new)
    for environment in (one.before, one.since, Environment()):
        one.call(environment)
    assert one.companies.requests().refused[service] >= 1


@each_secret
def test_a_rotation_function_is_an_operator_too(
    service: Service, begin: Callable[[Service], Rotation]
) -> None:
    """It writes AWSPENDING, makes the other side take it, and moves the label AWSCURRENT."""
    one = begin(service)
    secrets = boto3.client("secretsmanager")
    before = secrets.get_secret_value(SecretId=one.secret_id())["VersionId"]
    pending = secrets.put_secret_value(
        SecretId=one.secret_id(), SecretString=json.dumps(one.new), VersionStages=["AWSPENDING"]
    )["VersionId"]
    for environment in (one.before, one.since):
        one.call(environment)
    one.accept(one.old, one.new)
    secrets.update_secret_version_stage(
        SecretId=one.secret_id(),
        VersionStage="AWSCURRENT",
        MoveToVersionId=pending,
        RemoveFromVersionId=before,
    )
    one.clock.forward = FIVE_MINUTES
    for environment in (one.before, one.since):
        one.call(environment)
    one.accept(one.new)
    for environment in (one.before, one.since):
        one.call(environment)
    assert one.companies.requests().refused == {}


# --- other orders ------------------------------------------------------------------------------------------


@each_secret
def test_a_wrong_value_leaves_the_old_one_in_use_and_its_correction_is_found(
    service: Service, begin: Callable[[Service], Rotation]
) -> None:
    one = begin(service)
    one.accept(one.old, one.new)
    one.fill(dict.fromkeys(one.new, "mistyped"))
    one.clock.forward = FIVE_MINUTES
    for environment in (one.before, one.since):
        one.call(environment)
    one.fill(one.new)
    one.clock.forward += FIVE_MINUTES
    one.accept(one.new)
    for environment in (one.before, one.since):
        one.call(environment)


@each_secret
def test_an_old_credential_that_ended_early_is_missed_for_ten_seconds_at_most(
    service: Service, begin: Callable[[Service], Rotation]
) -> None:
    one = begin(service)
    one.accept(one.new)
    with pytest.raises((SourceUnavailable, AssertionError)):
        one.call(one.before)
    one.fill(one.new)
    one.clock.forward = TEN_SECONDS
    one.call(one.before)


@pytest.mark.parametrize("source", SOURCES)
def test_a_lookup_says_that_the_current_value_is_not_taken(
    source: Service, begin: Callable[[Service], Rotation]
) -> None:
    """`make doctor` looks for it: else an operator would end the old one, and nobody would be recognised."""
    one = begin(source)
    one.fill(one.new)
    with one.since.running():
        assert ask(one.world.cloud, source, NUMBER)["secretStage"] == "AWSPREVIOUS"
        one.accept(one.new)
        assert "secretStage" not in ask(one.world.cloud, source, NUMBER)


# --- the CRM's ---------------------------------------------------------------------------------------------


def test_a_crm_whose_secret_nobody_has_filled_gets_its_note_once_it_is(
    companies: Companies, clock: SimpleNamespace
) -> None:
    del clock
    with deployed_with(companies, credentials={"crm": {}}) as cloud, running(cloud) as world:
        waiting = leave_note(world)
        assert waiting["state"]["crm_note"] == ""
        assert "approve" in waiting["waitingFor"], "nobody else waits for the CRM"
        assert companies.requests().refused == {}
        fill("crm", CREDENTIALS["crm"])
        world.settle(30)
        assert world.get(waiting["workflowId"].partition("~")[0])["state"]["crm_note"].startswith("N-")


def test_what_to_fill_in_is_what_the_parked_journey_says(companies: Companies) -> None:
    with (
        deployed_with(companies, credentials={"crm": {"apiKey": "hunter2"}}) as cloud,
        running(cloud) as world,
    ):
        waiting = leave_note(world)
        world.settle(120)
        item = world.item(waiting["workflowId"].partition("~")[0])
        assert "fill the secret of the CRM with a JSON object of token" in str(item)
        assert "hunter2" not in str(item)


def test_without_a_crm_nothing_is_read(cloud: Cloud) -> None:
    with running(cloud) as world:
        assert leave_note(world)["state"]["crm_note"] == "no CRM"
