"""Two stacks in one account and region, as production and staging: neither knows of the other.

The second is without journeys, and without API Gateway's role for logs, which is the account's.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from local import companies
from local import ivr as ivr_module
from local.companies import SOURCES, Behaviour, Companies, Customer
from local.emulator import deployment, ministack
from local.emulator.stack import Stack
from local.waiting import wait_until

pytestmark = pytest.mark.long  # two deployments, and one taken away

NUMBER = "+33639980001"
# A stage has its name within its API.
NOT_ITS_OWN = {"AWS::ApiGateway::Account", "AWS::ApiGateway::Stage"}
DEADLINE_SECONDS = 90


@dataclass(frozen=True)
class Two:
    """The two stacks and the companies that both ask."""

    production: Stack
    staging: Stack
    companies: Companies


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    directory = tmp_path_factory.mktemp("two")
    with companies.running(directory) as demo, ministack.running(directory) as aws:
        parameters = {f"{source.capitalize()}Url": demo.base_url(source) for source in SOURCES}
        for source in SOURCES:
            demo.behave(source, Behaviour(latency=0))
        with deployment.build_lock():
            deployment.build(directory)
            production = deployment.deploy(directory, aws.endpoint, parameters, "production")
            staging = deployment.deploy(
                directory,
                aws.endpoint,
                {**parameters, "CrmUrl": demo.crm_url, "Journeys": "off", "ApiGatewayLogRole": "keep"},
                "staging",
            )
        yield Two(production, staging, demo)


def resources(stack: Stack) -> dict[str, tuple[str, str]]:
    """The physical ids of a stack's resources, with their types, by their logical ids."""
    cloudformation = stack.session.client("cloudformation", endpoint_url=stack.endpoint)
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.name)
    return {
        one["LogicalResourceId"]: (one["ResourceType"], one["PhysicalResourceId"])
        for page in pages
        for one in page["StackResourceSummaries"]
    }


def see_it_identify(stack: Stack, demo: Companies) -> None:
    """See that a caller is recognised through a stack's API; its functions may all be cold."""
    customer = Customer(customer_id="G-1", first_name="Jean", last_name="Dupont", segment="vip")
    demo.know("gamma", {NUMBER: customer})
    with ivr_module.calling(stack) as ivr:

        def known() -> bool:
            conversation_id = str(uuid.uuid4())
            if ivr.start(conversation_id, NUMBER).status != 202:
                return False
            document = ivr.read(conversation_id, wait=20).document
            return bool(document.get("identity") and document["identity"]["customerId"] == "G-1")

        wait_until(known, seconds=DEADLINE_SECONDS)


def test_nothing_of_one_is_the_others(two: Two) -> None:
    """On AWS the second deployment would fail at the first name that both want."""
    production, staging = resources(two.production), resources(two.staging)
    shared = set(production.values()) & set(staging.values())
    assert {kind for kind, _ in shared} <= NOT_ITS_OWN
    assert len(staging) > 40


def test_without_journeys_there_is_nothing_of_them(two: Two) -> None:
    gone = resources(two.production).keys() - resources(two.staging).keys()
    kinds = [resources(two.production)[name][0] for name in gone]
    assert kinds.count("AWS::Lambda::Function") == 4
    assert kinds.count("AWS::SQS::Queue") == 3
    assert kinds.count("AWS::DynamoDB::Table") == 1
    assert "ApiGatewayAccount" in gone
    assert "WorkflowTableName" not in two.staging.outputs
    assert "CrmSecretArn" not in two.staging.outputs


def test_without_a_crm_there_is_no_secret_for_it(two: Two) -> None:
    assert two.production.outputs.keys() & {"AlphaSecretArn", "CrmSecretArn"} == {"AlphaSecretArn"}
    assert "CrmSecret" not in resources(two.production)


@pytest.mark.parametrize("name", ["production", "staging"])
def test_each_identifies_its_callers(two: Two, name: str) -> None:
    see_it_identify(getattr(two, name), two.companies)


def test_a_route_of_journeys_is_no_route_without_them(two: Two) -> None:
    with ivr_module.calling(two.staging) as ivr:
        answer = ivr.start_journey("c1", "retention")
    assert (answer.status, answer.document["error"]["code"]) == (404, "ROUTE_NOT_FOUND")


def test_a_key_of_one_opens_nothing_of_the_other(two: Two) -> None:
    assert two.production.api_key != two.staging.api_key
    conversation_id = str(uuid.uuid4())
    with ivr_module.calling(two.production) as ivr, ivr_module.calling(two.staging) as other:
        assert ivr.start(conversation_id, NUMBER).status == 202
        assert other.read(conversation_id).status == 404


def test_the_one_goes_on_when_the_other_is_deleted(two: Two) -> None:
    cloudformation = two.staging.session.client("cloudformation", endpoint_url=two.staging.endpoint)
    cloudformation.delete_stack(StackName="staging")
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName="staging", WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    see_it_identify(two.production, two.companies)
    conversation_id = str(uuid.uuid4())
    with ivr_module.calling(two.production) as ivr:
        assert ivr.start(conversation_id, NUMBER).status == 202
        assert ivr.start_journey(conversation_id, "retention").status == 202
