"""The first deployment into an account, and a page with what was seen: docs/first-deployment.md.

    python -m operations.first_deployment staging first-deployment.md

Deploys the stack, lets the operator fill the secrets, looks at everything (`make doctor`), runs the
end-to-end tests that need no demo companies, times twenty identifications, and writes the figures down. Ends
with 0 when all of it went well; the page says what did not.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx

from operations import deploy, doctor
from operations.doctor import NOBODY, Patient
from operations.sam_config import deployment_of

if TYPE_CHECKING:
    from collections.abc import Sequence

CONVERSATIONS = 20
END_SECONDS = 30


class Timing(NamedTuple):
    """Seconds of one identification: until its start was answered, and until its status was final."""

    start: float
    end: float
    status: str


def take_times(stack: Patient, count: int = CONVERSATIONS) -> list[Timing]:
    """Identify a number that nobody has, one conversation after the other.

    take_times(Patient.of(session, "staging"))

    The first ones come upon functions that have not run yet.
    """
    key = doctor.api_key(stack)
    timings = []
    with httpx.Client(base_url=stack.api_url, headers={"x-api-key": key or ""}, timeout=35) as http:
        for _ in range(count):
            conversation_id = f"first-{uuid.uuid4()}"
            began = time.monotonic()
            body = {"conversationId": conversation_id, "callerNumber": NOBODY}
            started = http.post("/conversations", json=body)
            answered, status = time.monotonic(), f"start {started.status_code}"
            while started.status_code == HTTPStatus.ACCEPTED and time.monotonic() < began + END_SECONDS:
                read = http.get(f"/conversations/{conversation_id}", params={"wait": "5"})
                status = read.json().get("status", f"read {read.status_code}")
                if status != "ONGOING":
                    break
            timings.append(Timing(answered - began, time.monotonic() - began, status))
    return timings


def page(stack: Patient, findings: Sequence[doctor.Finding], tests: str, timings: Sequence[Timing]) -> str:
    """What was seen, in Markdown; nothing in it names a caller, a key or an account."""
    starts = sorted(timing.start for timing in timings)
    ends = sorted(timing.end for timing in timings)
    statuses = ", ".join(sorted({timing.status for timing in timings}))
    lines = [
        f"# First deployment of {stack.name}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {stack.session.region_name}, stack {stack.status}.",
        "",
        "## Doctor",
        "",
        *(f"- {one.state}: {one.what}" + (f" ({one.todo})" if one.todo else "") for one in findings),
        "",
        "## End-to-end tests",
        "",
        tests,
        "",
        f"## {len(timings)} identifications of a number that nobody has",
        "",
        "| | first | median | slowest |",
        "|---|---|---|---|",
        f"| POST answered after, s | {_row([timing.start for timing in timings], starts)} |",
        f"| final status readable after, s | {_row([timing.end for timing in timings], ends)} |",
        "",
        f"Statuses: {statuses}.",
        "",
    ]
    return "\n".join(lines)


def _row(as_they_came: Sequence[float], in_order: Sequence[float]) -> str:
    return f"{as_they_came[0]:.2f} | {statistics.median(in_order):.2f} | {in_order[-1]:.2f}"


def main(arguments: list[str]) -> int:
    """Do all of it for the stack that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m operations.first_deployment")
    parser.add_argument("stack")
    parser.add_argument("page", type=Path, help="where the figures go")
    given = parser.parse_args(arguments)
    deployed = deploy.main([given.stack, "--first"])
    if deployed != 0:
        return deployed
    input("Fill the secrets and subscribe to both topics (docs/deploying.md), then press Enter. ")
    stack = Patient.of(deployment_of(given.stack).session(), given.stack)
    findings = list(doctor.examine(stack))
    tested = subprocess.run(  # noqa: S603 - make, with a name that CloudFormation has taken
        [shutil.which("make") or "make", "e2e", f"STACK={given.stack}"],
        check=False,
        capture_output=True,
        text=True,
    )
    last_line = (tested.stdout.strip().splitlines() or ["no output"])[-1]
    timings = take_times(stack)
    given.page.write_text(page(stack, findings, last_line, timings))
    print(given.page.read_text())
    ended = all(timing.status in {"NOT_FOUND", "SUCCESS"} for timing in timings)
    healthy = not any(finding.state == "WRONG" for finding in findings)
    return 0 if ended and healthy and tested.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
