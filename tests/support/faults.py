"""AWS calls that fail before the service did anything, or whose answer is lost after it did.

with failing(aws.dynamodb(), "PutItem", "after", times=1):   # written, but the answer never came
    cloud.start("6c5c")
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ClientError, ReadTimeoutError

type Moment = Literal["before", "after"]


class Killed(BaseException):
    """The execution environment is gone: nothing catches this, no clean-up runs."""


def lost() -> Exception:
    """What the SDK sees when an answer does not come; it sends the request once more."""
    return ReadTimeoutError(endpoint_url="https://aws.example")


def refused(code: str) -> Callable[[], Exception]:
    """What the SDK raises when the service refuses, its own retries included."""
    return lambda: ClientError(
        {
            "Error": {"Code": code, "Message": "refused"},
            "ResponseMetadata": {
                "HTTPStatusCode": 400,
                "RequestId": "",
                "HostId": "",
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            },
        },
        "operation",
    )


@dataclass
class Count:
    """How often it has happened."""

    count: int = 0


@contextmanager
def at(
    client: Any, operation: str, moment: Moment, action: Callable[[], object], *, containing: str = ""
) -> Iterator[Count]:
    """Do something just before, or just after, the service does each call with that text in its body."""
    happened = Count()

    def act(event_name: str, request: AWSPreparedRequest, **_call: object) -> None:
        assert isinstance(request.body, bytes)
        if event_name.endswith(f".{operation}") and containing.encode() in request.body:
            happened.count += 1
            action()

    # moto answers in this event: what comes first is before the service, what comes last is after it.
    register = client.meta.events.register_first if moment == "before" else client.meta.events.register_last
    register("before-send", act)
    try:
        yield happened
    finally:
        client.meta.events.unregister("before-send", act)


@contextmanager
def failing(
    client: Any,
    operation: str,
    moment: Moment,
    *,
    times: int | None = None,
    error: Callable[[], BaseException] = lost,
    containing: str = "",
) -> Iterator[Count]:
    """Let calls of one operation fail for the length of a `with` block: each one, or the first `times`."""
    failures = Count()

    def fail() -> None:
        if times is None or failures.count < times:
            failures.count += 1
            raise error()

    with at(client, operation, moment, fail, containing=containing):
        yield failures
