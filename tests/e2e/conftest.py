"""A deployed stack to test: on this machine's emulator, or in an AWS account when STACK names one.

make e2e                      the emulator and the demo companies
make e2e STACK=meanwhile      that stack; tests that need the demo companies are skipped
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]
from xdist.workermanage import NodeManager  # type: ignore[import-untyped]

from local import ivr as ivr_module
from local import processes
from local import system as system_module
from local.companies import Companies
from local.emulator.stack import Stack
from local.emulator.warm_up import warm_up, warm_up_lookups
from local.ivr import Ivr
from local.system import System
from operations.sam_config import deployment_of

# What needs no stack, or starts its own.
ON_THEIR_OWN = {
    "test_add_a_company.py",
    "test_aws_at_its_worst.py",
    "test_background.py",
    "test_built_layers.py",
    "test_demo_companies.py",
    "test_doctor.py",
    "test_demo_interrupt.py",
    "test_deployed_over_last_release.py",
    "test_first_deployment.py",
    "test_release_and_back.py",
    "test_gradual_deployment.py",
    "test_two_stacks.py",
    "test_waiting_crowd.py",
}

# An interrupted process is to end what it has started, which takes longer than xdist's ten seconds.
NodeManager.EXIT_TIMEOUT = 60

# Tests come in bursts that no telephone exchange sends.
PARAMETERS = {
    "DefaultRegion": "FR",
    **{f"{what}RateLimit": "10000" for what in ("Throttling", "Read")},
    **{f"{what}BurstLimit": "5000" for what in ("Throttling", "Read")},
}


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System | None]:
    """Everything on this machine, or None when the tests are for a stack in an AWS account."""
    if os.environ.get("STACK"):
        yield None
        return
    processes.interruptible()  # or a run that somebody terminates would leave all of it running
    with system_module.running(tmp_path_factory.mktemp("system"), parameters=PARAMETERS) as everything:
        yield everything


@pytest.fixture(scope="session")
def stack(system: System | None) -> Stack:
    """The stack under test."""
    if system is not None:
        return system.stack
    name = os.environ["STACK"]
    # boto3 takes the variable by itself, as LocalStack's users set it; the API's address it does not know.
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    return Stack.from_cloudformation(name, endpoint=endpoint, session=deployment_of(name).session())


@pytest.fixture(scope="session")
def ivr(system: System | None, stack: Stack) -> Iterator[Ivr]:
    """An IVR that calls the stack under test, whose functions are warm on this machine."""
    with ivr_module.calling(stack) as caller:
        if system is not None:
            warm_up(stack, system.companies, caller)
        yield caller


@pytest.fixture(scope="session")
def companies(system: System | None) -> Companies:
    """The demo companies, for the whole session: a test says what it needs of numbers that are its own."""
    if system is None:
        pytest.skip("a stack in an AWS account asks its own companies, not the demo companies")
    return system.companies


@pytest.fixture(autouse=True)
def _warm_lookups(request: pytest.FixtureRequest) -> None:
    """Give a test its lookups warm: the emulator, unlike AWS, ends the environment of one that failed."""
    if "ivr" in request.fixturenames:
        system: System | None = request.getfixturevalue("system")
        if system is not None:
            warm_up_lookups(system.stack, system.companies)


class BesideTheStack(LoadScopeScheduling):  # type: ignore[misc]
    """One process has the stack with all of its tests; the files on their own go to whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).name
        return file if file in ON_THEIR_OWN else "the stack"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Share out the tests by what they need."""
    return BesideTheStack(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the test that reads all log lines of the run come last, and time the tests alone."""
    if os.environ.get("STACK"):
        on_their_own = [item for item in items if item.path.name in ON_THEIR_OWN]
        config.hook.pytest_deselected(items=on_their_own)
        items[:] = [item for item in items if item.path.name not in ON_THEIR_OWN]
    items.sort(key=lambda item: item.path.name == "test_logs_hold_no_personal_data.py")
    for item in items:
        if item.get_closest_marker("timeout") is None:
            # What fixtures start has deadlines of its own, and the first test would pay for all of it.
            item.add_marker(pytest.mark.timeout(120, func_only=True))
