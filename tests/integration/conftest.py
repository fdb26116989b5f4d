"""A deployed stack for every test that asks for one; nothing here leaves the loopback interface."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pytest_socket import enable_socket, socket_allow_hosts

from local.companies import Companies, running
from tests.support.clock import Clock
from tests.support.cloud import Cloud, deployed
from tests.support.company_cloud import close_connections
from tests.support.machine import Machine
from tests.support.simulated_aws import REGION


@pytest.fixture(autouse=True, scope="package")
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Meanwhile/meanwhile")
        patch.setenv("POWERTOOLS_SERVICE_NAME", "tests")
        yield


@pytest.fixture(autouse=True)
def _loopback_only() -> Iterator[None]:
    socket_allow_hosts(["127.0.0.1"], allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture(scope="session")
def _running_companies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Companies]:
    with running(tmp_path_factory.mktemp("companies")) as companies:
        yield companies
        close_connections()


@pytest.fixture
def companies(_running_companies: Companies) -> Companies:
    """The three demo companies over HTTP; they know nobody and answer at once until a test says otherwise."""
    _running_companies.forget()
    return _running_companies


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """The stack as the template has it, its companies nowhere until a test says what they answer."""
    with deployed() as cloud:
        yield cloud


@pytest.fixture
def clock(cloud: Cloud) -> Clock:
    """What tells the time to the functions."""
    clock = Clock()
    cloud.clock = clock.now
    return clock


@pytest.fixture
def machine(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The state machine in the test's hands: what StartExecution starts does nothing by itself."""
    cloud.kill_executions(monkeypatch)
    return Machine(cloud)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as executor:
        yield executor
