"""A lookup function's execution environment in a process of its own: a lookup for each line that comes in.

Among what it logs is a line for each that begins with `answer: `: the outcome, or the error.
"""

import json
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from conversation import aws, timestamps
from conversation.sources import shared_token
from functions.look_up_caller.app import lambda_handler


def main() -> None:
    context = SimpleNamespace(
        function_name="look_up_caller", memory_limit_in_mb=256, invoked_function_arn="arn", aws_request_id="1"
    )
    # Before the first lookup, whose budget several processes that start at once would use up.
    aws.secrets_manager()
    shared_token._dynamodb()
    for line in sys.stdin:
        deadline = timestamps.to_text(timestamps.now() + timedelta(seconds=10))
        event = {
            "conversationId": "6c5c",
            "callerNumber": json.loads(line),
            "deadlineAt": deadline,
        }
        try:
            said: str = lambda_handler(cast("Any", event), cast("Any", context))["outcome"]
        except Exception as error:  # noqa: BLE001 - the test reads what it was
            said = f"{type(error).__name__}: {error}"
        print(f"answer: {said}", flush=True)


if __name__ == "__main__":
    main()
