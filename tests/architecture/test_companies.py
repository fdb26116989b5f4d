"""What a company needs beside its lookup, and what nothing else would miss: alarm, console, secret."""

import re
from importlib import import_module
from typing import Any

import pytest

from journeys import crm
from tests.architecture.deployment import DOCUMENT, FUNCTIONS, LOOKUPS, RESOURCES, SOURCES, statements
from tests.support.template import Call, Reference, Template

each_company = pytest.mark.parametrize("source", SOURCES)


@each_company
def test_an_alarm_rings_when_it_gives_no_usable_answer(source: str) -> None:
    name = f"{source.capitalize()}UnavailableAlarm"
    assert name in RESOURCES, f"template.yaml: add {name}, as the other companies have it"
    alarm = RESOURCES[name]["Properties"]
    assert alarm["MetricName"] == "LookupUnavailable"
    dimensions = {one["Name"]: one["Value"] for one in alarm["Dimensions"]}
    assert dimensions == {"service": f"lookup_{source}", "source": source}


def test_every_parameter_has_its_place_in_the_console() -> None:
    groups = DOCUMENT["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    placed = [name for group in groups for name in group["Parameters"]]
    missing = DOCUMENT["Parameters"].keys() - set(placed)
    assert not missing, f"template.yaml: add {sorted(missing)} to a group under Metadata"
    assert len(placed) == len(set(placed)) == len(DOCUMENT["Parameters"])


@each_company
def test_its_secret_asks_for_what_its_module_reads(source: str) -> None:
    fields = set(import_module(f"conversation.sources.{source}").Secret._fields)
    secret: dict[str, Any] = RESOURCES[f"{source.capitalize()}Secret"]["Properties"]
    assert set(re.findall(r'"(\w+)"', secret["Description"])) == fields, (
        f"template.yaml: Credentials of {source.capitalize()} under Mappings have to name {sorted(fields)}"
    )


def test_the_crms_secret_is_there_with_a_crm_and_journeys_alone() -> None:
    secret, output = RESOURCES["CrmSecret"], DOCUMENT["Outputs"]["CrmSecretArn"]
    assert set(re.findall(r'"(\w+)"', secret["Properties"]["Description"])) == set(crm.Secret._fields)
    assert secret["Condition"] == output["Condition"] == "TellCrm"
    variables = RESOURCES["RunJourneyFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["CRM_SECRET"] == Call("If", ["TellCrm", Reference("CrmSecret", "Id"), ""])
    template, urls = Template.load(), {f"{source.capitalize()}Url": "http://localhost" for source in SOURCES}
    for given, told in [
        ({}, False),
        ({"CrmUrl": "https://crm.example"}, True),
        ({"CrmUrl": "https://crm.example", "Journeys": "off"}, False),
    ]:
        assert template.holds("TellCrm", template.parameters({**urls, **given})) == told


def test_each_secret_is_read_by_one_function_alone() -> None:
    readers = {
        resource: {one.logical_name for one in FUNCTIONS if one.properties["Role"].name == role}
        for role in [name for name, one in RESOURCES.items() if one["Type"] == "AWS::IAM::Role"]
        for statement in statements(role)
        if any(action.startswith("secretsmanager:") for action in statement["Action"])
        for resource in statement["Resource"]
    }
    lookups = {Reference(f"{one.source.capitalize()}Secret", "Id"): {one.logical_name} for one in LOOKUPS}
    assert readers == {**lookups, Reference("CrmSecret", "Id"): {"RunJourneyFunction"}}


def test_no_deployment_writes_the_value_of_a_secret() -> None:
    """CloudFormation would write over a live credential whenever one of these properties changes."""
    secrets = {n: one for n, one in RESOURCES.items() if one["Type"] == "AWS::SecretsManager::Secret"}
    assert secrets
    for name, secret in secrets.items():
        assert not secret["Properties"].keys() & {"SecretString", "GenerateSecretString"}, name
    others = {one["Type"] for one in RESOURCES.values() if "::SecretsManager::" in one["Type"]}
    assert others == {"AWS::SecretsManager::Secret"}, "a rotation or an attachment writes values too"
