"""Which account, region and parameters `sam deploy` takes for a stack: those of samconfig's environments.

    [default.deploy.parameters]           [staging.deploy.parameters]
    stack_name = "meanwhile"              stack_name = "staging"
    region = "eu-west-1"                  profile = "tests"
    parameter_overrides = "…"             parameter_overrides = "…"

SAM takes the environment `default` unless it is told `--config-env`, whatever stack it deploys: a second
stack would get the first one's parameters.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

# In SAM's order; the first that there is counts.
FILES = ("samconfig.toml", "samconfig.yaml", "samconfig.yml")
_TEXTS = ("region", "profile")


class NotConfigured(Exception):
    """samconfig does not say how this stack is deployed."""


@dataclass(frozen=True)
class Deployment:
    """How SAM deploys a stack; None is whatever the AWS command line takes."""

    environment: str
    region: str | None
    profile: str | None

    def session(self) -> boto3.Session:
        """Credentials and region as SAM takes them."""
        return boto3.Session(profile_name=self.profile, region_name=self.region)

    @property
    def where(self) -> str:
        """The region, and the profile if samconfig names one."""
        region = self.session().region_name or "no region"
        return f"{region} (profile {self.profile})" if self.profile else region


def deployment_of(stack_name: str, folder: Path = Path()) -> Deployment:
    """Find the environment whose stack this is.

        deployment_of("staging").region

    That is the environment with the stack's name, or with the stack as its `stack_name`. Raises NotConfigured
    when there is none, or when two say different things.
    """
    document = _read(folder)
    # One without any is for other commands, and an empty one for `sam deploy`.
    environments = {name: found for name, one in document.items() if (found := _parameters(one))}
    named = environments.get(stack_name)
    if named is not None and named.get("stack_name", stack_name) != stack_name:
        other = named["stack_name"]
        raise NotConfigured(
            f"samconfig's environment {stack_name} deploys the stack {other}: say STACK={other}"
        )
    fitting = [name for name, one in environments.items() if one.get("stack_name") == stack_name]
    if named is not None and stack_name not in fitting:
        fitting.append(stack_name)
    if len(fitting) != 1:
        guided = f"sam deploy --guided --config-env {stack_name} --stack-name {stack_name}"
        raise NotConfigured(
            f"samconfig has {len(fitting) or 'no'} environments for the stack {stack_name}, and `default` "
            f"would give it another's parameters: {guided}"
        )
    [environment] = fitting
    parameters = environments[environment]
    wrong = [name for name in _TEXTS if not isinstance(parameters.get(name, ""), str)]
    if wrong:
        raise NotConfigured(f"samconfig's environment {environment}: {' and '.join(wrong)} must be a string")
    return Deployment(environment, parameters.get("region"), parameters.get("profile"))


def _read(folder: Path) -> Mapping[str, Any]:
    for path in (folder / name for name in FILES):
        if path.is_file():
            text = path.read_text()
            try:
                document = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
            except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
                raise NotConfigured(f"{path.name} can't be read: {error}") from error
            return document if isinstance(document, dict) else {}
    return {}


def _parameters(environment: Any) -> dict[str, Any]:
    """What `sam deploy` takes from an environment: its own table, over that for all commands."""
    return {**_table(environment, "global", "parameters"), **_table(environment, "deploy", "parameters")}


def _table(value: Any, *path: str) -> dict[str, Any]:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
