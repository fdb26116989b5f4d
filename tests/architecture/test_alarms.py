"""Each alarm watches a metric that its service publishes with just these dimensions.

The table says what makes each ring; `tests/integration/test_alarms.py` does that where a function emits it.
"""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.architecture.deployment import COMPANIES, FUNCTIONS, LOOKUPS, RESOURCES
from tests.architecture.last_release import transformed
from tests.support.template import REPOSITORY

OWN = "Meanwhile/${AWS::StackName}"

LAMBDA = "https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html"
STEP_FUNCTIONS = "https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html"
DYNAMODB = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html"
SQS = (
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/"
    "sqs-available-cloudwatch-metrics.html"
)
API_GATEWAY = (
    "https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-metrics-and-dimensions.html"
)
FUNCTIONS_OWN = "layers/conversation/conversation/observability.py"
ACCESS_LOG = "the access log, by the metric filter of the same name"


@dataclass(frozen=True)
class Metric:
    """A metric as its source publishes it, and what makes an alarm over it ring."""

    namespace: str
    name: str
    dimensions: frozenset[str]
    source: str
    rings_when: str


def metric(namespace: str, name: str, dimensions: str, source: str, rings_when: str) -> Metric:
    return Metric(namespace, name, frozenset(filter(None, dimensions.split(","))), source, rings_when)


METRICS = [
    metric("AWS/Lambda", "Errors", "FunctionName", LAMBDA, "a handler raises, times out, runs out of memory"),
    metric("AWS/Lambda", "Throttles", "", LAMBDA, "any function of the account is refused"),
    metric("AWS/Lambda", "RecursiveInvocationsDropped", "", LAMBDA, "the 17th call of one chain is dropped"),
    metric("AWS/Lambda", "IteratorAge", "FunctionName", LAMBDA, "a stream's records wait for the function"),
    metric("AWS/Lambda", "Invocations", "FunctionName", LAMBDA, "the schedule is off or may not call"),
    metric("AWS/States", "ExecutionsFailed", "StateMachineArn", STEP_FUNCTIONS, "an execution fails"),
    metric("AWS/States", "ExecutionsTimedOut", "StateMachineArn", STEP_FUNCTIONS, "an execution takes 9 s"),
    metric("AWS/States", "ExecutionTime", "StateMachineArn", STEP_FUNCTIONS, "executions take too long"),
    metric("AWS/States", "ThrottledEvents", "APIName", STEP_FUNCTIONS, "more starts than the quota"),
    metric("AWS/DynamoDB", "ReadThrottleEvents", "TableName", DYNAMODB, "a partition is too hot"),
    metric("AWS/DynamoDB", "WriteThrottleEvents", "TableName", DYNAMODB, "a partition is too hot"),
    metric("AWS/DynamoDB", "ReadThrottleEvents", "TableName,GlobalSecondaryIndexName", DYNAMODB, "as above"),
    metric("AWS/DynamoDB", "WriteThrottleEvents", "TableName,GlobalSecondaryIndexName", DYNAMODB, "as above"),
    metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", SQS, "messages nobody receives"),
    metric("AWS/ApiGateway", "5XXError", "ApiName,Stage", API_GATEWAY, "a route answers 5xx"),
    metric("AWS/ApiGateway", "4XXError", "ApiName,Stage", API_GATEWAY, "a route answers 4xx"),
    metric("AWS/ApiGateway", "Count", "ApiName,Stage", API_GATEWAY, "no request comes"),
    metric(OWN, "LookupUnavailable", "service,source", FUNCTIONS_OWN, "a company gives no usable answer"),
    metric(OWN, "IdentificationTimedOut", "service", FUNCTIONS_OWN, "a reader finds an overdue conversation"),
    metric(OWN, "JourneyParked", "service", FUNCTIONS_OWN, "a journey parks"),
    metric(OWN, "JourneyFailed", "service", FUNCTIONS_OWN, "a wake-up or an event's handler fails"),
    metric(OWN, "JourneyOverdue", "service", FUNCTIONS_OWN, "the sweep finds a journey that nothing woke"),
    metric(OWN, "RequestsThrottled", "", ACCESS_LOG, "the API answers 429"),
    metric(OWN, "CredentialsRefused", "", ACCESS_LOG, "the API answers 401 or 403"),
]  # fmt: skip


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return transformed(REPOSITORY / "template.yaml")


ALARMS = [name for name, one in RESOURCES.items() if one["Type"] == "AWS::CloudWatch::Alarm"]
TOPICS = {"AlarmTopic", "NoticeTopic"}
# They ring through QuietWorkingHoursAlarm.
SILENT = {"NoRequestsAlarm", "WorkingHoursAlarm"}


def watched(alarm: dict[str, Any]) -> list[tuple[str, str, frozenset[str]]]:
    """The namespace, name and dimensions of each metric that an alarm looks at."""
    queries = alarm.get("Metrics") or [{"MetricStat": {"Metric": alarm}}]
    metrics = [query["MetricStat"]["Metric"] for query in queries if "MetricStat" in query]
    return [
        (
            namespace["Fn::Sub"] if isinstance(namespace := one["Namespace"], dict) else namespace,
            one["MetricName"],
            frozenset(dimension["Name"] for dimension in one.get("Dimensions", [])),
        )
        for one in metrics
    ]


def test_every_line_of_the_table_is_watched_and_every_alarm_is_in_it(resources: dict[str, Any]) -> None:
    known = {(one.namespace, one.name, one.dimensions) for one in METRICS}
    found = {each for name in ALARMS for each in watched(resources[name]["Properties"])}
    assert found == known


def test_a_metric_of_our_own_belongs_to_one_stack(resources: dict[str, Any]) -> None:
    """Two stacks of an account would ring each other's alarms."""
    namespaces = {each[0] for name in ALARMS for each in watched(resources[name]["Properties"])}
    assert {one for one in namespaces if not one.startswith("AWS/")} == {OWN}
    functions = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::Lambda::Function"]
    for function in functions:
        assert function["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"] == {"Fn::Sub": OWN}


@pytest.mark.parametrize("name", sorted({"QuietWorkingHoursAlarm", *ALARMS} - SILENT))
def test_somebody_hears_an_alarm_and_that_it_is_over(name: str, resources: dict[str, Any]) -> None:
    alarm = resources[name]["Properties"]
    [topic] = alarm["AlarmActions"]
    assert topic["Ref"] in TOPICS
    assert alarm["OKActions"] == alarm["AlarmActions"]


@pytest.mark.parametrize("name", ALARMS)
def test_silence_is_no_alarm_except_where_something_has_to_be_heard(
    name: str, resources: dict[str, Any]
) -> None:
    """AWS publishes most of these metrics only when something happened."""
    alarm = resources[name]["Properties"]
    for_silence = alarm["ComparisonOperator"] == "LessThanThreshold"
    assert alarm["TreatMissingData"] == ("breaching" if for_silence else "notBreaching")
    assert for_silence == (name in {"NoSweepAlarm", "NoRequestsAlarm"})


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_to_do_in_one_breath(name: str, resources: dict[str, Any]) -> None:
    description = resources[name]["Properties"]["AlarmDescription"]
    text = description if isinstance(description, str) else description["Fn::Sub"]
    assert 20 < len(text) <= 1024, "CloudWatch takes 1,024 characters"
    assert not re.search(r"\$\{[A-Z]", text)


@pytest.mark.parametrize("name", [name for name, one in RESOURCES.items() if "MetricFilter" in one["Type"]])
def test_a_metric_filter_finds_what_the_access_log_writes(name: str) -> None:
    """The access log writes a status as a string, and a pattern for a number would never match it."""
    access_log = RESOURCES["Api"]["Properties"]["AccessLogSetting"]["Format"]
    assert '"status":"$context.status"' in access_log
    pattern = RESOURCES[name]["Properties"]["FilterPattern"]
    conditions = re.findall(r"\$\.(\w+) = (\S+?)[ )]", pattern)
    assert conditions
    assert {field for field, _ in conditions} == {"status"}
    assert all(re.fullmatch(r'"4\d\d"', value) for _, value in conditions)
    [transformation] = RESOURCES[name]["Properties"]["MetricTransformations"]
    alarm = RESOURCES[name.replace("Filter", "Alarm")]["Properties"]
    assert transformation["MetricName"] == alarm["MetricName"]
    assert transformation["MetricNamespace"] == alarm["Namespace"]


def test_every_function_company_and_queue_is_watched(resources: dict[str, Any]) -> None:
    watching = {
        (one["MetricName"], str(dimension["Value"]))
        for name in ALARMS
        if "Dimensions" in (one := resources[name]["Properties"])
        for dimension in one["Dimensions"]
    }
    for function in FUNCTIONS:
        assert ("Errors", str({"Ref": function.logical_name})) in watching, function.logical_name
    for company in COMPANIES:
        assert ("LookupUnavailable", company["source"]) in watching
    assert len(COMPANIES) == len(LOOKUPS)
