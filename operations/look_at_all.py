"""Have every journey look at its conversation, after changes were lost: batch by batch, until all have.

    python -m operations.look_at_all meanwhile
    python -m operations.look_at_all meanwhile --after '11:6c5c8f2e~retention~0a1b2c3d4e5f6071'

Works in the account and region that `sam deploy` takes from samconfig. A journey that looks for nothing does
nothing, so this may be repeated. Ends with 0 when all have been told to look, and else with 1, having said
how to go on.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from operations.sam_config import NotConfigured, deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import boto3

# The function ends by itself before a minute is over. The SDK's own minute might be over just before.
_CONFIG = Config(read_timeout=75, retries={"total_max_attempts": 1})


class Failed(Exception):
    """The function did not do its part."""


class Told(NamedTuple):
    """How many journeys one call has told to look, and where to go on; "": it were all."""

    journeys: int
    after: str


def function_of(session: boto3.Session, stack_name: str) -> str:
    """Look up the function in the stack's outputs. Raises Failed when it has none."""
    (stack,) = session.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    for one in stack.get("Outputs", []):
        if one["OutputKey"] == "SweepJourneysFunctionName":
            return one["OutputValue"]
    raise Failed(f"stack {stack_name} has no journeys")


def look_at_all(session: boto3.Session, function_name: str, after: str = "") -> Iterator[Told]:
    """Call the function until all journeys have been told to look; yields what each call has done.

        for told in look_at_all(boto3.Session(), "meanwhile-SweepJourneysFunction-1A2B"): ...

    Raises Failed, and what botocore raises; the last `after` says where to go on then.
    """
    functions = session.client("lambda", config=_CONFIG)
    while True:
        payload = json.dumps({"lookAtAll": True, "after": after})
        answer = functions.invoke(FunctionName=function_name, Payload=payload)
        document = json.loads(answer["Payload"].read())
        if answer.get("FunctionError"):
            raise Failed(f"{document.get('errorType', 'error')}: {document.get('errorMessage', '')}")
        told = Told(document["journeys"], document.get("after", ""))
        yield told
        if not told.after:
            return
        if told.after == after:
            raise Failed("the function does not get on")
        after = told.after


def main(arguments: list[str]) -> int:
    """Have all of a stack's journeys look, and say how far it is."""
    parser = argparse.ArgumentParser(prog="python -m operations.look_at_all")
    parser.add_argument("stack")
    parser.add_argument("--after", default="", help="where a call before this one has come to")
    given = parser.parse_args(arguments)
    after, journeys = given.after, 0
    try:
        session = deployment_of(given.stack).session()
        for told in look_at_all(session, function_of(session, given.stack), after):
            after = told.after
            journeys += told.journeys
            print(f"{journeys} journeys were told to look", flush=True)
    except (Failed, NotConfigured, BotoCoreError, ClientError) as error:
        go_on = f"{parser.prog} {given.stack}" + (f" --after {shlex.quote(after)}" if after else "")
        print(f"not all were: {error}\nto go on: {go_on}")
        return 1
    print("these were all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
