"""How long the reader's cold import takes, against that of a bare botocore DynamoDB client.

    .venvs/development/bin/python -m benchmarks.reader_cold_import

The reader stands between a caller and an answer, so a cold start of it is silence. Its floor is the AWS SDK:
without a DynamoDB client there is nothing to read. New processes take turns, each with its bytecode compiled;
one imports the function and makes its client, the other makes a client alone. What is measured is the import
inside the process, without the interpreter's own start, which both share.

Ends with 1 when the ratio of the medians is over its limit of 1.2.
"""

import statistics
import sys

from benchmarks.fresh_process import seconds
from local.processes import REPOSITORY

LIMIT = 1.2
_PAIRS = 31

_READER_PATH = [f"{REPOSITORY}/functions/read_conversation", f"{REPOSITORY}/layers/conversation"]
_READER = "import app\nfrom conversation import aws\naws.dynamodb()"
_BARE_CLIENT = "import botocore.session\nbotocore.session.get_session().create_client('dynamodb')"


def _pair() -> tuple[float, float]:
    return seconds([], _BARE_CLIENT), seconds(_READER_PATH, _READER)


def main() -> int:
    """Measure, print, and return the exit status."""
    _pair()  # compiles the bytecode
    pairs = [_pair() for _ in range(_PAIRS)]
    bare, reader = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = reader / bare
    print(f"bare botocore DynamoDB client: median {bare * 1000:.0f} ms of {_PAIRS}")
    print(f"the reader and its client:     median {reader * 1000:.0f} ms of {_PAIRS}")
    print(f"ratio {ratio:.2f}, limit {LIMIT}")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
