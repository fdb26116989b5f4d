"""`make deploy` looks at the stack that `sam deploy` deploys, in its account and region.

The real SAM CLI builds and deploys a small template by samconfig files in the shapes that people have: their
public bug reports are named. An endpoint notes who is asked, where, and by whom.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from operations import deploy
from tests.support.recorded_aws import SAMS_OWN, Call, RecordedAws, recorded_aws
from tests.support.template import REPOSITORY

OUTPUTS = {"ConversationTableName": "Conversations", "WorkflowTableName": "Workflows"}
STACKS = ("meanwhile", "staging", "meanwhile-staging", "meanwhile-us")
TEMPLATE = """\
Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]
Parameters:
  Company: {Type: String, Default: nobody}
Resources:
  Fn::ForEach::Topics:
    - Topic
    - [One, Other]
    - ${Topic}Topic: {Type: AWS::SNS::Topic}
"""
PROFILES = """\
[profile acme]
region = ap-southeast-2
[profile without-region]
output = json
[profile in-us]
region = us-west-2
"""
KEYS = """\
[acme]
aws_access_key_id = AKIAACME
aws_secret_access_key = secret
[without-region]
aws_access_key_id = AKIAWITHOUTREGION
aws_secret_access_key = secret
[in-us]
aws_access_key_id = AKIAINUS
aws_secret_access_key = secret
"""
SHELL = {
    "AWS_ACCESS_KEY_ID": "AKIASHELL",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "eu-central-1",
}
NECESSARY = 'capabilities = "CAPABILITY_IAM"\nresolve_s3 = true\nconfirm_changeset = false\n'


@dataclass(frozen=True)
class Shape:
    """A samconfig.toml (without its version), what is deployed by it, and where that has to be."""

    text: str
    stack: str
    deployed: str
    region: str
    key: str
    company: str = ""
    exported: Mapping[str, str] = field(default_factory=lambda: SHELL)


TWO = f"""
[default.deploy.parameters]
stack_name = "meanwhile"
region = "eu-west-1"
parameter_overrides = "Company=production"
{NECESSARY}
[staging.deploy.parameters]
stack_name = "meanwhile-staging"
region = "eu-west-3"
profile = "acme"
parameter_overrides = ["Company=staging"]
{NECESSARY}
"""

SHAPES = {
    "what this repository has": Shape(
        (REPOSITORY / "samconfig.toml")
        .read_text()
        .replace("confirm_changeset = true", "")
        .partition("\n")[2],
        stack="meanwhile",
        deployed="meanwhile",
        region="eu-central-1",
        key="AKIASHELL",
    ),
    "the stack of the environment default": Shape(
        TWO, "meanwhile", "meanwhile", "eu-west-1", "AKIASHELL", "production"
    ),
    "an environment's stack": Shape(
        TWO, "meanwhile-staging", "meanwhile-staging", "eu-west-3", "AKIAACME", "staging"
    ),
    "an environment without a stack's name is one": Shape(
        f'[staging.deploy.parameters]\nparameter_overrides = "Company=staging"\n{NECESSARY}',
        stack="staging",
        deployed="staging",
        region="eu-central-1",
        key="AKIASHELL",
        company="staging",
    ),
    "all of it global, overrides listed (aws-sam-cli#3089)": Shape(
        '[staging.global.parameters]\nstack_name = "meanwhile-staging"\nregion = "us-east-1"\n'
        f'{NECESSARY}parameter_overrides=[\n  "Company=staging",\n]\n',
        stack="meanwhile-staging",
        deployed="meanwhile-staging",
        region="us-east-1",
        key="AKIASHELL",
        company="staging",
    ),
    "the name global, the region of the command (aws-sam-cli#3629)": Shape(
        '[staging.global.parameters]\nstack_name = "meanwhile-staging"\nregion = "us-east-2"\n'
        f'[staging.build.parameters]\n[staging.deploy.parameters]\nregion = "eu-west-1"\n{NECESSARY}',
        stack="meanwhile-staging",
        deployed="meanwhile-staging",
        region="eu-west-1",
        key="AKIASHELL",
    ),
    "tables in tables, a region for deleting (aws-sam-cli#3514)": Shape(
        '[staging]\n[staging.global]\n[staging.global.parameters]\nregion = "us-west-2"\n[staging.delete]\n'
        '[staging.delete.parameters]\nregion = "us-west-1"\n[staging.deploy]\n[staging.deploy.parameters]\n'
        f'{NECESSARY}parameter_overrides = "Company=\\"staging\\""\nimage_repositories = []\n'
        'stack_name = "meanwhile-staging"\n',
        stack="meanwhile-staging",
        deployed="meanwhile-staging",
        region="us-west-2",
        key="AKIASHELL",
        company="staging",
    ),
    "common settings in default complete nothing (aws-sam-cli#9048)": Shape(
        '[default.deploy.parameters]\nregion = "eu-west-1"\nprofile = "acme"\nparameter_overrides = '
        f'"Company=production"\n[staging.deploy.parameters]\nstack_name = "meanwhile-staging"\n{NECESSARY}',
        stack="meanwhile-staging",
        deployed="meanwhile-staging",
        region="eu-central-1",
        key="AKIASHELL",
    ),
    "a profile that has the region (serverless-application-model#3198)": Shape(
        f'[default.deploy.parameters]\nstack_name = "meanwhile"\nprofile = "in-us"\n{NECESSARY}',
        stack="meanwhile",
        deployed="meanwhile",
        region="us-west-2",
        key="AKIAINUS",
        exported={},
    ),
    "a profile without region, which the file has (aws-sam-cli#1932)": Shape(
        '[default.deploy.parameters]\nstack_name = "meanwhile"\nregion = "us-west-1"\n'
        f'profile = "without-region"\nconfig_changeset = true\n{NECESSARY}',
        stack="meanwhile",
        deployed="meanwhile",
        region="us-west-1",
        key="AKIAWITHOUTREGION",
        exported={},
    ),
    "the file's profile before the shell's keys (aws-sam-cli#3621)": Shape(
        f'[default.deploy.parameters]\nstack_name = "meanwhile"\nprofile = "acme"\n{NECESSARY}',
        stack="meanwhile",
        deployed="meanwhile",
        # The shell's region counts before the profile's own.
        region="eu-central-1",
        key="AKIAACME",
        exported={**SHELL, "AWS_PROFILE": "in-us", "AWS_SESSION_TOKEN": "old"},
    ),
    "the shell's profile where the file has none": Shape(
        f'[default.deploy.parameters]\nstack_name = "meanwhile"\n{NECESSARY}',
        stack="meanwhile",
        deployed="meanwhile",
        region="us-west-2",
        key="AKIAINUS",
        exported={"AWS_PROFILE": "in-us", "AWS_REGION": "eu-west-1"},
    ),
    "another template by SAM's own variable": Shape(
        f'[default.deploy.parameters]\nstack_name = "meanwhile"\nregion = "eu-west-1"\n{NECESSARY}',
        stack="meanwhile",
        deployed="meanwhile",
        region="eu-west-1",
        key="AKIASHELL",
        exported={**SHELL, "SAM_TEMPLATE_FILE": "elsewhere/template.yaml"},
    ),
}


@dataclass
class Checkout:
    """A folder with a small template, from which the real command is run, or its function called."""

    folder: Path
    aws: RecordedAws

    def environment(self, shell: Mapping[str, str]) -> dict[str, str]:
        paths = [".", "layers/conversation", "layers/journeys", "layers/stepmark"]
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "SAM_CLI_TELEMETRY": "0",
            "SAM_CLI_POLL_DELAY": "0.1",
            "AWS_ENDPOINT_URL": self.aws.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / path) for path in paths),
            **shell,
        }

    def run(self, *arguments: str, shell: Mapping[str, str] = SHELL) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "operations.deploy", *arguments],
            cwd=self.folder,
            env=self.environment(shell),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def configure(self, text: str) -> None:
        (self.folder / "samconfig.toml").write_text(f"version = 0.1\n{text}")


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    (tmp_path / ".venvs").symlink_to((REPOSITORY / ".venvs").resolve())
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(PROFILES)
    (tmp_path / ".aws/credentials").write_text(KEYS)
    with recorded_aws(dict.fromkeys(STACKS, OUTPUTS)) as aws:
        yield Checkout(tmp_path, aws)


type Refused = Callable[..., str]


@pytest.fixture
def refused(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """Call the command's function, which has to end with 1 and change nothing; what it says."""

    def refused(*arguments: str, shell: Mapping[str, str] = SHELL) -> str:
        for name in os.environ:
            if name.startswith(("AWS_", "SAM_")):
                monkeypatch.delenv(name)
        for name, value in checkout.environment(shell).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(checkout.folder)
        assert deploy.main(list(arguments)) == 1
        assert changes(checkout.aws.calls) == []
        return capsys.readouterr().out

    return refused


def changes(calls: list[Call]) -> list[Call]:
    of_stacks = (call for call in calls if call.service == "cloudformation")
    return [call for call in of_stacks if not call.action.startswith(("Describe", "Get"))]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_gate_looks_where_sam_deploys(shape: Shape, checkout: Checkout) -> None:
    checkout.configure(shape.text)
    done = checkout.run(shape.stack, shell=shape.exported)
    (deployed,) = changes(checkout.aws.calls)
    assert deployed.action == "CreateChangeSet", done
    assert {(call.region, call.key) for call in checkout.aws.calls} == {(shape.region, shape.key)}
    names = [
        call.parameters.get("StackName") for call in checkout.aws.calls if call.service == "cloudformation"
    ]
    assert set(names) - {SAMS_OWN} == {shape.deployed}
    assert "dynamodb" in {call.service for call in checkout.aws.calls}, "the gate has looked"
    assert deployed.parameters["ChangeSetType"] == "UPDATE"
    assert deployed.parameters["Parameters.member.1.ParameterKey"] == "Company"
    if shape.company:
        assert deployed.parameters["Parameters.member.1.ParameterValue"] == shape.company
    else:
        assert deployed.parameters["Parameters.member.1.UsePreviousValue"] == "true"
    assert done.returncode != 0, "the endpoint lets nobody change anything"


REFUSED = {
    "settings of other commands alone, as in SAM's own page": (
        "prod",
        f"{TWO}\n[prod.sync.parameters]\nwatch = false\n",
        "no environments for the stack prod",
    ),
    "a name that SAM does not read": (
        "meanwhile",
        '[default.deploy.parameters]\nstack-name = "meanwhile"\n',
        "no environments for the stack meanwhile",
    ),
    "the same stack in two regions (aws-sam-cli#2074)": (
        "meanwhile",
        '[eu]\ndeploy.parameters.stack_name = "meanwhile"\n[us]\ndeploy.parameters.stack_name = "meanwhile"',
        "2 environments for the stack meanwhile",
    ),
    "what is no TOML (aws-sam-cli#2311)": (
        "meanwhile",
        '[default.deploy.parameters]\nstack_name=meanwhile"\n',
        "samconfig.toml can't be read",
    ),
    "a variable for a region": (
        "meanwhile",
        '[default.deploy.parameters]\nstack_name = "meanwhile"\nregion = "$AWS_REGION"\n',
        "$AWS_REGION",
    ),
    "a number for a region": (
        "meanwhile",
        '[default.deploy.parameters]\nstack_name = "meanwhile"\nregion = 7\n',
        "region must be a string",
    ),
    "environments that are no tables": (
        "staging",
        'default = "meanwhile"\n[staging]\ndeploy = true\n[staging.global]\nparameters = []\n',
        "no environments for the stack staging",
    ),
}


@pytest.mark.parametrize(("stack", "text", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_the_file_does_not_say_clearly_is_not_deployed(
    stack: str, text: str, reason: str, checkout: Checkout, refused: Refused
) -> None:
    checkout.configure(text)
    assert reason in refused(stack)
    assert checkout.aws.calls == []


def test_a_stack_that_is_only_in_review_is_not_there(checkout: Checkout, refused: Refused) -> None:
    """A change set that would make it, and was not executed, leaves that behind."""
    checkout.configure(TWO.replace("resolve_s3 = true", 's3_bucket = "bucket"'))  # SAM's own stack is whole
    checkout.aws.status = "REVIEW_IN_PROGRESS"
    assert "if this is its first deployment, say FIRST=1" in refused("meanwhile-staging")
    checkout.run("meanwhile-staging", "--first")
    (made,) = changes(checkout.aws.calls)
    assert (made.action, made.parameters["ChangeSetType"]) == ("CreateChangeSet", "CREATE")


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "ROLLBACK_COMPLETE"])
def test_a_stack_of_another_project_is_left_alone(status: str, checkout: Checkout, refused: Refused) -> None:
    checkout.configure(TWO)
    checkout.aws.stacks["meanwhile"], checkout.aws.status = {"Website": "https://example.com"}, status
    assert "is another project's, or could not be made" in refused("meanwhile")


def test_a_stack_without_journeys_has_none_to_look_at(checkout: Checkout) -> None:
    checkout.configure(TWO)
    checkout.aws.stacks["meanwhile"] = {"ConversationTableName": "Conversations"}
    checkout.run("meanwhile")
    assert [call.action for call in changes(checkout.aws.calls)] == ["CreateChangeSet"]
    assert "dynamodb" not in {call.service for call in checkout.aws.calls}


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "Throttling"])
def test_what_cannot_be_looked_at_is_not_deployed(code: str, checkout: Checkout, refused: Refused) -> None:
    checkout.configure(TWO)
    checkout.aws.refuses = code
    assert code in refused("meanwhile")


@pytest.mark.parametrize(
    ("shell", "reason"),
    [
        ({name: value for name, value in SHELL.items() if name != "AWS_DEFAULT_REGION"}, "region"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "credentials"),
    ],
)
def test_a_shell_without_region_or_credentials_deploys_nothing(
    shell: Mapping[str, str], reason: str, checkout: Checkout, refused: Refused
) -> None:
    checkout.configure(f'[default.deploy.parameters]\nstack_name = "meanwhile"\n{NECESSARY}')
    assert reason in refused("meanwhile", shell=shell)
    assert checkout.aws.calls == []
