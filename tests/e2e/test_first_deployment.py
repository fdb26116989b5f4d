"""docs/first-deployment.md, its one command run whole: into an empty account, which the emulator plays."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local import companies
from local.companies import SOURCES, Behaviour, Companies
from local.emulator import deployment, gateway_gaps, ministack, schedule_gaps
from local.emulator.ministack import REGION, Emulator
from local.emulator.stack import Stack
from local.processes import REPOSITORY
from local.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900, func_only=True)]

STACK = "staging"
SECONDS = 800
PAGE = (REPOSITORY / "docs/first-deployment.md").read_text()
# The emulator's account has less concurrency than AWS gives to most, and looks through tests' bursts.
PARAMETERS = {
    "DefaultRegion": "FR",
    "ReadRateLimit": "10",
    "ThrottlingRateLimit": "1000",
    "ThrottlingBurstLimit": "1000",
}
# What make and the shell that ran this test would bring along.
OURS = ("AWS_", "PYTHON", "MAKE", "MFLAGS", "PYTEST_", "SAM_", "STACK")


@dataclass(frozen=True)
class Account:
    """The emulator, and the checkout of somebody who has never deployed into it."""

    emulator: Emulator
    companies: Companies
    checkout: Path

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return kept | {
            # SAM builds with the python3.13 that it finds first.
            "PATH": f"{self.checkout}/.venvs/development/bin:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "SAM_CLI_TELEMETRY": "0",
            "AWS_ENDPOINT_URL": self.emulator.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def configure(self) -> None:
        """What `sam deploy --guided` writes down."""
        urls = {f"{source.capitalize()}Url": self.companies.base_url(source) for source in SOURCES}
        parameters = {**PARAMETERS, **urls, "CrmUrl": self.companies.crm_url}
        overrides = " ".join(f"{name}={value}" for name, value in parameters.items())
        with (self.checkout / "samconfig.toml").open("a") as file:
            file.write(
                f'\n[{STACK}.deploy.parameters]\nstack_name = "{STACK}"\nregion = "{REGION}"\n'
                f'resolve_s3 = true\nconfirm_changeset = false\nparameter_overrides = "{overrides}"\n'
            )

    def prepare(self) -> None:
        """What the page tells to do before Enter; and what the emulator does not do by itself."""
        session = deployment.emulator_session()
        stack = Stack.from_cloudformation(STACK, endpoint=self.emulator.endpoint, session=session)
        gateway_gaps.complete_import(stack)
        schedule_gaps.allow_schedules(stack)
        deployment.fill_secrets(stack)
        for topic in ("AlarmTopicArn", "NoticeTopicArn"):
            session.client("sns", endpoint_url=self.emulator.endpoint).subscribe(
                TopicArn=stack.outputs[topic], Protocol="email", Endpoint="on-call@example.com"
            )


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    checkout = tmp_path / "checkout"
    listed = subprocess.check_output(  # noqa: S603
        ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]  # noqa: S607
    )
    for name in listed.decode().rstrip("\0").split("\0"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_file():
            shutil.copy2(REPOSITORY / name, checkout / name)  # with its time, by which make goes
    (checkout / ".venvs").symlink_to((REPOSITORY / ".venvs").resolve())
    make_installs_nothing(checkout)
    with companies.running(tmp_path) as demo, ministack.running(tmp_path) as aws:
        for source in SOURCES:
            demo.behave(source, Behaviour(latency=0))
        yield Account(aws, demo, checkout)


def make_installs_nothing(checkout: Path) -> None:
    """The environments are those that run this test: replaced through the link, they would end with it."""
    for requirements in (checkout / "requirements").iterdir():
        os.utime(requirements, (0, 0))
    make = ["make", "--question", "development", "emulator", "sam", "runtime"]
    asked = subprocess.run(make, cwd=checkout, check=False)  # noqa: S603
    assert asked.returncode == 0, "first: make development emulator sam runtime"


def test_the_command_ends_well_and_its_page_has_the_figures(account: Account, tmp_path: Path) -> None:
    account.configure()
    [imports] = re.findall(r"^export PYTHONPATH=(\S+)$", PAGE, re.MULTILINE)
    [command] = re.findall(r"^\.venvs/development/bin/python -m operations.*$", PAGE, re.MULTILINE)
    output = tmp_path / "output"
    with (
        output.open("w") as file,
        subprocess.Popen(  # noqa: S603
            command.split(),
            cwd=account.checkout,
            env={**account.environment(), "PYTHONPATH": imports},
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_until(
                lambda: "press Enter" in output.read_text() or process.poll() is not None, seconds=SECONDS
            )
            assert process.poll() is None, output.read_text()[-3000:]
            account.prepare()
            process.communicate("\n", timeout=SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
    said = output.read_text()
    assert process.returncode == 0, said[-5000:]
    page = (account.checkout / "first-deployment.md").read_text()
    assert page in said
    assert "WRONG" not in page
    assert "- ok: an identification ends as NOT_FOUND" in page
    assert re.search(r"^=* ?\d+ passed", page, re.MULTILINE)
    assert "Statuses: NOT_FOUND." in page
