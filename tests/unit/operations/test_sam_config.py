"""The gate and the deployment take a stack's own environment of samconfig, or nothing."""

from pathlib import Path

import pytest

from operations.sam_config import NotConfigured, deployment_of
from tests.support.template import REPOSITORY

TWO = """
version = 0.1

[default.global.parameters]
stack_name = "meanwhile"
region = "eu-west-1"

[default.deploy.parameters]
parameter_overrides = "AlphaUrl=https://alpha.example.com"

[staging.global.parameters]
region = "eu-central-1"

[staging.deploy.parameters]
stack_name = "staging"
profile = "tests"
parameter_overrides = "AlphaUrl=https://alpha.test.example.com"
"""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    (tmp_path / "samconfig.toml").write_text(TWO)
    return tmp_path


def found(stack_name: str, folder: Path) -> tuple[str, str | None, str | None]:
    deployment = deployment_of(stack_name, folder)
    return deployment.environment, deployment.region, deployment.profile


def test_each_stack_has_its_own(two: Path) -> None:
    assert found("meanwhile", two) == ("default", "eu-west-1", None)
    assert found("staging", two) == ("staging", "eu-central-1", "tests")


def test_a_command_overrides_what_is_for_all_of_them(tmp_path: Path) -> None:
    """As in aws-sam-cli: the table of the command counts before that of `global`."""
    (tmp_path / "samconfig.toml").write_text(
        '[default.global.parameters]\nstack_name = "a"\nregion = "eu-west-1"\n'
        '[default.deploy.parameters]\nstack_name = "b"\nregion = "us-east-1"\n'
    )
    assert found("b", tmp_path) == ("default", "us-east-1", None)
    with pytest.raises(NotConfigured):
        deployment_of("a", tmp_path)


def test_another_stack_does_not_get_the_default_ones_parameters(two: Path) -> None:
    with pytest.raises(NotConfigured, match=r"no environments for the stack trial.*--config-env trial"):
        deployment_of("trial", two)


def test_an_environments_name_is_not_its_stacks(tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text(
        '[staging.deploy.parameters]\nstack_name = "meanwhile-staging"\nregion = "eu-west-1"\n'
    )
    assert found("meanwhile-staging", tmp_path)[0] == "staging"
    with pytest.raises(NotConfigured, match=r"say STACK=meanwhile-staging$"):
        deployment_of("staging", tmp_path)


def test_an_environment_without_a_stack_name_is_the_stacks_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text('[staging.deploy.parameters]\nregion = "eu-west-1"\n')
    assert found("staging", tmp_path) == ("staging", "eu-west-1", None)


def test_two_environments_for_one_stack_are_refused(tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text(
        '[default.deploy.parameters]\nstack_name = "a"\n[other.deploy.parameters]\nstack_name = "a"\n'
    )
    with pytest.raises(NotConfigured, match="2 environments for the stack a"):
        deployment_of("a", tmp_path)


@pytest.mark.parametrize("name", ["samconfig.yaml", "samconfig.yml"])
def test_yaml_is_read_where_there_is_no_toml(name: str, tmp_path: Path) -> None:
    text = (
        "version: 0.1\ndefault:\n  deploy:\n    parameters:\n      stack_name: a\n      region: eu-west-1\n"
    )
    (tmp_path / name).write_text(text)
    assert found("a", tmp_path) == ("default", "eu-west-1", None)
    (tmp_path / "samconfig.toml").write_text(TWO)
    with pytest.raises(NotConfigured):
        deployment_of("a", tmp_path)


@pytest.mark.parametrize("content", ["", "version = 0.1\n", "[default.build.parameters]\ncached = true\n"])
def test_without_a_word_on_deploying_it_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text(content)
    with pytest.raises(NotConfigured):
        deployment_of("meanwhile", tmp_path)
    with pytest.raises(NotConfigured):
        deployment_of("meanwhile", tmp_path / "nowhere")


def test_this_repositorys_own_says_how_meanwhile_is_deployed() -> None:
    assert found("meanwhile", REPOSITORY) == ("default", None, None)
