"""What Powertools' batch processor, typed events and router would add to cold starts of journeys' functions.

    .venvs/development/bin/python -m benchmarks.powertools_imports

New processes take turns, each with its bytecode compiled: one imports a function as it is, the other the same
and then what of Powertools would stand in for code of ours. Prints the medians, and their ratio.
"""

import statistics
import subprocess
import sys

from local.processes import REPOSITORY

_ROUNDS = 15
_CODE = """
import sys, time
sys.path[:0] = {path!r}
started = time.perf_counter()
import app
{extra}
print(time.perf_counter() - started)
"""
CASES = {
    ("run_journey", "batch processor"): "import aws_lambda_powertools.utilities.batch",
    ("notify_journeys", "batch processor"): "import aws_lambda_powertools.utilities.batch",
    ("run_journey", "typed events"): (
        "from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSEvent"
    ),
    ("journeys_api", "router"): "from aws_lambda_powertools.event_handler import APIGatewayRestResolver",
}


def seconds(function: str, extra: str) -> float:
    """How long a new process takes to import a function and what comes on top."""
    layers = [f"{REPOSITORY}/layers/{name}" for name in ("conversation", "journeys", "stepmark")]
    code = _CODE.format(path=[f"{REPOSITORY}/functions/{function}", *layers], extra=extra)
    environment = {"AWS_DEFAULT_REGION": "eu-west-1", "POWERTOOLS_TRACE_DISABLED": "1", "LANG": "C.UTF-8"}
    done = subprocess.run(  # noqa: S603 - this interpreter and code of ours
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Print how much longer each import takes."""
    for (function, what), extra in CASES.items():
        alone, both = [], []
        for _ in range(_ROUNDS):
            alone.append(seconds(function, ""))
            both.append(seconds(function, extra))
        before, after = statistics.median(alone), statistics.median(both)
        print(f"{function}: {before * 1000:.0f} ms, with the {what} {after * 1000:.0f}: {after / before:.2f}")


if __name__ == "__main__":
    main()
