"""How long the reader's cold import takes, against that of a bare botocore DynamoDB client.

    .venvs/development/bin/python -m benchmarks.reader_cold_import

The reader stands between a caller and an answer, so a cold start of it is silence. Its floor is the AWS SDK:
without a DynamoDB client there is nothing to read. New processes take turns, each with its bytecode compiled;
one imports the function and makes its client, the other makes a client alone. What is measured is the import
inside the process, without the interpreter's own start, which both share.

Ends with 1 when the ratio of the medians is over its limit of 1.2.
"""

import statistics
import subprocess
import sys

from local.processes import REPOSITORY

LIMIT = 1.2
_PAIRS = 31

_TIMED = """
import sys, time
sys.path[:0] = {path!r}
started = time.perf_counter()
{code}
print(time.perf_counter() - started)
"""
_READER = _TIMED.format(
    path=[f"{REPOSITORY}/functions/read_conversation", f"{REPOSITORY}/layers/conversation"],
    code="import app\nfrom conversation import aws\naws.dynamodb()",
)
_BARE_CLIENT = _TIMED.format(
    path=[],
    code="import botocore.session\nbotocore.session.get_session().create_client('dynamodb')",
)
# Without credentials and a region botocore would go and look for them.
_ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "POWERTOOLS_SERVICE_NAME": "read_conversation",
}


def seconds(code: str) -> float:
    """Run one of the two in a new process and return what it measured."""
    finished = subprocess.run(  # noqa: S603 - code of this file
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=_ENVIRONMENT
    )
    return float(finished.stdout)


def main() -> int:
    """Measure, print, and return the exit status."""
    for code in (_BARE_CLIENT, _READER):  # compiles the bytecode
        seconds(code)
    pairs = [(seconds(_BARE_CLIENT), seconds(_READER)) for _ in range(_PAIRS)]
    bare, reader = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = reader / bare
    print(f"bare botocore DynamoDB client: median {bare * 1000:.0f} ms of {_PAIRS}")
    print(f"the reader and its client:     median {reader * 1000:.0f} ms of {_PAIRS}")
    print(f"ratio {ratio:.2f}, limit {LIMIT}")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
