"""From the start of a process to its first answer: each function as built, against a bare botocore client.

    .venvs/development/bin/python -m benchmarks.first_answer

Builds the functions and layers, and starts each in a new process with the runtime's own packages, as Lambda
does for a cold start; the process imports the function and answers one of `events/`. Beside them, in the same
rounds, a process imports botocore, makes one DynamoDB client and calls it once: the least that a function
with a table does. AWS, the companies and the CRM are one server on the loopback interface that answers at
once.

Prints medians: the import with the interpreter's own start, the first answer after it, both together, and the
ratio of these to the bare client's. In brackets is the processor's time: what a function with a part of a
core waits for, and what is measured best on a machine that does other things too.

Ends with 1 when a ratio is over its limit.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.stub_services import CREDENTIALS, serving
from local.emulator import deployment
from local.processes import REPOSITORY

ROUNDS = 15
_RUNTIME = REPOSITORY / ".venvs/runtime/bin/python"


class Case(NamedTuple):
    """A function by its folder, how many times the bare client's time it may take, and what it is given."""

    function: str
    limit: float
    source: str = ""
    event: str = ""

    @property
    def name(self) -> str:
        return f"{self.function} {self.source}".rstrip()

    @property
    def layers(self) -> list[str]:
        return [*_OF_ALL, *_OF_JOURNEYS] if "journey" in self.function else _OF_ALL


_OF_ALL = ["DependenciesLayer", "ConversationLayer"]
_OF_JOURNEYS = ["StepmarkLayer", "JourneysLayer"]
# In an order in which each finds what the ones before it have stored.
CASES = (
    Case("start_identification", 1.3),
    Case("read_conversation", 1.15, event="read_conversation.flat"),
    Case("set_attributes", 1.2),
    *(Case("look_up_caller", 1.45, source) for source in CREDENTIALS),
    Case("journeys_api", 1.7),
    Case("run_journey", 1.7),
    Case("notify_journeys", 1.7),
    Case("sweep_journeys", 1.7),
)

_FUNCTION = """
import sys, time
sys.path[:0] = {path!r}
import app
imported = time.time(), time.process_time()
import json
from types import SimpleNamespace
with open({event!r}) as file:
    event = json.load(file)
context = SimpleNamespace(
    function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:r:1:function:f",
    aws_request_id="1", get_remaining_time_in_millis=lambda: 9000,
)
answer = app.lambda_handler(event, context)
answered = time.time(), time.process_time()
assert answer.get("statusCode", 200) in (200, 202), answer
assert answer.get("outcome", "MATCH") == "MATCH", answer
assert not answer.get("batchItemFailures"), answer
print(*imported, *answered)
"""
_BARE = """
import time
import botocore.session
client = botocore.session.get_session().create_client("dynamodb")
imported = time.time(), time.process_time()
client.get_item(TableName="Conversations", Key={"conversationId": {"S": "1"}})
print(*imported, *(time.time(), time.process_time()))
"""


class Sample(NamedTuple):
    """Seconds from the process's start until the import had ended, and the first answer; of a core, too."""

    imported: float
    imported_cpu: float
    answered: float
    answered_cpu: float


def run(code: str, environment: dict[str, str]) -> Sample:
    """Run code in a new process that sees the runtime's packages and nothing of this repository."""
    started = time.time()
    finished = subprocess.run(  # noqa: S603 - the interpreter and code of this benchmark
        [_RUNTIME, "-I", "-B", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
    )
    if finished.returncode != 0:
        raise SystemExit(finished.stderr + finished.stdout)
    imported, imported_cpu, answered, answered_cpu = map(float, finished.stdout.splitlines()[-1].split())
    return Sample(imported - started, imported_cpu, answered - started, answered_cpu)


def environment_of(case: Case, url: str) -> dict[str, str]:
    """What the template and Lambda set for a function, with every service at `url`."""
    return {
        **_environment(url),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "POWERTOOLS_SERVICE_NAME": case.function,
        "POWERTOOLS_METRICS_NAMESPACE": "Meanwhile",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "CONVERSATION_TABLE": "Conversations",
        "STATE_MACHINE_ARN": "arn:aws:states:eu-west-1:123456789012:stateMachine:identify",
        "SOURCES": ",".join(CREDENTIALS),
        "LOOKUP_DEADLINE_SECONDS": "10",
        "RETENTION_HOURS": "24",
        "DEFAULT_REGION": "US",
        "SOURCE": case.source,
        "SOURCE_URL": f"{url}/{case.source}",
        "SOURCE_SECRET": case.source,
        "TOKEN_TABLE": "SourceTokens",
        "CRM_URL": f"{url}/crm",
        "JOURNEY_HOURS": "0",
        "RETENTION_OFFERS": "one month free,two months free",
        "WORKFLOW_TABLE": "Workflows",
        "RESUME_QUEUE_URL": f"{url}/123456789012/resume",
        "RESUME_QUEUE_ARN": "arn:aws:sqs:eu-west-1:123456789012:resume",
        "SCHEDULE_GROUP": "timers",
        "SCHEDULE_ROLE_ARN": "arn:aws:iam::123456789012:role/timers",
    }


def _environment(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "LANG": "C.UTF-8",
    }


def sample(case: Case, url: str) -> Sample:
    """Start a function and have it answer."""
    path = [f"{REPOSITORY}/functions/{case.function}"]
    path += [f"{deployment.BUILT}/{layer}/python" for layer in case.layers]
    code = _FUNCTION.format(path=path, event=f"{REPOSITORY}/events/{case.event or case.function}.json")
    return run(code, environment_of(case, url))


def measure(rounds: int) -> tuple[list[Sample], dict[Case, list[Sample]]]:
    """Let the bare client and the functions take turns; the first round is for warming up."""
    bare: list[Sample] = []
    of: dict[Case, list[Sample]] = {case: [] for case in CASES}
    with serving() as url:
        for number in range(rounds + 1):
            plain = run(_BARE, _environment(url))
            measured = [sample(case, url) for case in CASES]
            if number:
                bare.append(plain)
                for case, one in zip(CASES, measured, strict=True):
                    of[case].append(one)
    return bare, of


def _median(samples: list[Sample]) -> Sample:
    return Sample(*(statistics.median(column) for column in zip(*samples, strict=True)))


def main() -> int:
    """Build, measure, print, and return the exit status."""
    with tempfile.TemporaryDirectory() as directory, deployment.build_lock():
        deployment.build(Path(directory))
        samples, of = measure(ROUNDS)
    bare = _median(samples)
    print(f"medians of {ROUNDS} new processes each, ms; of a core in brackets")
    print(f"{'':24}{'import':>14}{'first answer':>14}{'together':>16}{'ratio':>14}{'limit':>7}")
    kept = _report("bare botocore client", bare, bare, 1.0)
    for case in CASES:
        kept &= _report(case.name, _median(of[case]), bare, case.limit)
    return 0 if kept else 1


def _report(name: str, one: Sample, bare: Sample, limit: float) -> bool:
    ratio, of_a_core = one.answered / bare.answered, one.answered_cpu / bare.answered_cpu
    pairs = [
        (one.imported, one.imported_cpu),
        (one.answered - one.imported, one.answered_cpu - one.imported_cpu),
        (one.answered, one.answered_cpu),
    ]
    figures = "".join(f"{f'{wall * 1000:.0f} ({cpu * 1000:.0f})':>14}" for wall, cpu in pairs)
    print(f"{name:24}{figures}  {f'{ratio:.2f} ({of_a_core:.2f})':>14}{limit:>7}")
    return ratio <= limit


if __name__ == "__main__":
    sys.exit(main())
