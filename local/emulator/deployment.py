"""The stack built by SAM, and deployed to the emulator with what that leaves out."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3

from local import processes
from local.companies import CREDENTIALS
from local.emulator import gateway_gaps, schedule_gaps
from local.emulator.ministack import REGION
from local.emulator.stack import NAME, Stack
from local.errors import DeploymentError

_SAM = processes.REPOSITORY / ".venvs/sam/bin/sam"
_SAM_BUILD = processes.BUILD / "sam"
BUILT = _SAM_BUILD / "build"
_SAM_DEADLINE_SECONDS = 600


def emulator_session() -> boto3.Session:
    """Credentials that the emulator takes for the account's root."""
    return boto3.Session("test", "test", region_name=REGION)


def build(directory: Path, checkout: Path = processes.REPOSITORY, to: Path = BUILT) -> Path:
    """`sam build` of a checkout, whatever has not changed since the last time taken from the cache.

    Returns the folder that `deploy` and `redeploy` take.
    """
    _sam(
        [
            *["build", "--cached", "--cache-dir", f"{_SAM_BUILD}/cache", "--build-dir", str(to)],
            *["--template-file", f"{checkout}/template.yaml", "--base-dir", str(checkout)],
        ],
        log=directory / "sam-build.log",
    )
    return to


def deploy(
    directory: Path, endpoint: str, parameters: Mapping[str, str], name: str = NAME, built: Path = BUILT
) -> Stack:
    """`sam deploy` of what `build` made to the emulator at `endpoint`, and the demo companies' credentials.

    deploy(directory, "http://127.0.0.1:4566", {"AlphaUrl": "http://127.0.0.1:8000/alpha", ...})

    Raises `DeploymentError`.
    """
    _sam_deploy(directory, endpoint, built, name, [f"{key}={value}" for key, value in parameters.items()])
    stack = Stack.from_cloudformation(name, endpoint=endpoint, session=emulator_session())
    fill_secrets(stack)
    gateway_gaps.complete_import(stack)
    schedule_gaps.allow_schedules(stack)
    return stack


def fill_secrets(stack: Stack) -> None:
    """Write what the demo companies take, and with `CrmUrl` what their CRM takes."""
    secrets = stack.session.client("secretsmanager", endpoint_url=stack.endpoint)
    for service, credentials in CREDENTIALS.items():
        if arn := stack.outputs.get(f"{service.capitalize()}SecretArn"):
            secrets.put_secret_value(SecretId=arn, SecretString=json.dumps(credentials))


def redeploy(directory: Path, endpoint: str, built: Path = BUILT) -> None:
    """`sam deploy` of another build over the stack that `deploy` has made, with the parameters it has."""
    _sam_deploy(directory, endpoint, built, NAME, [])


def _sam_deploy(directory: Path, endpoint: str, built: Path, name: str, parameters: list[str]) -> None:
    _sam(
        ["deploy", "--template-file", f"{built}/template.yaml", "--stack-name", name]
        + ["--region", REGION, "--resolve-s3", "--language-extensions"]
        + ["--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
        + ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"]
        + (["--parameter-overrides", *parameters] if parameters else []),
        log=directory / "sam-deploy.log",
        endpoint=endpoint,
    )


@contextmanager
def build_lock() -> Iterator[None]:
    """Keep other runs out while this one builds and deploys: SAM empties its build directory first."""
    _SAM_BUILD.mkdir(parents=True, exist_ok=True)
    with (_SAM_BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sam(arguments: list[str], *, log: Path, endpoint: str = "") -> None:
    temporary = log.parent / "sam-tmp"
    temporary.mkdir(exist_ok=True)
    # Neither the caller's AWS account nor the caller's Python: pip's own settings and proxies are kept.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    env |= {
        # SAM builds with the python3.13 that it finds first, and needs pip in it.
        "PATH": f"{processes.REPOSITORY}/.venvs/development/bin:{os.environ['PATH']}",
        "TMPDIR": str(temporary),
        "SAM_CLI_TELEMETRY": "0",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    with processes.running([_SAM, *arguments], log=log, env=env) as process:
        try:
            status = process.wait(_SAM_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
    if status != 0:
        raise DeploymentError(f"sam {arguments[0]} ended with {status}:\n{_reason(log)}")


def _reason(log: Path) -> str:
    """What SAM says of the first resource that failed; of a rollback, its last lines say nothing."""
    lines = log.read_text().splitlines()
    failed = next((number for number, line in enumerate(lines) if "_FAILED" in line), len(lines) - 30)
    return "\n".join(lines[max(failed, 0) :][:30])
