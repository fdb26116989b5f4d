"""The last release deployed and in use, this one over it, and back again: nothing and nobody is lost.

What the template alone can lose, such as a table, is the matter of test_deployed_over_last_release.py; here
each release's functions meet what the other's have stored.
"""

import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from local import companies
from local import ivr as ivr_module
from local.companies import CREDENTIALS, SOURCES, Behaviour, Companies
from local.emulator import deployment, ministack, schedule_gaps
from local.emulator.ministack import Emulator
from local.emulator.stack import NAME, Stack
from local.ivr import Ivr
from local.processes import REPOSITORY
from tests.e2e.test_journeys import APPROVAL, Call

pytestmark = [pytest.mark.long, pytest.mark.timeout(900, func_only=True)]

# Version 0.9.0, as tests/architecture/last_release.json.
LAST_RELEASE = "1cf80fd349924af2e4d17aa4ff5f2c77350e2641"
NUMBERS = iter(f"+336399870{number:02}" for number in range(100))


@dataclass(frozen=True)
class Releases:
    """A stack that has had the last release and has it again, and the release of this checkout."""

    emulator: Emulator
    companies: Companies
    directory: Path
    last: Path
    this: Path

    def deploy(self, built: Path) -> None:
        deployment.redeploy(self.directory, self.emulator.endpoint, built)
        schedule_gaps.allow_schedules(self.stack)

    @property
    def stack(self) -> Stack:
        session = deployment.emulator_session()
        return Stack.from_cloudformation(NAME, endpoint=self.emulator.endpoint, session=session)

    def fill_secrets(self) -> None:
        """The emulator writes over them at each deployment that changes how a secret was first made."""
        deployment.fill_secrets(self.stack)

    @contextmanager
    def ivr_for(self, *calls: Call) -> Iterator[Ivr]:
        """The IVR after a deployment, which changes the API's address on the emulator, and its calls."""
        with ivr_module.calling(self.stack) as ivr:
            for call in calls:
                call.ivr = ivr
                is_as_it_was(call)
            yield ivr


def checked_out(commit: str, folder: Path) -> Path:
    """The repository as it was; skips where this clone has no past."""
    git = ["git", "-C", str(REPOSITORY)]
    shallow = subprocess.check_output([*git, "rev-parse", "--is-shallow-repository"], text=True)  # noqa: S603
    if shallow.strip() == "true":
        pytest.skip(f"a shallow clone does not have {commit}: git fetch --unshallow")
    archive = folder / "release.tar"
    subprocess.run([*git, "archive", "--output", archive, commit], check=True)  # noqa: S603
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "release", filter="data")
    return folder / "release"


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Releases]:
    directory = tmp_path_factory.mktemp("releases")
    with companies.running(directory) as demo, ministack.running(directory) as aws:
        for source in SOURCES:
            demo.behave(source, Behaviour(latency=0))
        demo.accept("crm", CREDENTIALS["crm"], {"token": ""})  # the last release sends none
        last = deployment.build(directory, checked_out(LAST_RELEASE, directory), directory / "last")
        this = deployment.build(directory, REPOSITORY, directory / "this")
        urls = {f"{source.capitalize()}Url": demo.base_url(source) for source in SOURCES}
        deployment.deploy(directory, aws.endpoint, {**urls, "CrmUrl": demo.crm_url}, built=last)
        yield Releases(aws, demo, directory, last, this)


def new_call(ivr: Ivr, demo: Companies) -> Call:
    return Call(ivr, demo, next(NUMBERS)).identified()


def waiting_call(ivr: Ivr, demo: Companies) -> Call:
    """A call whose journey waits for the supervisor."""
    call = new_call(ivr, demo)
    call.to_supervisor()
    return call


def is_as_it_was(call: Call) -> None:
    reply = call.ivr.read(call.conversation_id)
    assert (reply.status, reply.document.get("status")) == (200, "SUCCESS"), reply
    assert reply.document["identity"]["customerId"] == call.customer_id


def ends_approved(call: Call, demo: Companies) -> None:
    """The supervisor approves and the journey ends, with the one note that it was to write."""
    answer = call.ivr.send_event(call.workflow_id, "approve", APPROVAL)
    assert (answer.status, answer.document) == (200, {"output": "approved"})
    ended = call.end()
    assert (ended["status"], ended["result"]) == ("FINISHED", "approved")
    assert demo.requests().notes[call.customer_id] == 1
    assert call.attributes()["retention"] == "approved"


def test_calls_and_journeys_go_on_over_both_deployments(releases: Releases) -> None:
    demo = releases.companies
    with ivr_module.calling(releases.stack) as ivr:
        old_over, old_back = waiting_call(ivr, demo), waiting_call(ivr, demo)
        timed = new_call(ivr, demo)
        timed.journey({"answer_within_seconds": 3600})

    releases.deploy(releases.this)
    releases.fill_secrets()
    with releases.ivr_for(old_over, old_back, timed) as ivr:
        ends_approved(old_over, demo)
        assert ivr.set_attributes(timed.conversation_id, {"reason": "cancel"}).status == 200
        timed.until(lambda document: "approve" in document["waitingFor"])
        new_over, new_back = waiting_call(ivr, demo), waiting_call(ivr, demo)
        ends_approved(new_over, demo)

    releases.deploy(releases.last)
    releases.fill_secrets()
    with releases.ivr_for(old_over, old_back, timed, new_over, new_back) as ivr:
        for call in (old_back, timed, new_back):
            ends_approved(call, demo)
        for call in (old_over, new_over):
            assert call.end()["result"] == "approved"
        ends_approved(waiting_call(ivr, demo), demo)
