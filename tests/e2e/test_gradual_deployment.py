"""GradualDeployment on the emulator: aliases come, move to the next release, and go.

The emulator has no CodeDeploy, so aliases move at once here; docs/aws-conformance.md says what was done
instead.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local import companies
from local import ivr as ivr_module
from local.companies import SOURCES, Companies
from local.emulator import deployment, ministack
from local.emulator.ministack import Emulator
from local.emulator.stack import NAME, Stack
from local.emulator.warm_up import warm_up
from local.errors import DeploymentError
from local.ivr import Ivr
from operations import doctor
from operations.doctor import Patient
from tests.e2e.test_journeys import APPROVAL, Call

# Deployments over each other, in this order.
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

FUNCTIONS = 10


@dataclass
class Operator:
    """Who deploys the stack, again and again."""

    directory: Path
    aws: Emulator
    companies: Companies
    stack: Stack | None = None

    def client(self, service: str) -> Any:
        session: Any = deployment.emulator_session()
        return session.client(service, endpoint_url=self.aws.endpoint)

    def deploy(self, setting: str) -> Stack:
        parameters = {f"{source.capitalize()}Url": self.companies.base_url(source) for source in SOURCES}
        parameters |= {"CrmUrl": self.companies.crm_url, "GradualDeployment": setting, "ReadRateLimit": "10"}
        self.stack = deployment.deploy(self.directory, self.aws.endpoint, parameters)
        return self.stack

    def calling(self) -> Any:
        assert self.stack is not None
        return ivr_module.calling(self.stack)

    def versions(self) -> list[tuple[list[str], dict[str, str]]]:
        """Of each function: its versions but for $LATEST, and its aliases with what they name."""
        client = self.client("lambda")
        found = []
        for name in [one["FunctionName"] for one in client.list_functions()["Functions"]]:
            versions = client.list_versions_by_function(FunctionName=name)["Versions"]
            named = client.list_aliases(FunctionName=name)["Aliases"]
            found.append(
                (
                    [one["Version"] for one in versions if one["Version"] != "$LATEST"],
                    {one["Name"]: one["FunctionVersion"] for one in named},
                )
            )
        return found

    def patient(self, patch: pytest.MonkeyPatch) -> Patient:
        assert self.stack is not None
        patch.setenv("AWS_ENDPOINT_URL", self.aws.endpoint)
        return Patient.of(self.stack.session, self.stack.name, self.stack.api_url)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    directory = tmp_path_factory.mktemp("gradual")
    with (
        companies.running(directory) as demo,
        ministack.running(directory) as aws,
        deployment.build_lock(),
    ):
        deployment.build(directory)
        operator = Operator(directory, aws, demo)
        operator.deploy("off")
        yield operator


def see_it_identify(operator: Operator, ivr: Ivr) -> None:
    assert operator.stack is not None
    warm_up(operator.stack, operator.companies, ivr)
    conversation_id = str(uuid.uuid4())
    assert ivr.start(conversation_id, "+33639984101").status == 202
    assert ivr.read(conversation_id, wait=20).document["status"] == "NOT_FOUND"


def test_off_no_version_is_ever_made(operator: Operator) -> None:
    assert operator.versions() == [([], {})] * FUNCTIONS


def test_the_emulator_has_no_codedeploy(operator: Operator) -> None:
    """When it has, this fails, and the tests below are to move aliases bit by bit."""
    with pytest.raises(DeploymentError, match="AWS::CodeDeploy::"):
        operator.deploy("Canary10Percent5Minutes")


def test_callers_come_to_functions_by_their_aliases(operator: Operator) -> None:
    stack = operator.deploy("AllAtOnce")
    assert operator.versions() == [(["1"], {"live": "1"})] * FUNCTIONS

    machine = operator.client("stepfunctions").describe_state_machine(
        stateMachineArn=stack.outputs["StateMachineArn"]
    )
    lookups = json.loads(machine["definition"])["States"]["Name the companies"]["Result"]
    mappings = operator.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    group = operator.client("scheduler").list_schedules()["Schedules"]
    called = [
        *(one["function"] for one in lookups),
        *(one["FunctionArn"] for one in mappings),
        *(one["Target"]["Arn"] for one in group),
    ]
    assert len(called) == 3 + 2 + 1
    assert [one for one in called if not one.endswith(":live")] == []


def test_a_caller_is_identified_through_them(operator: Operator) -> None:
    with operator.calling() as ivr:
        see_it_identify(operator, ivr)


def test_the_doctor_examines_what_callers_call(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = list(doctor.examine(operator.patient(monkeypatch)))
    wrong = [one.what for one in findings if one.state == "WRONG"]
    assert all("hears of" in what or "subscri" in what for what in wrong), wrong
    good = " ".join(one.what for one in findings if one.state == "ok")
    for what in (
        f"each of {FUNCTIONS} aliases names one version",
        "Alpha answers",
        "journeys hear of changes",
        "journeys are woken up",
        "a journey goes on by itself and ends",
    ):
        assert what in good


def test_the_doctor_finds_an_alias_that_was_left_between_versions(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = operator.patient(monkeypatch)
    function, client = patient.physical("ReadConversationFunction"), operator.client("lambda")
    client.update_function_configuration(FunctionName=function, Description="stopped by hand")
    version = client.publish_version(FunctionName=function)["Version"]
    split = {"AdditionalVersionWeights": {version: 0.1}}
    client.update_alias(FunctionName=function, Name="live", RoutingConfig=split)
    [finding] = [one for one in doctor.aliases(patient) if one.state == "WRONG"]
    assert finding.what == "ReadConversationFunctionAliaslive names two versions"
    client.update_alias(FunctionName=function, Name="live", RoutingConfig={})
    client.delete_function(FunctionName=function, Qualifier=version)
    assert [one.state for one in doctor.aliases(patient)] == ["ok"]


@pytest.fixture
def release() -> Iterator[Path]:
    """The next release: code in a layer has changed, and none in a function's own folder."""
    copy = deployment.BUILT.with_name(f"release-{os.getpid()}")  # the template has relative paths
    shutil.copytree(deployment.BUILT, copy)
    for layer in ("ConversationLayer/python/conversation", "JourneysLayer/python/journeys"):
        with (copy / layer / "__init__.py").open("a") as file:
            file.write("\nNEXT_RELEASE = True\n")
    yield copy
    shutil.rmtree(copy)


def test_a_release_moves_every_alias_and_a_waiting_journey_goes_on(operator: Operator, release: Path) -> None:
    with operator.calling() as ivr:
        see_it_identify(operator, ivr)
        call = Call(ivr, operator.companies, "+33639984120")
        call.to_supervisor()

        deployment.redeploy(operator.directory, operator.aws.endpoint, release)

        for versions, aliases in operator.versions():
            assert len(versions) == 1, "the version before is gone"
            assert versions != ["1"]
            assert aliases == {"live": versions[0]}
        see_it_identify(operator, ivr)
        assert ivr.send_event(call.workflow_id, "approve", APPROVAL).document == {"output": "approved"}
        assert call.end()["result"] == "approved"


def test_off_again_everything_of_it_is_gone(operator: Operator) -> None:
    operator.deploy("off")
    assert operator.versions() == [([], {})] * FUNCTIONS
    with operator.calling() as ivr:
        see_it_identify(operator, ivr)


def test_a_stack_with_aliases_can_be_taken_away(operator: Operator) -> None:
    operator.deploy("AllAtOnce")
    cloudformation = operator.client("cloudformation")
    cloudformation.delete_stack(StackName=NAME)
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    assert operator.versions() == []
