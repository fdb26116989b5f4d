"""A lookup that has used up its reserved concurrency is turned away, and only its own company is unavailable.

The emulator enforces reserved concurrency, but leaves it out of what a template creates: it is set here, as
CloudFormation does on AWS. What the template asks for is in tests/architecture/test_transform.py.
"""

import time
import uuid
from collections.abc import Iterator

import pytest

from local.companies import Behaviour, Companies, invented_customer
from local.emulator.stack import Stack
from local.ivr import Ivr

HANGING = "+33639981601"
KNOWN = "+33639981602"
UNKNOWN = "+33639981603"


@pytest.fixture
def one_place_for_gamma(stack: Stack) -> Iterator[None]:
    resources = stack.session.client("cloudformation", endpoint_url=stack.endpoint)
    functions = stack.session.client("lambda", endpoint_url=stack.endpoint)
    name = resources.describe_stack_resource(StackName=stack.name, LogicalResourceId="LookupGammaFunction")[
        "StackResourceDetail"
    ]["PhysicalResourceId"]
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    yield
    functions.delete_function_concurrency(FunctionName=name)


def wait_until_asked(companies: Companies, number: str) -> None:
    until = time.monotonic() + 10
    while not companies.requests().lookups["gamma"].get(number):
        assert time.monotonic() < until, "gamma was never asked"
        time.sleep(0.05)


def test_a_company_that_hangs_takes_its_own_place_alone(
    ivr: Ivr, companies: Companies, one_place_for_gamma: None
) -> None:
    del one_place_for_gamma
    companies.behave("gamma", by_number={HANGING: Behaviour(latency=4)})
    companies.know("beta", {KNOWN: invented_customer("beta", KNOWN)})
    hanging, known, unknown = (str(uuid.uuid4()) for _ in range(3))
    assert ivr.start(hanging, HANGING).status == 202
    wait_until_asked(companies, HANGING)
    assert ivr.start(known, KNOWN).status == 202
    assert ivr.start(unknown, UNKNOWN).status == 202

    found = ivr.read(known, wait=20).document
    not_found = ivr.read(unknown, wait=20).document
    assert (found["status"], found["identity"]["source"]) == ("SUCCESS", "beta")
    assert not_found["status"] == "FAILED"
    assert not_found["sources"] == {"alpha": "NO_MATCH", "beta": "NO_MATCH", "gamma": "UNAVAILABLE"}
    assert not_found["elapsedMs"] < 4_000
    # Who has the place is none the worse.
    assert ivr.read(hanging, wait=20).document["sources"] == dict.fromkeys(
        ("alpha", "beta", "gamma"), "NO_MATCH"
    )
    assert companies.requests().lookups["gamma"].get(KNOWN) is None
