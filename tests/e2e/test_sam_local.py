"""`sam local invoke` answers for every function, in a container with nothing but the runtime and the layers.

A Docker engine is needed, and the runtime's image. Where a script `sam-local/setup` lies in a folder beside
the repository, or SAM_LOCAL_SETUP names one, it prepares both; elsewhere an engine that runs is taken.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.companies import SOURCES, Companies, Source, invented_customer
from local.emulator.deployment import build, build_lock
from local.emulator.ministack import REGION
from local.emulator.stack import Stack
from local.ivr import Ivr
from local.processes import BUILD, REPOSITORY
from local.system import System
from tests.architecture import deployment
from tests.support.relay import LOOPBACK, bridge_address, relayed
from tests.support.template import Template

PREPARATION_SECONDS = 900
INVOCATION_SECONDS = 110
FUNCTIONS = [function.logical_name for function in deployment.FUNCTIONS]
ENGINE_PID = Path("/run/docker.pid")
SAM = REPOSITORY / ".venvs/sam/bin"

pytestmark = pytest.mark.long  # each invocation starts a container


def setup_script() -> Path | None:
    named = os.environ.get("SAM_LOCAL_SETUP")
    return Path(named) if named else next(REPOSITORY.parent.glob("*/sam-local/setup"), None)


def engine_runs() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    info = subprocess.run([docker, "info"], check=False, capture_output=True, timeout=60)  # noqa: S603 - docker itself
    return info.returncode == 0


@pytest.fixture(scope="module")
def engine() -> Iterator[list[str]]:
    """A Docker engine with an image of the runtime; yields what `sam local invoke` has to be told of it."""
    ran_before = engine_runs()
    script = setup_script()
    if script is None:
        if not ran_before:
            pytest.skip("no Docker engine runs here, and there is no script that starts one")
        yield []
        return
    finished = subprocess.run(  # noqa: S603 - a script of this machine, for this purpose
        [script, SAM / "python"], check=False, capture_output=True, text=True, timeout=PREPARATION_SECONDS
    )
    if finished.returncode != 0:
        said = (finished.stderr.strip() or finished.stdout.strip()).splitlines()[-1:]
        pytest.skip(f"{script.name} ended with {finished.returncode}: {' '.join(said)}")
    try:
        yield ["--skip-pull-image"]
    finally:
        if not ran_before:
            stop_engine()


def stop_engine() -> None:
    """End the engine that the script started; nobody else's was running."""
    os.kill(int(ENGINE_PID.read_text()), signal.SIGTERM)
    until = time.monotonic() + 60
    while ENGINE_PID.exists():
        assert time.monotonic() < until, "the Docker engine does not end"
        time.sleep(0.1)


@dataclass(frozen=True)
class SamLocal:
    """`sam local invoke` on a build of its own, whose AWS is the emulator."""

    directory: Path
    options: list[str]
    answered: set[str] = field(default_factory=set)

    def invoke(self, function: str, event: str) -> Any:
        """Run a function on a file of events/; returns what it answers."""
        command = [str(SAM / "sam"), "local", "invoke", function, "--event", f"{REPOSITORY}/events/{event}"]
        template = ["--template", "template.yaml", "--language-extensions"]
        finished = subprocess.run(  # noqa: S603 - our own sam
            [*command, *template, "--env-vars", "variables.json", *self.options],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "SAM_CLI_TELEMETRY": "0",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": REGION,
            },
            timeout=INVOCATION_SECONDS,
        )
        assert finished.returncode == 0, finished.stderr[-2000:]
        answers = [line for line in finished.stdout.splitlines() if line.startswith("{")]
        assert answers, finished.stderr[-2000:]
        self.answered.add(function)
        return json.loads(answers[-1])


@pytest.fixture(scope="module")
def sam_local(
    system: System | None,
    companies: Companies,
    stack: Stack,
    engine: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SamLocal]:
    """The functions as `sam build` leaves them; their AWS is the emulator, their companies the demo's."""
    assert system is not None, "companies skips what is not for the emulator"
    directory = tmp_path_factory.mktemp("sam-local")
    built = directory / "build"
    with build_lock():
        build(directory)
        shutil.copytree(BUILD / "sam/build", built)
    address = bridge_address()
    with (
        relayed(port_of(system.emulator.endpoint), address) as aws_port,
        relayed(port_of(companies.url), address) as companies_port,
    ):
        template = yaml.safe_load((built / "template.yaml").read_text())
        variables = template["Globals"]["Function"]["Environment"]["Variables"]
        # SAM hands on no variable that the template does not declare.
        variables["AWS_ENDPOINT_URL"] = f"http://host.docker.internal:{aws_port}"
        (built / "template.yaml").write_text(yaml.safe_dump(template))
        (built / "variables.json").write_text(json.dumps(variables_of_functions(stack)))
        urls = [
            f"{source.capitalize()}Url=http://host.docker.internal:{companies_port}/{source}"
            for source in SOURCES
        ]
        parameters = [*urls, f"Architecture={'arm64' if platform.machine() == 'aarch64' else 'x86_64'}"]
        # Docker Desktop leads this name to the loopback interface by itself.
        host = [] if address == LOOPBACK else ["--add-host", f"host.docker.internal:{address}"]
        yield SamLocal(built, [*engine, *host, "--parameter-overrides", *parameters])


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def variables_of_functions(stack: Stack) -> dict[str, dict[str, str]]:
    """What refers to other resources, which `sam local` cannot know: as it is in the deployed functions."""
    lambda_client = stack.session.client("lambda", endpoint_url=stack.endpoint)
    resources = json.loads(Template.load().as_json())["Resources"]
    found: dict[str, dict[str, str]] = {}
    for name in FUNCTIONS:
        deployed = lambda_client.get_function_configuration(FunctionName=physical_name(stack, name))
        declared = resources[name]["Properties"]["Environment"]["Variables"]
        found[name] = {
            variable: value
            for variable, value in deployed["Environment"]["Variables"].items()
            if refers_to_a_resource(declared.get(variable), resources)
        }
    return found


def refers_to_a_resource(value: object, resources: Mapping[str, Any]) -> bool:
    match value:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), _]}:
            return name in resources
        case {"Fn::If": [_, *either]}:
            return any(refers_to_a_resource(one, resources) for one in either)
        case _:
            return False


def physical_name(stack: Stack, logical_name: str) -> str:
    client = stack.session.client("cloudformation", endpoint_url=stack.endpoint)
    resource = client.describe_stack_resource(StackName=stack.name, LogicalResourceId=logical_name)
    return resource["StackResourceDetail"]["PhysicalResourceId"]


def event(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((REPOSITORY / "events" / name).read_text())
    return document


@pytest.mark.parametrize("source", SOURCES)
def test_a_lookup_answers(source: Source, sam_local: SamLocal, companies: Companies) -> None:
    number = event("look_up_caller.json")["callerNumber"]
    customer = invented_customer(source, number)
    companies.know(source, {number: customer})

    answer = sam_local.invoke(f"Lookup{source.capitalize()}Function", "look_up_caller.json")

    assert answer["outcome"] == "MATCH"
    assert answer["identity"]["customerId"] == customer.customer_id


def test_a_start_answers(sam_local: SamLocal, ivr: Ivr) -> None:
    answer = sam_local.invoke("StartIdentificationFunction", "start_identification.json")

    assert answer["statusCode"] in {200, 202}
    conversation_id = json.loads(answer["body"])["conversationId"]
    assert ivr.read(conversation_id, wait=20).document["status"] in {"SUCCESS", "NOT_FOUND"}


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("ReadConversationFunction", "read_conversation.json"),
        ("SetAttributesFunction", "set_attributes.json"),
    ],
)
def test_a_function_that_reads_or_writes_answers(
    function: str, name: str, sam_local: SamLocal, ivr: Ivr
) -> None:
    conversation_id = event(name)["pathParameters"]["conversationId"]
    ivr.start(conversation_id, json.loads(event("start_identification.json")["body"])["callerNumber"])

    answer = sam_local.invoke(function, name)

    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["conversationId"] == conversation_id
    if function == "SetAttributesFunction":
        assert ivr.read(conversation_id).document["attributes"]["reason"] == "billing"


def test_a_journey_starts_runs_and_is_swept(sam_local: SamLocal, ivr: Ivr) -> None:
    started = event("journeys_api.json")["pathParameters"]
    conversation_id = started["conversationId"]
    ivr.start(conversation_id, json.loads(event("start_identification.json")["body"])["callerNumber"])

    answer = sam_local.invoke("JourneysApiFunction", "journeys_api.json")

    assert answer["statusCode"] in {200, 202}
    workflow_id = json.loads(answer["body"])["workflowId"]
    assert workflow_id.startswith(f"{conversation_id}~{started['journey']}~")
    assert sam_local.invoke("RunJourneyFunction", "run_journey.json") == {"batchItemFailures": []}
    assert sam_local.invoke("NotifyJourneysFunction", "notify_journeys.json") == {"batchItemFailures": []}
    swept = sam_local.invoke("SweepJourneysFunction", "sweep_journeys.look_at_all.json")
    assert swept["journeys"] >= (0 if ivr.workflow(workflow_id).document["status"] == "FINISHED" else 1)


def test_a_bad_request_is_refused(sam_local: SamLocal) -> None:
    answer = sam_local.invoke("SetAttributesFunction", "set_attributes.invalid.json")
    assert answer["statusCode"] == 400
    assert json.loads(answer["body"])["error"]["code"] == "INVALID_REQUEST"


def test_every_function_has_answered(sam_local: SamLocal) -> None:
    assert sam_local.answered == set(FUNCTIONS)
