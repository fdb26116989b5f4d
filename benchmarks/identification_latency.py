"""How long after the POST's answer a caller's identity, or its absence, can be read.

    .venvs/development/bin/python -m benchmarks.identification_latency

Deploys the template to the emulator, warms it up and measures, one conversation at a time:

- alpha and beta take 3 s and know nobody, gamma takes 1 s and knows the caller: the time until
  `GET ?wait=20` shows the identity, which is gamma's second plus what Meanwhile adds;
- all three take 3 s and know nobody: the time until NOT_FOUND, the slowest company plus what is added.

The limits are the product's own promise on a warm stack, 0.35 s and 0.5 s over the companies' own time.
Ends with 1 when a median is over its limit.
"""

import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

from local import ivr, system
from local.companies import Behaviour, Companies, invented_customer
from local.emulator.stack import Stack
from local.emulator.warm_up import warm_up
from local.ivr import Ivr

GAMMA_SECONDS = 1.0
SLOW_SECONDS = 3.0
MATCH_LIMIT_SECONDS = GAMMA_SECONDS + 0.35
NO_MATCH_LIMIT_SECONDS = SLOW_SECONDS + 0.5
_MATCHES = 20
_NO_MATCHES = 7


def measure(caller: Ivr, number: str, expected: str) -> float:
    """Start one identification and return the seconds from the POST's answer to the end of the wait."""
    conversation_id = str(uuid.uuid4())
    caller.start(conversation_id, number)
    answered_at = time.perf_counter()
    document = caller.read(conversation_id, wait=20).document
    seconds = time.perf_counter() - answered_at
    if document["status"] != expected:
        raise SystemExit(f"expected {expected}, got {document['status']} after {seconds:.2f} s")
    if expected == "SUCCESS" and "PENDING" not in document["sources"].values():
        raise SystemExit("the identity came only after the other companies had answered")
    return seconds


def report(what: str, samples: list[float], limit: float) -> bool:
    """Print the figures of one case and tell whether its median keeps the limit."""
    median = statistics.median(samples)
    print(
        f"{what}: median {median:.3f} s of {len(samples)}, "
        f"fastest {min(samples):.3f} s, slowest {max(samples):.3f} s, limit {limit:.2f} s"
    )
    return median <= limit


def main() -> int:
    """Run both cases; return the exit status."""
    with (
        tempfile.TemporaryDirectory(prefix="latency-") as directory,
        system.running(Path(directory), parameters={"DefaultRegion": "FR"}) as everything,
    ):
        return _measure_all(everything.companies, everything.stack)


def _measure_all(companies: Companies, stack: Stack) -> int:
    known, unknown = "+33639980001", "+33639980002"
    with ivr.calling(stack) as caller:
        warm_up(stack, companies, caller)
        companies.know("gamma", {known: invented_customer("gamma", known)})
        for source in ("alpha", "beta"):
            companies.behave(source, Behaviour(latency=SLOW_SECONDS))
        companies.behave("gamma", Behaviour(latency=GAMMA_SECONDS))
        matches = []
        for _ in range(_MATCHES):
            matches.append(measure(caller, known, "SUCCESS"))
            time.sleep(SLOW_SECONDS - GAMMA_SECONDS)  # the same: one conversation at a time
        companies.behave("gamma", Behaviour(latency=SLOW_SECONDS))
        no_matches = [measure(caller, unknown, "NOT_FOUND") for _ in range(_NO_MATCHES)]
    kept = [
        report("identity visible, gamma takes 1 s and the others 3 s", matches, MATCH_LIMIT_SECONDS),
        report("NOT_FOUND visible, all three take 3 s", no_matches, NO_MATCH_LIMIT_SECONDS),
    ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
