"""`python -m operations.erase`: nothing is left of a caller or comes back, and nobody else loses anything."""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import boto3
import pytest
from stepmark.sqs import SqsScheduler, Timers

from operations import erase
from operations.erase import Found, Stores
from operations.sam_config import Deployment
from tests.support.cloud import CALLER, TABLE, WORKFLOWS, Cloud, identity
from tests.support.journeys import DAY, DEAD_LETTERS, World, running
from tests.support.simulated_aws import ACCOUNT, REGION

OTHER = "+33639980009"


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    with running(cloud) as world:
        yield world


@pytest.fixture
def stores(cloud: Cloud) -> Stores:
    url = boto3.client("sqs").get_queue_url(QueueName=DEAD_LETTERS)["QueueUrl"]
    del cloud
    return Stores(boto3.Session(), TABLE, WORKFLOWS, "timers", url)


def everything(table: str) -> list[str]:
    items = boto3.client("dynamodb").scan(TableName=table)["Items"]
    return sorted(json.dumps(item, sort_keys=True) for item in items)


def waiting_journey(world: World, conversation_id: str) -> str:
    """A conversation whose journey waits for a supervisor, with a timer far ahead."""
    world.begin(conversation_id)
    world.identify(conversation_id)
    world.start(conversation_id)
    world.give_reason(conversation_id)
    world.settle()
    workflow_id = world.workflow_id(conversation_id)
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:ResumeQueue"
    timers = Timers("timers", f"arn:aws:iam::{ACCOUNT}:role/TimerRole", queue)
    scheduler = SqsScheduler(boto3.client("sqs"), world.queue_url(), boto3.client("scheduler"), timers)
    scheduler.wake(workflow_id, world.clock.now() + DAY)
    assert world.timers()
    assert world.read(workflow_id).body["status"] == "WAITING"
    return workflow_id


@pytest.mark.parametrize("by", ["number", "conversation"])
def test_nothing_is_left_and_nobody_else_loses_anything(by: str, world: World, stores: Stores) -> None:
    world.cloud.start("theirs", OTHER)
    others = everything(TABLE)
    waiting_journey(world, "6c5c")
    numbers, ids = (
        (frozenset({CALLER}), frozenset[str]()) if by == "number" else (frozenset[str](), frozenset({"6c5c"}))
    )
    first, *_, left = erase.erase(stores, numbers, ids)
    assert first.conversations == {"6c5c"}
    assert len(first.workflows) == 1
    assert not left
    assert everything(TABLE) == others
    assert everything(WORKFLOWS) == []
    assert world.timers() == []


def test_a_dry_run_changes_nothing(world: World, stores: Stores) -> None:
    workflow_id = waiting_journey(world, "6c5c")
    before = everything(TABLE), everything(WORKFLOWS), len(world.timers())
    assert erase.find(stores, frozenset({CALLER}), frozenset()) == Found(
        frozenset({"6c5c"}), frozenset({workflow_id}), 0
    )
    assert (everything(TABLE), everything(WORKFLOWS), len(world.timers())) == before


def test_an_execution_under_way_writes_nothing_any_more(cloud: Cloud, stores: Stores) -> None:
    asked, answer_now = threading.Event(), threading.Event()

    def answers_late(event: Mapping[str, object]) -> Mapping[str, object]:
        del event
        asked.set()
        assert answer_now.wait(20)
        return {"outcome": "MATCH", "identity": identity("gamma")}

    cloud.lookups.update(dict.fromkeys(("alpha", "beta", "gamma"), answers_late))
    assert cloud.start("6c5c").status == 202
    assert asked.wait(20)
    *_, left = erase.erase(stores, frozenset({CALLER}), frozenset())
    answer_now.set()
    cloud.wait_for_executions()
    assert not left
    assert everything(TABLE) == []
    assert cloud.read("6c5c").status == 404


def test_wake_ups_that_are_on_their_way_find_nothing(world: World, stores: Stores) -> None:
    workflow_id = waiting_journey(world, "6c5c")
    world.give_reason("6c5c", "billing")
    world.notify(world.changes())
    list(erase.erase(stores, frozenset(), frozenset({"6c5c"})))
    world.settle()
    assert (everything(TABLE), everything(WORKFLOWS)) == ([], [])
    assert world.read(workflow_id).status == 404


def test_wake_ups_that_failed_are_erased_and_those_of_others_stay(stores: Stores) -> None:
    sqs: Any = boto3.client("sqs")
    bodies = [json.dumps({"workflowId": f"{id_}~retention~0", "dueAt": 0}) for id_ in ("6c5c", "theirs") * 12]
    for body in [*bodies, "not ours", "[]", "{}"]:
        sqs.send_message(QueueUrl=stores.dead_letter_queue_url, MessageBody=body)
    first, *_, left = erase.erase(stores, frozenset(), frozenset({"6c5c"}))
    assert first.dead_letters == 12
    assert not left
    kept: list[str] = []
    while messages := sqs.receive_message(QueueUrl=stores.dead_letter_queue_url, MaxNumberOfMessages=10).get(
        "Messages", []
    ):
        kept += [message["Body"] for message in messages]
    assert sorted(kept) == sorted([*(body for body in bodies if "theirs" in body), "not ours", "[]", "{}"])


def test_a_journey_that_is_started_meanwhile_is_found_by_another_look(world: World, stores: Stores) -> None:
    world.begin("6c5c")
    looks = erase.erase(stores, frozenset({CALLER}), frozenset())
    assert next(looks).conversations == {"6c5c"}
    late = {"workflowId": {"S": "6c5c~retention~late"}}
    boto3.client("dynamodb").put_item(TableName=WORKFLOWS, Item=late)
    *_, left = looks
    assert not left
    assert everything(WORKFLOWS) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["meanwhile"],
        ["meanwhile", "--number", "0639980001"],
        ["meanwhile", "--number", "+33 6 39 98"],
        ["meanwhile", "--number", ""],
        ["--number", "+33639980001"],
    ],
)
def test_what_it_is_not_told_clearly_it_does_not_do(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        erase.main(arguments)
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def test_the_command_says_what_it_found(
    world: World, stores: Stores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting_journey(world, "6c5c")
    monkeypatch.setattr(Stores, "of", lambda _session, _name: stores)
    monkeypatch.setattr(erase, "deployment_of", lambda _name: Deployment("default", REGION, None))
    assert erase.main(["meanwhile", "--number", CALLER, "--dry-run"]) == 0
    assert erase.main(["meanwhile", "--number", CALLER]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "there are 1 conversations, 1 journeys with their timers, 0 wake-ups that failed",
        "erased 1 conversations, 1 journeys with their timers, 0 wake-ups that failed",
        "nothing is left",
    ]


SAMCONFIG = """
[default.deploy.parameters]
stack_name = "meanwhile"
region = "eu-west-1"
[staging.deploy.parameters]
stack_name = "staging"
region = "us-west-2"
profile = "tests"
"""
PROFILES = """
[profile tests]
region = ap-south-1
aws_access_key_id = AKIAPROFILE
aws_secret_access_key = testing
"""


@pytest.fixture
def elsewhere(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Staging is in another region than the shell's, which has a stack of that name and the caller too."""
    del cloud
    (tmp_path / "samconfig.toml").write_text(SAMCONFIG)
    (tmp_path / "aws").write_text(PROFILES)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.chdir(tmp_path)
    for region in (REGION, "us-west-2"):
        template = {"Resources": {"ConversationTable": {"Type": "AWS::DynamoDB::Table", "Properties": KEYED}}}
        boto3.client("cloudformation", region).create_stack(
            StackName="staging", TemplateBody=json.dumps(template)
        )
        item = {"conversationId": {"S": "6c5c"}, "callerNumber": {"S": CALLER}}
        boto3.client("dynamodb", region).put_item(TableName="theirs", Item=item)


KEYED = {
    "TableName": "theirs",
    "BillingMode": "PAY_PER_REQUEST",
    "KeySchema": [{"AttributeName": "conversationId", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "conversationId", "AttributeType": "S"}],
}


def count(region: str) -> int:
    return len(boto3.client("dynamodb", region).scan(TableName="theirs")["Items"])


@pytest.mark.usefixtures("elsewhere")
def test_it_erases_where_sam_deploys_and_not_where_the_shell_is(capsys: pytest.CaptureFixture[str]) -> None:
    """The stack has no journeys, so there is nothing of them to look for."""
    assert erase.main(["staging", "--number", CALLER]) == 0
    assert (count("us-west-2"), count(REGION)) == (0, 1)
    assert capsys.readouterr().out.splitlines()[-1] == "nothing is left"


def test_it_asks_with_the_credentials_that_sam_takes(
    elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del elsewhere
    asked: list[str] = []

    class Noted(Stores):
        @classmethod
        def of(cls, session: boto3.Session, stack_name: str) -> Self:
            credentials = session.get_credentials()
            assert credentials is not None
            asked.append(f"{credentials.access_key} {session.region_name}")
            return super().of(session, stack_name)

    monkeypatch.setattr(erase, "Stores", Noted)
    assert erase.main(["staging", "--number", CALLER, "--dry-run"]) == 0
    assert asked == ["AKIAPROFILE us-west-2"]


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("stack", "said"), [("trial", "no environments"), ("meanwhile", "does not exist"), ("other", "project")]
)
def test_what_samconfig_does_not_say_clearly_is_not_erased(
    stack: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if stack == "other":
        Path("samconfig.toml").write_text(SAMCONFIG.replace("staging", "other"))
        template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
        boto3.client("cloudformation", "us-west-2").create_stack(StackName=stack, TemplateBody=template)
    assert erase.main([stack, "--number", CALLER]) == 1
    assert said in capsys.readouterr().out
    assert (count("us-west-2"), count(REGION)) == (1, 1)
