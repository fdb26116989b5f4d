"""Every journey looks when an operator asks for it: in batches, in time, whatever fails on the way."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from moto.dynamodb.models import dynamodb_backends
from moto.sqs.models import sqs_backends
from stepmark import StoreUnavailable
from stepmark.dynamodb import SHARDS

from conversation import aws
from conversation.errors import InvalidRequest
from journeys import queue, sweeping
from journeys.queue import QueueUnavailable
from journeys.sweeping import TimeIsOver
from operations import look_at_all
from tests.support.cloud import WORKFLOWS, Cloud, remaining_milliseconds
from tests.support.faults import at, refused
from tests.support.journeys import QUEUE, Calls, Crash, World, calls, running
from tests.support.simulated_aws import ACCOUNT, REGION
from tests.support.template import Template

SECONDS = Template.load().document["Resources"]["SweepJourneysFunction"]["Properties"]["Timeout"]
ID = "6c5c:{}~retention~{:016x}"  # some platforms have colons in their ids


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    with running(cloud) as world:
        yield world


@pytest.fixture
def seen(world: World) -> Iterator[Calls]:
    del world
    with calls() as seen:
        yield seen


def open_journeys(numbers: range) -> list[str]:
    """As many items as the index has of journeys that wait; what else they are matters to nobody here."""
    ids = [ID.format(one, one) for one in numbers]
    table = dynamodb_backends[ACCOUNT][REGION].tables[WORKFLOWS]
    for one, workflow_id in zip(numbers, ids, strict=True):
        shard, never = {"N": str(one * 7 % SHARDS)}, {"N": "9999999999"}
        table.put_item({"workflowId": {"S": workflow_id}, "openShard": shard, "dueAt": never})
    return ids


def failing_beyond(calls_made: int) -> Callable[[], None]:
    """What lets so many calls through, and none of those that follow."""
    numbers = count(1)

    def fail() -> None:
        if next(numbers) > calls_made:
            error = refused("ServiceUnavailable")
            raise error()

    return fail


def end(workflow_id: str) -> None:
    boto3.resource("dynamodb").Table(WORKFLOWS).delete_item(Key={"workflowId": workflow_id})


def told() -> Counter[str]:
    """Whom a message in the queue tells to look, and how often."""
    bodies = [json.loads(message.body) for message in sqs_backends[ACCOUNT][REGION].queues[QUEUE]._messages]
    assert all(body.keys() == {"workflowId", "look"} and body["look"] == 1 for body in bodies)
    return Counter(body["workflowId"] for body in bodies)


def ask(world: World, after: str = "") -> dict[str, Any]:
    """Invoke the function once, as an operator does."""
    answer: dict[str, Any] = world.cloud.invoke("SweepJourneysFunction", {"lookAtAll": True, "after": after})
    return answer


def go_on(world: World, after: str = "", *, times: int = 200) -> list[dict[str, Any]]:
    """Invoke it as long as there is an `after`, each time with that; the answers."""
    answers: list[dict[str, Any]] = [ask(world, after)]
    while "after" in answers[-1]:
        assert len(answers) < times, "it does not come to an end"
        answers.append(ask(world, answers[-1]["after"]))
    places = [after, *(answer["after"] for answer in answers[:-1])]
    assert len(set(places)) == len(places), "each call gets on"
    return answers


# -- all of them, in batches --------------------------------------------------------------------------------


def test_five_thousand_are_told_in_batches_of_ten(world: World, seen: Calls) -> None:
    ids = open_journeys(range(5_000))
    assert ask(world) == {"journeys": 5_000}
    assert told() == Counter(ids)
    assert seen.count("SendMessageBatch") <= 5_000 / 10 + SHARDS, "at most one of a shard is not full"
    assert seen.count(f"Query {WORKFLOWS}") == SHARDS
    assert set(seen.made) == {"SendMessageBatch", f"Query {WORKFLOWS}"}


def test_nobody_is_there(world: World) -> None:
    assert ask(world) == {"journeys": 0}


def test_ten_of_the_longest_ids_are_far_from_what_sqs_takes_together() -> None:
    longest = f"{'c' * 128}~{'j' * 64}~{'f' * 16}"
    assert queue.BATCH * len(json.dumps({"workflowId": longest, "look": queue.MAX_PAUSE_SECONDS})) < 4_096


@pytest.mark.parametrize("after", ["6c5c8f2e~retention", "6c5c8f2e", "16:6c5c", "-1:", ":", "x:y"])
def test_an_after_that_no_answer_had_is_refused(after: str, world: World) -> None:
    open_journeys(range(3))
    with pytest.raises(InvalidRequest, match="as it stands"):
        ask(world, after)
    assert told() == {}


def test_who_begins_and_ends_meanwhile_changes_nothing_for_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = open_journeys(range(0, 300, 2))
    with slow(monkeypatch):
        answer = ask(world)
        for number in range(50):
            if "after" not in answer:
                break
            last = answer["after"].partition(":")[2]
            if last:
                end(last)
            open_journeys(range(2 * number + 1, 2 * number + 2))
            answer = ask(world, answer["after"])
    assert "after" not in answer
    assert told() >= Counter(ids), "who was there all the time was told"


# -- in time ------------------------------------------------------------------------------------------------


@dataclass
class SlowAws:
    """What a function's clock has come to; each call takes as long as its time-outs and repeats allow."""

    elapsed: float = 0.0
    longest: float = 0.0

    def take(self, seconds: float) -> None:
        self.elapsed += seconds
        self.longest = max(self.longest, self.elapsed)

    def remaining(self) -> int:
        return int((SECONDS - self.elapsed) * 1000)


@contextmanager
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowAws]:
    """Let each page and each batch take the longest that they may; each invocation has its own minute."""
    clock = SlowAws()
    invoke = Cloud.invoke

    def from_the_beginning(cloud: Cloud, name: str, event: Any) -> Any:
        clock.elapsed = 0.0
        return invoke(cloud, name, event)

    token = remaining_milliseconds.set(clock.remaining)
    with (
        monkeypatch.context() as patch,
        at(aws.dynamodb(), "Query", "before", lambda: clock.take(aws.CALL_SECONDS)),
        at(aws.sqs(), "SendMessageBatch", "before", lambda: clock.take(queue.BATCH_SECONDS)),
    ):
        patch.setattr(Cloud, "invoke", from_the_beginning)
        yield clock
    remaining_milliseconds.reset(token)


def test_it_ends_in_time_at_its_slowest_and_leaves_nobody_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = open_journeys(range(400))
    with slow(monkeypatch) as clock:
        answers = go_on(world)
    assert len(answers) > 10
    assert told() == Counter(ids), "each was told once"
    assert sum(answer["journeys"] for answer in answers) == 400
    assert clock.longest <= SECONDS - 1


def test_wherever_the_time_is_over_the_next_call_goes_on_there(world: World) -> None:
    ids = open_journeys(range(100))
    most = 100 // SHARDS + 1 + queue.BATCH  # of a shard: its journeys, and whatever is looked at around them
    for looks in range(most, 3 * most):
        sqs_backends[ACCOUNT][REGION].queues[QUEUE]._messages.clear()
        after, calls_made = "", 0
        while True:
            clock = iter([SECONDS * 1000] * looks)
            token = remaining_milliseconds.set(lambda clock=clock: next(clock, 19_000))  # type: ignore[misc]
            answer = ask(world, after)
            remaining_milliseconds.reset(token)
            calls_made += 1
            if "after" not in answer:
                break
            assert answer["after"] != after
            after = answer["after"]
        assert told() == Counter(ids)
        assert calls_made > 1


def test_a_call_without_any_time_says_so_instead_of_going_round(world: World) -> None:
    open_journeys(range(3))
    token = remaining_milliseconds.set(lambda: 19_000)
    with pytest.raises(TimeIsOver):
        ask(world)
    remaining_milliseconds.reset(token)
    assert told() == {}


def test_most_of_the_functions_time_is_for_journeys() -> None:
    assert sweeping.RESERVED_SECONDS < SECONDS / 3


# -- whatever fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["crash_before", "crash_after"])
def test_a_call_that_dies_is_repeated_and_leaves_nobody_out(where: str, world: World, seen: Calls) -> None:
    ids = open_journeys(range(60))
    ask(world)
    made = len(seen.made)
    for number in range(made):
        sqs_backends[ACCOUNT][REGION].queues[QUEUE]._messages.clear()
        seen.clear()
        setattr(seen, where, number)
        with pytest.raises(Crash):
            ask(world)
        assert ask(world) == {"journeys": 60}
        assert told().keys() == set(ids)
        assert max(told().values()) <= 2


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_outage_in_the_middle_is_gone_on_from(moment: Any, world: World) -> None:
    ids = open_journeys(range(400))
    with at(aws.sqs(), "SendMessageBatch", moment, failing_beyond(15)):
        answer = ask(world)
        assert 0 < answer["journeys"] < 400
        with pytest.raises(QueueUnavailable, match="ServiceUnavailable"):
            ask(world, answer["after"])
    assert answer["journeys"] + sum(one["journeys"] for one in go_on(world, answer["after"])) == 400
    assert told().keys() == set(ids)
    assert Counter(told().values())[1] >= 390, "only the batch that failed is told again"


def test_an_index_that_cannot_be_read_is_gone_on_from(world: World) -> None:
    ids = open_journeys(range(100))
    with at(aws.dynamodb(), "Query", "before", failing_beyond(5)):
        answer = ask(world)
        with pytest.raises(StoreUnavailable):
            ask(world, answer["after"])
    go_on(world, answer["after"])
    assert told() == Counter(ids)


@dataclass
class Refusing:
    """SQS that takes a part of a batch alone."""

    refuses: Callable[[str], bool]
    sender_fault: bool = False
    refused: list[dict[str, Any]] = field(default_factory=list)

    def leave_out(self, params: dict[str, Any], **_call: object) -> None:
        self.refused = [
            {"Id": one["Id"], "SenderFault": self.sender_fault, "Code": "InternalError"}
            for one in params["Entries"]
            if self.refuses(one["MessageBody"])
        ]
        ids = {one["Id"] for one in self.refused}
        params["Entries"] = [one for one in params["Entries"] if one["Id"] not in ids] or params["Entries"][
            :1
        ]

    def tell(self, parsed: dict[str, Any], **_call: object) -> None:
        ids = {one["Id"] for one in self.refused}
        parsed["Successful"] = [one for one in parsed["Successful"] if one["Id"] not in ids]
        parsed["Failed"] = [*parsed.get("Failed", []), *self.refused]


@contextmanager
def refusing(refuses: Callable[[str], bool], *, sender_fault: bool = False) -> Iterator[None]:
    sqs, stub = aws.sqs(), Refusing(refuses, sender_fault)
    sqs.meta.events.register("provide-client-params.sqs.SendMessageBatch", stub.leave_out)
    sqs.meta.events.register("after-call.sqs.SendMessageBatch", stub.tell)
    yield
    sqs.meta.events.unregister("provide-client-params.sqs.SendMessageBatch", stub.leave_out)
    sqs.meta.events.unregister("after-call.sqs.SendMessageBatch", stub.tell)


@pytest.mark.parametrize("sender_fault", [True, False], ids=["throttled", "internal"])
def test_what_sqs_leaves_out_of_a_batch_is_sent_once_more(
    sender_fault: bool, world: World, seen: Calls
) -> None:
    ids = open_journeys(range(200))
    before: Counter[str] = Counter()

    def refuses_every_third_at_first(body: str) -> bool:
        before[body] += 1
        return before[body] == 1 and len(before) % 3 == 0

    with refusing(refuses_every_third_at_first, sender_fault=sender_fault):
        assert ask(world) == {"journeys": 200}
    assert told() == Counter(ids), "those that it took are not sent again"
    assert seen.count("SendMessageBatch") > 25


def test_what_sqs_goes_on_refusing_is_said_and_not_passed_over(world: World) -> None:
    ids = open_journeys(range(200))
    with refusing(lambda body: ID.format(123, 123) in body):
        answer = ask(world)
        assert 0 < answer["journeys"] < 200
        with pytest.raises(QueueUnavailable, match=r"1 of \d+ messages \(InternalError\)"):
            ask(world, answer["after"])
    go_on(world, answer["after"])
    assert told().keys() == set(ids)


def test_an_answer_that_leaves_a_message_out_has_not_taken_it(world: World) -> None:
    open_journeys(range(0, 2 * SHARDS, SHARDS))  # of one shard
    sqs = aws.sqs()

    def forget(parsed: dict[str, Any], **_call: object) -> None:
        parsed["Successful"] = []

    sqs.meta.events.register("after-call.sqs.SendMessageBatch", forget)
    try:
        with pytest.raises(QueueUnavailable, match="no answer"):
            ask(world)
    finally:
        sqs.meta.events.unregister("after-call.sqs.SendMessageBatch", forget)


def test_the_sweep_says_too_what_sqs_did_not_take(world: World) -> None:
    for conversation_id in ("c1", "c2"):
        world.begin(conversation_id)
        world.start(conversation_id)
    world.messages()  # whoever takes them dies
    world.clock.pass_by(100)
    with refusing(lambda _body: True), pytest.raises(QueueUnavailable, match="2 of 2 messages"):
        world.cloud.invoke("SweepJourneysFunction", {})
    assert world.cloud.invoke("SweepJourneysFunction", {}) == {"journeys": 2}


# -- the operator's command ---------------------------------------------------------------------------------


class _Body(BytesIO):
    def stream(self, **_how: object) -> Iterator[bytes]:
        yield self.read()


class _Session(boto3.Session):
    """A session whose Lambda runs the function in this process."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(region_name=REGION)
        self.asked: list[dict[str, Any]] = []
        self._cloud = cloud
        self.events.register("before-send.lambda.Invoke", self._invoke)  # type: ignore[arg-type] # it may answer

    def _invoke(self, request: AWSPreparedRequest, **_call: object) -> AWSResponse:
        assert isinstance(request.body, bytes)
        assert "/functions/sweep-1A2B/" in request.url
        self.asked.append(json.loads(request.body))
        headers: dict[str, str] = {}
        try:
            answer: Any = self._cloud.invoke("SweepJourneysFunction", self.asked[-1])
        except Exception as error:  # noqa: BLE001 - whatever a function raises, Lambda reports it like this
            headers["X-Amz-Function-Error"] = "Unhandled"
            answer = {"errorType": type(error).__name__, "errorMessage": str(error)}
        return AWSResponse(request.url, 200, headers, _Body(json.dumps(answer).encode()))  # type: ignore[arg-type]


@pytest.fixture
def session(world: World, monkeypatch: pytest.MonkeyPatch) -> _Session:
    """What `sam deploy` takes for the stack, which is in CloudFormation with its output."""
    session = _Session(world.cloud)
    deployment = type("Deployment", (), {"session": lambda _self: session})()
    monkeypatch.setattr(look_at_all, "deployment_of", lambda _name: deployment)
    output: Mapping[str, object] = {"SweepJourneysFunctionName": {"Value": "sweep-1A2B"}}
    deploy("meanwhile", output)
    return session


def deploy(name: str, outputs: Mapping[str, object]) -> None:
    template = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}, "Outputs": outputs}
    boto3.client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(template))


def test_the_command_goes_on_until_all_have_been_told(
    world: World, session: _Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del world
    ids = open_journeys(range(300))
    with slow(monkeypatch):
        assert look_at_all.main(["meanwhile"]) == 0
    assert told() == Counter(ids)
    assert len(session.asked) > 5
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["300 journeys were told to look", "these were all"]


def test_the_command_says_how_to_go_on(
    world: World, session: _Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del world
    ids = open_journeys(range(300))
    with slow(monkeypatch):
        with at(aws.sqs(), "SendMessageBatch", "before", failing_beyond(10)):
            assert look_at_all.main(["meanwhile"]) == 1
        *_, failed, how_to_go_on = capsys.readouterr().out.splitlines()
        assert failed.startswith("not all were: QueueUnavailable: ")
        after = how_to_go_on.rpartition(" --after ")[2].strip("'")
        assert after == session.asked[-1]["after"]
        assert look_at_all.main(["meanwhile", "--after", after]) == 0
    assert told() == Counter(ids)


def test_a_stack_without_journeys_and_one_that_is_not_there(
    session: _Session, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy("quiet", {})
    assert look_at_all.main(["quiet"]) == 1
    assert "stack quiet has no journeys" in capsys.readouterr().out
    assert look_at_all.main(["nobody"]) == 1
    assert "does not exist" in capsys.readouterr().out
    assert session.asked == []
