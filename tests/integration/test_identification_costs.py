"""What an identification costs in reads and writes, counted over the functions and the machine."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.client import BaseClient

from operations import capacity
from tests.support.cloud import SOURCES, TABLE, Cloud, knows, knows_nobody


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the calls to the conversation table, whoever makes them, for the length of a `with` block."""
    calls: Counter[str] = Counter()
    make = BaseClient._make_api_call  # type: ignore[attr-defined] # the one way that all calls take
    lock = threading.Lock()

    def watched(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if parameters.get("TableName") == TABLE:
            with lock:
                calls[operation] += 1
        return make(client, operation, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", watched)
        yield calls


def test_a_caller_who_is_known(cloud: Cloud) -> None:
    cloud.lookups.update(dict.fromkeys(SOURCES, knows_nobody))
    cloud.lookups["gamma"] = knows("gamma")
    with counted() as calls:
        cloud.start("c1")
        cloud.wait_for_executions()
        assert cloud.read("c1").body["status"] == "SUCCESS"
    # The start, the note of its execution, what each company answered, and one read.
    assert calls == {"PutItem": 1, "UpdateItem": 4, "GetItem": 1}
    assert calls["PutItem"] + calls["UpdateItem"] == capacity.WRITES


def test_a_caller_whom_nobody_knows(cloud: Cloud) -> None:
    cloud.lookups.update(dict.fromkeys(SOURCES, knows_nobody))
    with counted() as calls:
        cloud.start("c1")
        cloud.wait_for_executions()
        assert cloud.read("c1").body["status"] == "NOT_FOUND"
    assert calls == {"PutItem": 1, "UpdateItem": 5, "GetItem": 1}


@pytest.mark.parametrize("number", ["anonymous", "+266696687"])
def test_a_caller_without_a_number(number: str, cloud: Cloud) -> None:
    with counted() as calls:
        cloud.start("c1", number)
        cloud.read("c1")
        cloud.set_attributes("c1", {"reason": "billing"})
    assert calls == {"PutItem": 1, "GetItem": 2, "UpdateItem": 1}


def test_a_concluded_conversation_fits_into_one_write_unit(cloud: Cloud) -> None:
    """DynamoDB charges a write by the whole kilobyte of the item."""
    cloud.lookups.update(dict.fromkeys(SOURCES, knows_nobody))
    cloud.lookups["gamma"] = knows("gamma")
    cloud.start("6c5c1d9e-0f7a-4a43-9f5e-6f5f6a0a1b2c")
    cloud.wait_for_executions()
    item = cloud.item("6c5c1d9e-0f7a-4a43-9f5e-6f5f6a0a1b2c")
    assert item is not None
    assert _size(item) <= 1_024


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(len(name.encode()) + _size(inner) for name, inner in value.items())
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(str(value).encode())
