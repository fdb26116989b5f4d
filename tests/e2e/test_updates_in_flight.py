"""Deploying over journeys that wait: they go on under the new definition, or the gate refuses it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.companies import Companies
from local.emulator import deployment
from local.emulator.ministack import REGION
from local.ivr import Ivr
from local.processes import REPOSITORY
from local.system import System
from tests.e2e.test_journeys import APPROVAL, Call

LAYERS = ("layers/conversation", "layers/stepmark")
WAIT = '"for the supervisor"'
BEFORE = '            Step("ask the supervisor", self.ask),\n'
AFTER = '            Step("tell the IVR", self.tell),\n'
NEW_STEPS = """\
    def before(self) -> None:
        self.write_attributes({"before": "x"})

    def after(self) -> None:
        self.write_attributes({"after": "x"})

"""


@pytest.fixture(scope="module")
def unchanged(system: System | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the build that no other run builds over."""
    if system is None:
        pytest.skip("only a stack on this machine is deployed over")
    copy = deployment.BUILT.with_name(
        f"unchanged-{os.getpid()}"
    )  # beside it: the template has relative paths
    with deployment.build_lock():
        deployment.build(tmp_path_factory.mktemp("build"))
        shutil.copytree(deployment.BUILT, copy)
    yield copy
    shutil.rmtree(copy)


@pytest.fixture
def build(unchanged: Path) -> Iterator[Path]:
    """A copy of the build, for changes."""
    copy = deployment.BUILT.with_name(f"changed-{os.getpid()}")
    shutil.copytree(unchanged, copy)
    yield copy
    shutil.rmtree(copy)


@pytest.fixture
def deployed_back(system: System, unchanged: Path, tmp_path: Path) -> Iterator[None]:
    """Give the stack its own build back in the end."""
    yield
    deployment.redeploy(tmp_path, system.emulator.endpoint, unchanged)


def rewrite(build: Path, *changes: tuple[str, str]) -> Path:
    """Change the journey in a build; returns the layer's folder for imports."""
    folder = build / "JourneysLayer" / "python"
    file = folder / "journeys" / "retention.py"
    text = file.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text)
    shutil.rmtree(folder / "journeys" / "__pycache__")  # it is trusted unchecked
    return folder


def gate(system: System, journeys: Path) -> subprocess.CompletedProcess[str]:
    """What `make gate` runs, with the definitions of a folder."""
    paths = [str(REPOSITORY), str(journeys), *(str(REPOSITORY / layer) for layer in LAYERS)]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(paths),
        "AWS_ENDPOINT_URL": system.emulator.endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "operations.gate", system.stack.name],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("deployed_back")
def test_a_waiting_journey_goes_on_under_a_new_definition(
    system: System, ivr: Ivr, companies: Companies, build: Path, tmp_path: Path
) -> None:
    call = Call(ivr, companies, "+33639984020")
    call.to_supervisor()
    journeys = rewrite(
        build,
        (BEFORE, BEFORE + '            Step("inserted before", self.before),\n'),
        (AFTER, '            Step("inserted after", self.after),\n' + AFTER),
        ("    def ask(self)", f"{NEW_STEPS}    def ask(self)"),
    )
    checked = gate(system, journeys)
    assert (checked.returncode, checked.stdout) == (0, ""), checked

    deployment.redeploy(tmp_path, system.emulator.endpoint, build)
    assert ivr.send_event(call.workflow_id, "approve", APPROVAL).document == {"output": "approved"}

    assert call.end()["result"] == "approved"
    attributes = call.attributes()
    assert attributes["after"] == "x"
    assert "before" not in attributes
    assert attributes["retention"] == "approved"


@pytest.mark.timeout(600)
def test_the_gate_refuses_a_definition_without_the_position(
    system: System, ivr: Ivr, companies: Companies, build: Path
) -> None:
    call = Call(ivr, companies, "+33639984021")
    call.to_supervisor()
    refused = gate(system, rewrite(build, (WAIT, '"for the manager"')))
    assert refused.returncode == 1, refused
    lines = [line for line in refused.stdout.splitlines() if call.workflow_id in line]
    assert len(lines) == 1
    assert "no longer has statement 'for the supervisor'" in lines[0]
    assert ivr.cancel(call.workflow_id).status == 200
