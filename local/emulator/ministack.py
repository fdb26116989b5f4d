"""MiniStack, the AWS emulator, on loopback: Lambda, Step Functions, DynamoDB, API Gateway and the rest."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from local import processes

REGION = "us-east-1"
_PYTHON = processes.REPOSITORY / ".venvs/emulator/bin/python"
# Linux's file system in memory; mkdtemp makes what lies in it ours alone.
MEMORY = Path("/dev/shm")  # noqa: S108  # nosec B108
_PLENTY_BYTES = 8 * 1024**3


@dataclass(frozen=True)
class Emulator:
    """A running emulator: `endpoint` is what AWS clients call."""

    endpoint: str
    log: Path


@contextmanager
def running(directory: Path, *, functions_call: str = "") -> Iterator[Emulator]:
    """An emulator on a free port for the length of a `with` block; its log goes to `directory`.

        with emulator.running(directory) as aws:
            boto3.client("dynamodb", endpoint_url=aws.endpoint, ...)

    IAM is enforced: the functions' own roles decide what they may call, as on AWS, and CloudTrail's
    LookupEvents tells which calls were made. `functions_call` is a URL that functions take for AWS's, such as
    that of a proxy; else it is the emulator's. Raises `StartError` after 60 seconds.
    """
    port = processes.free_port()
    emulator = Emulator(f"http://127.0.0.1:{port}", directory / "emulator.log")
    temporary = _scratch(directory)
    command = [str(_PYTHON), "-P", str(Path(__file__).with_name("guarded.py"))]
    try:
        with processes.running(
            command, log=emulator.log, env=_environment(port, temporary, functions_call), cwd=temporary
        ) as process:
            processes.wait_until_ready(
                process, lambda: _answers(emulator), log=emulator.log, deadline_seconds=60
            )
            yield emulator
    finally:
        # The emulator leaves the code of every function that it ran.
        shutil.rmtree(temporary, ignore_errors=True)


def _scratch(directory: Path) -> Path:
    """Make the directory in which the emulator unpacks code: 3,000 files for each environment of a function.

    In memory where there is plenty of it: on a disk, a hundred environments take minutes to write and remove.
    """
    if MEMORY.is_dir():
        for left in MEMORY.glob("meanwhile-*"):  # by a run that was killed
            if not psutil.pid_exists(int(left.name.split("-")[1])):
                shutil.rmtree(left, ignore_errors=True)
        if min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) > _PLENTY_BYTES:
            return Path(tempfile.mkdtemp(prefix=f"meanwhile-{os.getpid()}-", dir=MEMORY))
    temporary = directory / "emulator-tmp"
    temporary.mkdir()
    return temporary


def _environment(port: int, temporary: Path, functions_call: str) -> dict[str, str]:
    # Built up from nothing: the workers inherit it, and a PYTHONPATH or an AWS profile of the caller's shell
    # would make functions work here that fail on AWS.
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "AUTH": "true",
        "CLOUDTRAIL_RECORDING": "1",
        "CLOUDTRAIL_MAX_EVENTS": "200000",
        # One thread for each Lambda call that is running; readers that wait hold theirs for seconds.
        "MINISTACK_WORKER_THREADS": "256",
        # What is warm stays warm for as long as any run takes.
        "LAMBDA_WARM_TTL_SECONDS": "7200",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{temporary}/no-docker.sock",
        **({"AWS_ENDPOINT_URL": functions_call} if functions_call else {}),
    }


def _answers(emulator: Emulator) -> bool:
    try:
        return httpx.get(f"{emulator.endpoint}/_ministack/health", timeout=1).is_success
    except httpx.TransportError:
        return False
