"""What Powertools' batch processor, typed events and router would add to cold starts of journeys' functions.

    .venvs/development/bin/python -m benchmarks.powertools_imports

New processes take turns, each with its bytecode compiled: one imports a function as it is, the other the same
and then what of Powertools would stand in for code of ours. Prints the medians, and their ratio.
"""

import statistics

from benchmarks.fresh_process import seconds
from local.processes import REPOSITORY

_ROUNDS = 15
CASES = {
    ("run_journey", "batch processor"): "import aws_lambda_powertools.utilities.batch",
    ("notify_journeys", "batch processor"): "import aws_lambda_powertools.utilities.batch",
    ("run_journey", "typed events"): (
        "from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSEvent"
    ),
    ("journeys_api", "router"): "from aws_lambda_powertools.event_handler import APIGatewayRestResolver",
}


def path_of(function: str) -> list[str]:
    """Where a function and its layers are."""
    layers = [f"{REPOSITORY}/layers/{name}" for name in ("conversation", "journeys", "stepmark")]
    return [f"{REPOSITORY}/functions/{function}", *layers]


def main() -> None:
    """Print how much longer each import takes."""
    for (function, what), extra in CASES.items():
        alone, both = [], []
        for _ in range(_ROUNDS):
            alone.append(seconds(path_of(function), "import app"))
            both.append(seconds(path_of(function), f"import app\n{extra}"))
        before, after = statistics.median(alone), statistics.median(both)
        print(f"{function}: {before * 1000:.0f} ms, with the {what} {after * 1000:.0f}: {after / before:.2f}")


if __name__ == "__main__":
    main()
