"""What AWS is asked for: template.yaml after SAM's own transform, that of the pinned version."""

from typing import Any

import pytest

from tests.architecture.deployment import DOCUMENT, LOOKUPS, RESOURCES, Function
from tests.architecture.last_release import transformed
from tests.support.template import REPOSITORY, Call, Reference


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    """The transformed template's resources."""
    return transformed(REPOSITORY / "template.yaml")


def test_the_api_takes_tls_1_2_and_1_3_alone(resources: dict[str, Any]) -> None:
    """A regional REST API without a policy takes TLS 1.0, and AWS refuses a policy without an access mode."""
    apis = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::ApiGateway::RestApi"]
    (api,) = apis
    assert api["EndpointConfiguration"]["Types"] == ["REGIONAL"]
    assert api["SecurityPolicy"].startswith(("SecurityPolicy_TLS13_1_2_", "SecurityPolicy_TLS13_1_3_"))
    assert not api["SecurityPolicy"].endswith("_EDGE")
    assert api["EndpointAccessMode"] == "STRICT"


def test_no_door_beside_the_api_takes_older_tls(resources: dict[str, Any]) -> None:
    """Domain names, HTTP APIs and function URLs have policies of their own."""
    kinds = {resource["Type"] for resource in resources.values()}
    own = resources["ApiDomainName"]["Properties"]
    assert own["SecurityPolicy"] == RESOURCES["Api"]["Properties"]["SecurityPolicy"]
    assert own["EndpointAccessMode"] == "STRICT"
    assert not kinds & {
        "AWS::ApiGateway::DomainNameV2",
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::DomainName",
        "AWS::Lambda::Url",
    }


@pytest.mark.parametrize("function", LOOKUPS, ids=lambda function: function.name)
def test_a_lookup_reserves_what_the_operator_says_and_nothing_by_default(
    function: Function, resources: dict[str, Any]
) -> None:
    assert resources[function.logical_name]["Properties"]["ReservedConcurrentExecutions"] == {
        "Fn::If": ["ReserveLookupConcurrency", {"Ref": "LookupReservedConcurrency"}, {"Ref": "AWS::NoValue"}]
    }


@pytest.mark.parametrize("name", ["LookupReservedConcurrency", "ReaderReservedConcurrency"])
def test_accounts_with_a_small_quota_can_deploy(name: str) -> None:
    """Lambda refuses any reservation that leaves less than 100 unreserved, and new accounts have 10 or 50."""
    assert DOCUMENT["Parameters"][name]["Default"] == 0
    condition = f"Reserve{name.removesuffix('ReservedConcurrency')}Concurrency"
    assert DOCUMENT["Conditions"][condition] == Call("Not", [Call("Equals", [Reference(name), 0])])


def test_the_reader_reserves_what_the_operator_says(resources: dict[str, Any]) -> None:
    assert resources["ReadConversationFunction"]["Properties"]["ReservedConcurrentExecutions"] == {
        "Fn::If": ["ReserveReaderConcurrency", {"Ref": "ReaderReservedConcurrency"}, {"Ref": "AWS::NoValue"}]
    }


def test_one_alarm_hears_of_every_function_that_is_refused() -> None:
    """Without dimensions the metric covers all functions of the account and region."""
    (alarm,) = [
        one["Properties"]
        for one in RESOURCES.values()
        if one["Type"] == "AWS::CloudWatch::Alarm" and one["Properties"].get("MetricName") == "Throttles"
    ]
    assert alarm["Namespace"] == "AWS/Lambda"
    assert "Dimensions" not in alarm
    assert "its concurrency is used up, or " in alarm["AlarmDescription"]
    assert "reserved" in alarm["AlarmDescription"]


def test_nobody_else_reserves_anything(resources: dict[str, Any]) -> None:
    """What any function reserves, all others cannot have."""
    named = "ReservedConcurrentExecutions"
    reserving = {name for name, one in resources.items() if named in one.get("Properties", {})}
    assert reserving == {"ReadConversationFunction", *(function.logical_name for function in LOOKUPS)}
