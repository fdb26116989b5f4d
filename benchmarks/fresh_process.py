"""What a piece of code takes in a process of its own, without the interpreter's own start."""

import subprocess
import sys
from collections.abc import Sequence

_TIMED = """
import sys, time
sys.path[:0] = {path!r}
started = time.perf_counter()
{code}
print(time.perf_counter() - started)
"""
# Without credentials and a region botocore would go and look for them.
_ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "POWERTOOLS_SERVICE_NAME": "benchmark",
    "POWERTOOLS_TRACE_DISABLED": "1",
    "LANG": "C.UTF-8",
}


def seconds(path: Sequence[str], code: str) -> float:
    """Run code in a new process that finds modules on `path` first, and return how long it took.

    took = seconds(["functions/read_conversation", "layers/conversation"], "import app")
    """
    finished = subprocess.run(  # noqa: S603 - this interpreter, and code of the benchmarks
        [sys.executable, "-c", _TIMED.format(path=list(path), code=code)],
        check=True,
        capture_output=True,
        text=True,
        env=_ENVIRONMENT,
    )
    return float(finished.stdout.splitlines()[-1])
