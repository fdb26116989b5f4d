"""From the start of a process to its first answer: each function as built, against a bare botocore client.

    .venvs/development/bin/python -m benchmarks.first_answer

Builds functions and layers, and starts each in a new process with the runtime's own packages, as Lambda does
for a cold start; the process imports the function and answers one of `events/`. Beside them, in the same
rounds, a process imports botocore, makes one DynamoDB client and calls it once: the least that a function
with a table does. AWS, the companies and the CRM are one server on the loopback interface, which answers at
once.

Prints medians: the import with the interpreter's own start, the first answer after it, both together, and the
ratio of these to the bare client's. In brackets is the time of a core, which a function with a part of one
waits for, and which others on this machine do not change much; the limits are for its ratio. Then what an
answer costs once the function is warm, and the memory that the process has had at most. The second table is
the same with TLS, which production has: docs/decisions/function-memory.md is made of it.

Ends with 1 when a ratio without TLS is over its limit.
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

from benchmarks.stub_services import COMPANIES, serving
from local.emulator import deployment
from local.processes import REPOSITORY

ROUNDS = 15
_WARM_CALLS = 20
_RUNTIME = REPOSITORY / ".venvs/runtime/bin/python"
_OF_ALL = ["DependenciesLayer", "ConversationLayer"]
_OF_JOURNEYS = ["StepmarkLayer", "JourneysLayer"]


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


# In an order in which each finds what the ones before it have stored.
CASES = (
    Case("start_identification", 1.3),
    Case("read_conversation", 1.15, event="read_conversation.flat"),
    Case("set_attributes", 1.2),
    *(Case("look_up_caller", 1.45, source) for source in COMPANIES),
    Case("journeys_api", 1.7),
    Case("run_journey", 1.7),
    Case("notify_journeys", 1.7),
    Case("sweep_journeys", 1.7),
)

_TIMED = """
import sys, time
sys.path[:0] = {path!r}
{make}
imported = time.time(), time.process_time()
call()
answered = time.time(), time.process_time()
for _ in range({warm_calls}):
    call()
warm = (time.process_time() - answered[1]) / {warm_calls}
with open("/proc/self/status") as file:
    kilobytes = next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
print(*imported, *answered, warm, kilobytes / 1024)
"""
_BARE = """
import botocore.session
client = botocore.session.get_session().create_client("dynamodb")
def call():
    client.get_item(TableName="Conversations", Key={"conversationId": {"S": "1"}})
"""
_FUNCTION = """
import app
import json
from types import SimpleNamespace
with open({event!r}) as file:
    event = json.load(file)
context = SimpleNamespace(
    function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:r:1:function:f",
    aws_request_id="1",
)
def call():
    answer = app.lambda_handler(event, context)
    assert answer.get("statusCode", 200) in (200, 202), answer
    assert answer.get("outcome", "MATCH") == "MATCH", answer
    assert not answer.get("batchItemFailures"), answer
"""


class Sample(NamedTuple):
    """Seconds from the process's start to the end of the import and to the first answer, and of a core.

    `warm` is what of a core each answer takes after the first; `megabytes` the most memory that it had.
    """

    imported: float
    imported_cpu: float
    answered: float
    answered_cpu: float
    warm: float
    megabytes: float


def run(path: list[str], make: str, environment: dict[str, str]) -> Sample:
    """Run what makes a `call` in a new process that sees `path`, the runtime's packages, and nothing else."""
    started = time.time()
    code = _TIMED.format(path=path, make=make, warm_calls=_WARM_CALLS)
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
    imported, imported_cpu, answered, *rest = map(float, finished.stdout.splitlines()[-1].split())
    return Sample(imported - started, imported_cpu, answered - started, *rest)


def bare(url: str, certificates: str = "") -> Sample:
    """Start a process that does nothing but call DynamoDB."""
    return run([], _BARE, _environment(url, certificates))


def sample(case: Case, url: str, certificates: str = "") -> Sample:
    """Start a function and have it answer."""
    path = [f"{REPOSITORY}/functions/{case.function}"]
    path += [f"{deployment.BUILT}/{layer}/python" for layer in case.layers]
    make = _FUNCTION.format(event=f"{REPOSITORY}/events/{case.event or case.function}.json")
    return run(path, make, environment_of(case, url, certificates))


def environment_of(case: Case, url: str, certificates: str = "") -> dict[str, str]:
    """What the template and Lambda set for a function, with every service at `url`."""
    return {
        **_environment(url, certificates),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "POWERTOOLS_SERVICE_NAME": case.function,
        "POWERTOOLS_METRICS_NAMESPACE": "Meanwhile",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "CONVERSATION_TABLE": "Conversations",
        "STATE_MACHINE_ARN": "arn:aws:states:eu-west-1:123456789012:stateMachine:identify",
        "SOURCES": ",".join(COMPANIES),
        "LOOKUP_DEADLINE_SECONDS": "10",
        "RETENTION_HOURS": "24",
        "DEFAULT_REGION": "US",
        "SOURCE": case.source,
        "SOURCE_URL": f"{url}/{case.source}",
        "SOURCE_SECRET": case.source,
        "TOKEN_TABLE": "SourceTokens",
        "CRM_URL": f"{url}/crm",
        "CRM_SECRET": "crm",
        "MAX_WAIT_SECONDS": "20",
        "JOURNEY_HOURS": "0",
        "JOURNEY_COMMIT_LIMIT": "1000",
        "RETENTION_OFFERS": "one month free,two months free",
        "WORKFLOW_TABLE": "Workflows",
        "RESUME_QUEUE_URL": f"{url}/123456789012/resume",
        "RESUME_QUEUE_ARN": "arn:aws:sqs:eu-west-1:123456789012:resume",
        "SCHEDULE_GROUP": "timers",
        "SCHEDULE_ROLE_ARN": "arn:aws:iam::123456789012:role/timers",
    }


def _environment(url: str, certificates: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "LANG": "C.UTF-8",
        **({"AWS_CA_BUNDLE": certificates, "SSL_CERT_FILE": certificates} if certificates else {}),
    }


def measure(rounds: int, url: str, certificates: str = "") -> tuple[Sample, dict[Case, Sample]]:
    """Let the bare client and the functions take turns; return medians. The first round is for warming up."""
    rows = [
        [bare(url, certificates), *(sample(case, url, certificates) for case in CASES)]
        for _ in range(rounds + 1)
    ][1:]
    plain, *others = (_median(column) for column in zip(*rows, strict=True))
    return plain, dict(zip(CASES, others, strict=True))


def _median(samples: tuple[Sample, ...]) -> Sample:
    return Sample(*(statistics.median(column) for column in zip(*samples, strict=True)))


def main() -> int:
    """Build, measure, print, and return the exit status."""
    with tempfile.TemporaryDirectory() as directory, deployment.build_lock():
        deployment.build(Path(directory))
        with serving() as (url, _):
            kept = _report("without TLS", *measure(ROUNDS, url))
        with serving(tls_in=Path(directory)) as (url, certificates):
            _report("with TLS", *measure(ROUNDS, url, certificates))
    return 0 if kept else 1


def _report(what: str, plain: Sample, of: dict[Case, Sample]) -> bool:
    print(f"\n{what}: medians of {ROUNDS} new processes each, ms; of a core in brackets")
    heads = "".join(f"{head:>14}" for head in ("import", "first answer", "together", "ratio"))
    print(f"{'':24}{heads}{'limit':>7}{'warm':>8}{'MB':>5}")
    _print("bare botocore client", plain, plain, "")
    for case, one in of.items():
        _print(case.name, one, plain, str(case.limit))
    return all(one.answered_cpu / plain.answered_cpu <= case.limit for case, one in of.items())


def _print(name: str, one: Sample, plain: Sample, limit: str) -> None:
    pairs = [
        (one.imported, one.imported_cpu),
        (one.answered - one.imported, one.answered_cpu - one.imported_cpu),
        (one.answered, one.answered_cpu),
    ]
    figures = "".join(f"{f'{wall * 1000:.0f} ({cpu * 1000:.0f})':>14}" for wall, cpu in pairs)
    ratio = f"{one.answered / plain.answered:.2f} ({one.answered_cpu / plain.answered_cpu:.2f})"
    warm = f"({one.warm * 1000:.1f})"
    print(f"{name:24}{figures}{ratio:>14}{limit:>7}{warm:>8}{one.megabytes:>5.0f}")


if __name__ == "__main__":
    sys.exit(main())
