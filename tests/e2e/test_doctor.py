"""`make doctor`: nothing on a healthy stack, and each fault that is made on purpose is found and named."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local import system as system_module
from local.companies import CREDENTIALS, Behaviour, Companies, Fault, Service, Source
from local.emulator.stack import Stack
from local.emulator.warm_up import warm_up
from local.ivr import calling
from local.system import System
from local.waiting import wait_until
from operations import doctor, first_deployment
from operations.doctor import Finding, Patient

# The emulator's account has less concurrency than AWS gives to most.
PARAMETERS = {"ReadRateLimit": "10"}


@dataclass(frozen=True)
class Clinic:
    """A healthy stack on the emulator."""

    system: System

    @property
    def stack(self) -> Stack:
        return self.system.stack

    @property
    def companies(self) -> Companies:
        return self.system.companies

    def client(self, service: str) -> Any:
        session: Any = self.stack.session
        return session.client(service, endpoint_url=self.stack.endpoint)

    def patient(self) -> Patient:
        return Patient.of(self.stack.session, self.stack.name, self.stack.api_url)

    def findings(self) -> list[Finding]:
        return list(doctor.examine(self.patient()))

    def wrong(self) -> list[Finding]:
        return [finding for finding in self.findings() if finding.state == "WRONG"]

    def physical(self, logical_id: str) -> str:
        return self.patient().physical(logical_id)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    directory = tmp_path_factory.mktemp("doctor")
    with (
        pytest.MonkeyPatch.context() as patch,
        system_module.running(directory, parameters=PARAMETERS) as system,
    ):
        # The doctor's own clients take the emulator for AWS, as an operator's shell may.
        patch.setenv("AWS_ENDPOINT_URL", system.emulator.endpoint)
        clinic = Clinic(system)
        with calling(system.stack) as ivr:
            warm_up(system.stack, system.companies, ivr)
        queue = clinic.client("sqs").create_queue(QueueName="on-call")["QueueUrl"]
        arn = clinic.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        for topic in clinic.patient().of_type("AWS::SNS::Topic").values():
            clinic.client("sns").subscribe(
                TopicArn=topic,
                Protocol="sqs",
                Endpoint=arn["Attributes"]["QueueArn"],
                ReturnSubscriptionArn=True,
            )
        yield clinic


def test_a_healthy_stack_has_nothing(clinic: Clinic) -> None:
    findings = clinic.findings()
    assert [finding for finding in findings if finding.state == "WRONG"] == []
    good = [finding.what for finding in findings if finding.state == "ok"]
    assert any("an identification ends as NOT_FOUND" in what for what in good)
    assert "a journey goes on by itself and ends" in good
    assert "the functions can run" in good
    assert "Crm's secret is filled" in good
    assert not any("Crm answers" in what for what in good), "nothing is noted to see whether it could be"
    assert len(good) >= 18


# --- faults: each makes something wrong, and mends it again ------------------------------------------------


def fill(clinic: Clinic, service: Service, value: str) -> None:
    arn = clinic.stack.outputs[f"{service.capitalize()}SecretArn"]
    clinic.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=value)


@contextmanager
def secret_of(clinic: Clinic, service: Service, value: str) -> Iterator[None]:
    fill(clinic, service, value)
    yield
    fill(clinic, service, json.dumps(CREDENTIALS[service]))


@contextmanager
def key_refused(clinic: Clinic) -> Iterator[None]:
    with secret_of(clinic, "alpha", '{"apiKey": "of another company"}'):
        begin_anew(clinic, "alpha")
        yield
    begin_anew(clinic, "alpha")


def begin_anew(clinic: Clinic, source: Source) -> None:
    """Have a lookup forget what it knows of its secret, as it does after five minutes.

    The emulator, unlike AWS, ends the environment of one that failed.
    """
    clinic.companies.behave(source, Behaviour(fault=Fault.SERVER_ERROR))
    event = {
        "conversationId": "anew",
        "callerNumber": doctor.NOBODY,
        "deadlineAt": (datetime.now(UTC) + timedelta(minutes=1)).isoformat(),
    }
    answer = clinic.client("lambda").invoke(
        FunctionName=clinic.physical(f"Lookup{source.capitalize()}Function"), Payload=json.dumps(event)
    )
    assert "FunctionError" in answer
    clinic.companies.behave(source, Behaviour())


@contextmanager
def company_is(clinic: Clinic, behaviour: Behaviour) -> Iterator[None]:
    clinic.companies.behave("beta", behaviour)
    yield
    clinic.companies.behave("beta", Behaviour())


@contextmanager
def mapping_off(clinic: Clinic, function: str) -> Iterator[None]:
    functions = clinic.client("lambda")
    found = functions.list_event_source_mappings(FunctionName=clinic.physical(function))
    [mapping] = [one["UUID"] for one in found["EventSourceMappings"]]
    functions.update_event_source_mapping(UUID=mapping, Enabled=False)
    yield
    functions.update_event_source_mapping(UUID=mapping, Enabled=True)


@contextmanager
def schedule_off(clinic: Clinic) -> Iterator[None]:
    scheduler, group = clinic.client("scheduler"), clinic.physical("SweepGroup")
    [name] = [one["Name"] for one in scheduler.list_schedules(GroupName=group)["Schedules"]]
    whole = scheduler.get_schedule(GroupName=group, Name=name)
    keep = ("GroupName", "Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    as_it_is = {key: whole[key] for key in keep}
    scheduler.update_schedule(**as_it_is, State="DISABLED")
    yield
    scheduler.update_schedule(**as_it_is, State="ENABLED")


@contextmanager
def message_in(clinic: Clinic, queue: str) -> Iterator[None]:
    sqs, url = clinic.client("sqs"), clinic.physical(queue)
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    yield
    sqs.purge_queue(QueueUrl=url)


@contextmanager
def nobody_subscribed(clinic: Clinic) -> Iterator[None]:
    topics, arn = clinic.client("sns"), clinic.physical("NoticeTopic")
    [one] = topics.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
    topics.unsubscribe(SubscriptionArn=one["SubscriptionArn"])
    yield
    topics.subscribe(
        TopicArn=arn, Protocol=one["Protocol"], Endpoint=one["Endpoint"], ReturnSubscriptionArn=True
    )


@contextmanager
def alarm_rings(clinic: Clinic) -> Iterator[None]:
    name = clinic.physical("ApiErrorsAlarm")
    watch = clinic.client("cloudwatch")
    watch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="on purpose")
    yield
    watch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="mended")


@contextmanager
def alarm_gone(clinic: Clinic) -> Iterator[None]:
    name, watch = clinic.physical("SetAttributesErrorsAlarm"), clinic.client("cloudwatch")
    [alarm] = watch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    watch.delete_alarms(AlarmNames=[name])
    yield
    keep = (
        "AlarmName", "Namespace", "MetricName", "Dimensions", "Statistic", "Period", "EvaluationPeriods",
        "Threshold", "ComparisonOperator", "TreatMissingData",
    )  # fmt: skip
    watch.put_metric_alarm(**{key: alarm[key] for key in keep})
    watch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="mended")


@contextmanager
def alarm_muted(clinic: Clinic) -> Iterator[None]:
    names, watch = [clinic.physical("ThrottlesAlarm")], clinic.client("cloudwatch")
    watch.disable_alarm_actions(AlarmNames=names)
    yield
    watch.enable_alarm_actions(AlarmNames=names)


@contextmanager
def reserved(clinic: Clinic, function: str, *, all_but: int | None) -> Iterator[None]:
    """One function has nothing, or so much that the others have but the rest."""
    functions, name = clinic.client("lambda"), clinic.physical(function)
    quota = functions.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    much = 0 if all_but is None else quota - all_but
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=much)
    yield
    functions.delete_function_concurrency(FunctionName=name)


@contextmanager
def kept_for(clinic: Clinic, days: int | None) -> Iterator[None]:
    logs, group = clinic.client("logs"), clinic.physical("RunJourneyLogGroup")
    if days is None:
        logs.delete_retention_policy(logGroupName=group)
    else:
        logs.put_retention_policy(logGroupName=group, retentionInDays=days)
    yield
    logs.put_retention_policy(logGroupName=group, retentionInDays=30)


@contextmanager
def parked_journey(clinic: Clinic) -> Iterator[None]:
    table = clinic.client("dynamodb")
    key = {"workflowId": {"S": f"c~retention~{uuid.uuid4().hex[:16]}"}}
    table.put_item(TableName=clinic.physical("WorkflowTable"), Item={**key, "status": {"S": "PARKED"}})
    yield
    table.delete_item(TableName=clinic.physical("WorkflowTable"), Key=key)


@contextmanager
def no_key(clinic: Clinic) -> Iterator[None]:
    """The usage plan no longer has the key, so that it opens nothing."""
    apis, key = clinic.client("apigateway"), clinic.stack.outputs["ApiKeyId"]
    [plan] = [one["id"] for one in apis.get_usage_plans()["items"]]
    apis.delete_usage_plan_key(usagePlanId=plan, keyId=key)
    yield
    apis.create_usage_plan_key(usagePlanId=plan, keyId=key, keyType="API_KEY")


@contextmanager
def function_is_broken(clinic: Clinic) -> Iterator[None]:
    functions, name = clinic.client("lambda"), clinic.physical("StartIdentificationFunction")
    before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    broken = {**before, "STATE_MACHINE_ARN": before["STATE_MACHINE_ARN"] + "-gone"}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": broken})
    yield
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})


FAULTS: dict[str, tuple[Callable[[Clinic], Any], str]] = {
    "a secret that nobody filled": (
        lambda c: secret_of(c, "alpha", "{}"),
        "Alpha's secret is not a JSON object with apiKey",
    ),
    "a secret that is not JSON": (
        lambda c: secret_of(c, "alpha", "hunter2"),
        "Alpha's secret is not a JSON object",
    ),
    "a CRM without a credential": (
        lambda c: secret_of(c, "crm", "{}"),
        "Crm's secret is not a JSON object with token",
    ),
    "a key that the company refuses": (key_refused, "Alpha takes the secret's value before the current one"),
    "a company that fails": (
        lambda c: company_is(c, Behaviour(fault=Fault.SERVER_ERROR)),
        "Beta gives no usable",
    ),
    "a company that hangs": (lambda c: company_is(c, Behaviour(latency=30)), "Beta gives no usable answer"),
    "a stream that calls nobody": (
        lambda c: mapping_off(c, "NotifyJourneysFunction"),
        "mapping of NotifyJourneysFunction is Disabl",
    ),
    "a queue that calls nobody": (
        lambda c: mapping_off(c, "RunJourneyFunction"),
        "mapping of RunJourneyFunction is Disabl",
    ),
    "a sweep that is off": (schedule_off, "the sweep's schedule is DISABLED"),
    "a dead letter": (
        lambda c: message_in(c, "ResumeDeadLetterQueue"),
        "1 messages lie in ResumeDeadLetterQueue",
    ),
    "a lost change": (lambda c: message_in(c, "LostChangesQueue"), "1 messages lie in LostChangesQueue"),
    "a topic that nobody hears of": (nobody_subscribed, "nobody hears of NoticeTopic"),
    "an alarm that rings": (alarm_rings, "alarms ring: "),
    "an alarm that is gone": (alarm_gone, "1 alarms are gone"),
    "an alarm that is muted": (alarm_muted, "alarms are muted: "),
    "a function that is switched off": (
        lambda c: reserved(c, "SweepJourneysFunction", all_but=None),
        "SweepJourneysFunction is switched off",
    ),
    "an account whose functions are another's": (
        lambda c: reserved(c, "SetAttributesFunction", all_but=40),
        "functions at once, and this account and region has 40 for them",
    ),
    "a log that is kept for ever": (lambda c: kept_for(c, None), "RunJourneyLogGroup is kept for ever"),
    "a log that is kept too short": (lambda c: kept_for(c, 1), "RunJourneyLogGroup is kept for 1 days, not"),
    "a journey that is parked": (parked_journey, "1 journeys are parked"),
    "a key that opens nothing": (no_key, "POST /conversations answers 403"),
    "a start that can't start": (function_is_broken, "POST /conversations answers 503"),
}


# Enough of them before each commit to see that findings are found.
OFTEN = {
    "a secret that nobody filled",
    "a key that the company refuses",
    "a company that fails",
    "a dead letter",
    "a key that opens nothing",
}


@pytest.mark.parametrize(
    "fault", [pytest.param(one, marks=[] if one in OFTEN else pytest.mark.long) for one in FAULTS]
)
def test_a_fault_is_found_and_nothing_else(fault: str, clinic: Clinic) -> None:
    make, expected = FAULTS[fault]
    with make(clinic):
        found = wait_until(clinic.wrong, seconds=30)
    assert any(expected in finding.what for finding in found), found
    assert all(finding.todo for finding in found)
    # What the fault makes of a call is found with it.
    of_a_call = (
        *("an identification ends as", "gives no usable answer", "a journey's start answers"),
        "a journey does not go on within 30 s",
    )
    others = [finding.what for finding in found if expected not in finding.what]
    assert [what for what in others if not any(part in what for part in of_a_call)] == []
    assert wait_until(lambda: not clinic.wrong(), seconds=60)


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ("ReadRateLimit", "1000", "1000 calls a second that wait 20 s take 23060 functions at once"),
        ("LookupReservedConcurrency", "100000", "300000 are reserved of a concurrency of"),
    ],
)
def test_more_than_the_account_has_is_found(
    parameter: str, value: str, expected: str, clinic: Clinic
) -> None:
    patient = clinic.patient()
    too_much = replace(patient, parameters={**patient.parameters, parameter: value})
    [finding] = doctor.concurrency(too_much)
    assert finding.state == "WRONG"
    assert expected in finding.what


def test_an_alarm_that_tells_nobody_may_be_in_alarm(clinic: Clinic) -> None:
    """The working hours' clock is, all day."""
    watch = clinic.client("cloudwatch")
    watch.put_metric_alarm(
        AlarmName="the-clock",
        Namespace="AWS/Lambda",
        MetricName="Invocations",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )
    watch.set_alarm_state(AlarmName="the-clock", StateValue="ALARM", StateReason="it is noon")
    patient = clinic.patient()
    clock = {"WorkingHoursAlarm": ("AWS::CloudWatch::Alarm", "the-clock")}
    findings = doctor.alarms(replace(patient, resources={**patient.resources, **clock}))
    assert [finding.state for finding in findings] == ["ok"]
    watch.delete_alarms(AlarmNames=["the-clock"])


@contextmanager
def somebody_who_may(clinic: Clinic, *actions: str) -> Iterator[dict[str, str]]:
    """A user with the right to these actions, as an environment has it."""
    iam, name = clinic.client("iam"), "somebody"
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="some", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName=name, PolicyName="some")
    iam.delete_user(UserName=name)


def test_who_may_not_look_is_not_told_that_all_is_well(
    clinic: Clinic, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", str(clinic.stack.session.region_name))
    with somebody_who_may(clinic, "cloudformation:*", "sns:*", "logs:*") as keys:
        for name, value in keys.items():
            monkeypatch.setenv(name, value)
        assert doctor.main([clinic.stack.name, "--api-url", clinic.stack.api_url]) == 2
    out = capsys.readouterr().out
    assert "DENIED alarms can't be checked: DescribeAlarms (AccessDenied" in out
    assert "hear of AlarmTopic" in out
    assert out.endswith("nothing is wrong as far as this role may look\n")


def test_what_is_not_offered_here_is_said_and_is_no_fault(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quota_of_starts(stack: Patient) -> Iterator[Finding]:
        stack.client("service-quotas").get_service_quota(ServiceCode="states", QuotaCode="L-84480801")
        yield doctor.good("never")

    monkeypatch.setattr(doctor, "CHECKS", (quota_of_starts,))
    [finding] = doctor.examine(clinic.patient())
    assert finding == ("?", "quota of starts can't be checked: GetServiceQuota (400)", "")


def test_a_first_deployments_page_has_what_was_seen(clinic: Clinic) -> None:
    patient = clinic.patient()
    timings = first_deployment.take_times(patient)
    assert len(timings) == 20
    assert {timing.status for timing in timings} == {"NOT_FOUND"}
    assert all(0 < timing.start < timing.end < 15 for timing in timings)
    page = first_deployment.page(patient, clinic.findings(), "20 passed", timings)
    assert "- ok: none of" in page
    assert "WRONG" not in page
    assert re.search(r"final status readable after, s \| \d+\.\d\d \| \d", page)
    assert clinic.stack.api_key not in page


def test_the_command_ends_with_what_it_found(
    clinic: Clinic, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "samconfig.toml").write_text(
        f'[default.deploy.parameters]\nstack_name = "{clinic.stack.name}"\n'
        f'region = "{clinic.stack.session.region_name}"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    arguments = [clinic.stack.name, "--api-url", clinic.stack.api_url]
    assert doctor.main(arguments) == 0
    assert capsys.readouterr().out.endswith(f"all is well with {clinic.stack.name}\n")
    with alarm_rings(clinic):
        assert doctor.main(arguments) == 1
    out = capsys.readouterr().out
    assert "WRONG  alarms ring" in out
    assert "       -> docs/operations.md" in out
    assert doctor.main(["nobody"]) == 1
