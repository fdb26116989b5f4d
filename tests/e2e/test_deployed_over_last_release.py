"""A stack of the last release, full of what nobody wants to lose, and this release deployed over it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.companies import SOURCES
from local.emulator import deployment, ministack
from local.emulator.stack import NAME
from tests.support.template import REPOSITORY

RELEASE: dict[str, Any] = json.loads((REPOSITORY / "tests/architecture/last_release.json").read_text())
STATE: dict[str, Any] = RELEASE["state"]
# What the templates of both releases ask an operator for; nothing calls these companies.
URLS = {f"{source.capitalize()}Url": f"http://localhost/{source}" for source in SOURCES}
DECLARED: dict[str, dict[str, Any]] = {
    "LogRetentionDays": {"Type": "Number", "Default": 30},
    **{name: {"Type": "String", "Default": url} for name, url in URLS.items()},
}
KEPT = "kept"


def of(kind: str) -> list[str]:
    """The logical ids of the last release's resources of one type."""
    return sorted(logical_id for logical_id, one in STATE.items() if one["Type"] == kind)


@dataclass(frozen=True)
class Account:
    """The emulator's account after the deployment, and the physical ids from before it."""

    session: Any  # or the types of 400 services stand in the way of a client by name
    endpoint: str
    before: dict[str, str]

    def client(self, service: str) -> Any:
        return self.session.client(service, endpoint_url=self.endpoint)

    def physical_ids(self) -> dict[str, str]:
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=NAME)
        return {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for page in pages
            for one in page["StackResourceSummaries"]
        }

    def key(self, table: str) -> dict[str, Any]:
        schema = STATE[table]["Properties"]["KeySchema"]
        return {one["AttributeName"]: {"S": KEPT} for one in schema}

    def fill(self) -> None:
        for table in of("AWS::DynamoDB::Table"):
            self.client("dynamodb").put_item(TableName=self.before[table], Item=self.key(table))
        for secret in of("AWS::SecretsManager::Secret"):
            self.client("secretsmanager").put_secret_value(SecretId=self.before[secret], SecretString=KEPT)
        for queue in of("AWS::SQS::Queue"):
            # Long enough that no function of the new release has taken it before the test has looked.
            self.client("sqs").send_message(QueueUrl=self.before[queue], MessageBody=KEPT, DelaySeconds=900)
        for group in of("AWS::Logs::LogGroup"):
            self.client("logs").create_log_stream(logGroupName=self.before[group], logStreamName=KEPT)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """The last release's resources that hold state, filled, and this release deployed over them."""
    directory = tmp_path_factory.mktemp("over")
    session = deployment.emulator_session()
    with ministack.running(directory) as aws:
        cloudformation = session.client("cloudformation", endpoint_url=aws.endpoint)
        template = json.dumps({"Parameters": DECLARED, "Resources": STATE})
        cloudformation.create_stack(StackName=NAME, TemplateBody=template)
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        empty = Account(session, aws.endpoint, {})
        filled = Account(session, aws.endpoint, empty.physical_ids())
        filled.fill()
        with deployment.build_lock():
            deployment.build(directory)
            deployment.redeploy(directory, aws.endpoint)
        yield filled


def test_every_resource_is_still_the_same(account: Account) -> None:
    after = account.physical_ids()
    assert account.before.keys() == STATE.keys()
    assert {name: after.get(name) for name in account.before} == account.before


@pytest.mark.parametrize("table", of("AWS::DynamoDB::Table"))
def test_a_table_keeps_its_items(table: str, account: Account) -> None:
    key = account.key(table)
    assert "Item" in account.client("dynamodb").get_item(TableName=account.before[table], Key=key)


@pytest.mark.parametrize("secret", of("AWS::SecretsManager::Secret"))
def test_a_secret_keeps_the_operators_credential(secret: str, account: Account) -> None:
    """The last release generated a first value, this one none, which the emulator takes for an empty one.

    AWS takes no empty value, so there it stays. Lookups pass over an invalid current value either way.
    """
    secrets = account.client("secretsmanager")
    current = secrets.get_secret_value(SecretId=account.before[secret])
    if not current["SecretString"]:
        current = secrets.get_secret_value(SecretId=account.before[secret], VersionStage="AWSPREVIOUS")
    assert current["SecretString"] == KEPT


@pytest.mark.parametrize("queue", of("AWS::SQS::Queue"))
def test_a_queue_keeps_its_messages(queue: str, account: Account) -> None:
    found = account.client("sqs").get_queue_attributes(
        QueueUrl=account.before[queue], AttributeNames=["ApproximateNumberOfMessagesDelayed"]
    )
    assert found["Attributes"]["ApproximateNumberOfMessagesDelayed"] == "1"


@pytest.mark.parametrize("group", of("AWS::Logs::LogGroup"))
def test_a_log_group_keeps_its_streams(group: str, account: Account) -> None:
    streams = account.client("logs").describe_log_streams(logGroupName=account.before[group])["logStreams"]
    assert KEPT in {stream["logStreamName"] for stream in streams}
