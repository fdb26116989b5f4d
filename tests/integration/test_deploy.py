"""`make gate` and `make deploy` look where `sam deploy` deploys, and stop where they are not sure."""

import json
import os
import stat
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from operations import deploy, gate

SAMCONFIG = """
[default.deploy.parameters]
stack_name = "meanwhile"
region = "eu-west-1"
[staging.deploy.parameters]
stack_name = "staging"
region = "us-west-2"
"""
NO_JOURNEYS = json.dumps(
    {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"ConversationTableName": {"Value": "Conversations"}},
    }
)


@pytest.fixture(autouse=True)
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a samconfig, and a SAM that notes how it was called."""
    (tmp_path / "samconfig.toml").write_text(SAMCONFIG)
    sam = tmp_path / ".venvs/sam/bin/sam"
    sam.parent.mkdir(parents=True)
    sam.write_text('#!/bin/sh\necho "$@" >> calls\necho "pythonpath $PYTHONPATH" >> calls\n')
    sam.chmod(sam.stat().st_mode | stat.S_IEXEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")  # the shell's, which SAM does not take
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["a", "b"]))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def exists(name: str, region: str) -> None:
    boto3.client("cloudformation", region).create_stack(StackName=name, TemplateBody=NO_JOURNEYS)


@mock_aws
def test_it_looks_in_samconfigs_region_and_not_in_the_shells(capsys: pytest.CaptureFixture[str]) -> None:
    exists("meanwhile", "eu-west-1")
    exists("meanwhile", "ap-south-1")
    assert gate.main(["meanwhile"]) == 0
    assert "stack meanwhile in eu-west-1 has no journeys" in capsys.readouterr().out


@mock_aws
def test_a_stack_that_is_not_there_stops_it_unless_it_is_a_first_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exists("meanwhile", "ap-south-1")
    assert gate.main(["meanwhile"]) == 1
    assert "is not in eu-west-1: if this is its first deployment, say FIRST=1" in capsys.readouterr().out
    assert gate.main(["meanwhile", "--first"]) == 0


@mock_aws
def test_a_deployment_takes_the_stacks_own_environment() -> None:
    exists("staging", "us-west-2")
    assert deploy.main(["staging"]) == 0
    build, path, deployed, _ = Path("calls").read_text().splitlines()
    assert build == "build --config-env staging --language-extensions"
    assert deployed == (
        "deploy --config-env staging --stack-name staging --language-extensions "
        "--capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"
    )
    assert path == "pythonpath "


@mock_aws
@pytest.mark.parametrize("arguments", [["staging"], ["trial"], ["trial", "--first"]])
def test_nothing_is_deployed_that_is_not_sure(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy.main(arguments) == 1
    assert not Path("calls").exists()
    assert capsys.readouterr().out


def test_an_unknown_profile_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("samconfig.toml").write_text(
        '[default.deploy.parameters]\nstack_name = "meanwhile"\nprofile = "nobody"\n'
    )
    assert deploy.main(["meanwhile"]) == 1
    assert "can't be looked at" in capsys.readouterr().out
    assert not Path("calls").exists()


@mock_aws
def test_what_fails_to_build_is_not_deployed() -> None:
    exists("meanwhile", "eu-west-1")
    Path(".venvs/sam/bin/sam").write_text('#!/bin/sh\necho "$@" >> calls\nexit 3\n')
    assert deploy.main(["meanwhile"]) == 3
    assert len(Path("calls").read_text().splitlines()) == 1
