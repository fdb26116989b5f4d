"""Whatever a client sends, the handlers answer 2xx or 4xx in JSON; what they refuse, they do not write."""

import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cloud import TABLE, Cloud

TEXTS = st.text(st.characters(), max_size=30)  # lone surrogates included
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.sampled_from(["+33612345678", "tel:+33612345678", "anonymous", "", "hello", "+1", "0612345678"])
IDS = st.sampled_from(["6c5c", "A-z_0", "a" * 80, "a" * 129, "", "a b", "é", "../6c5c", "6c5c\n"])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["reason", "a.b", "", "x" * 65]), st.sampled_from(["x", "y" * 1_001])
)
BODIES = st.one_of(
    st.fixed_dictionaries(
        {"conversationId": IDS | JSON, "callerNumber": NUMBERS | JSON},
        optional={"attributes": ATTRIBUTES | JSON, "more": JSON},
    ).map(json.dumps),
    st.dictionaries(st.sampled_from(["conversationId", "callerNumber", "attributes", "x"]), JSON).map(
        json.dumps
    ),
    ATTRIBUTES.map(json.dumps),
    JSON.map(json.dumps),
    TEXTS,
    st.none(),
)
WAITS = st.sampled_from(["0", "1", "20", "21", "-1", "1.5", "1e1", "", " 1", "٣", "NaN", "9" * 400]) | TEXTS
FUNCTIONS = ["StartIdentificationFunction", "ReadConversationFunction", "SetAttributesFunction"]
QUERIES = st.dictionaries(st.sampled_from(["wait", "format", "other"]), WAITS | st.just("flat"))


def items(cloud: Cloud) -> list[dict[str, Any]]:
    return cloud.dynamodb.scan(TableName=TABLE)["Items"]


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generated `wait` may be valid; twenty seconds of it would show nothing."""
    seconds = itertools.count()
    monkeypatch.setattr(
        "conversation.waiting.time", SimpleNamespace(monotonic=lambda: next(seconds), sleep=lambda _: None)
    )


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    function=st.sampled_from(FUNCTIONS),
    conversation_id=st.none() | IDS | TEXTS,
    body=BODIES,
    query=st.none() | QUERIES,
)
def test_any_request_is_answered_and_a_refused_one_writes_nothing(
    *,
    function: str,
    conversation_id: str | None,
    body: str | None,
    query: dict[str, str] | None,
    cloud: Cloud,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cloud.kill_executions(patch)
        before = items(cloud)
        answer = cloud.request(function, conversation_id, body=body, query=query)
        assert answer.status in {200, 202, 400, 404, 409, 413}
        assert answer.headers["Content-Type"] == "application/json"
        if answer.status >= 400:
            assert answer.body.keys() == {"error"}
            assert answer.body["error"].keys() == {"code", "message"}
            assert answer.body["error"]["code"].isupper()
            assert "Traceback" not in answer.body["error"]["message"]
            assert items(cloud) == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"conversationId": "6c5c"},
        {"callerNumber": "+33612345678"},
        {"conversationId": None, "callerNumber": "+33612345678"},
        {"conversationId": 7, "callerNumber": "+33612345678"},
        {"conversationId": "a" * 129, "callerNumber": "+33612345678"},
        {"conversationId": "6c5c", "callerNumber": 33612345678},
        {"conversationId": "6c5c", "callerNumber": ["+33612345678"]},
        {"conversationId": "6c5c", "callerNumber": "x" * 256},
        {"conversationId": "6c5c", "callerNumber": {"E164": "+33612345678"}},
        {"conversationId": "6c5c", "callerNumber": "+33612345678", "attributes": []},
        {"conversationId": "6c5c", "callerNumber": "+33612345678", "attributes": {"a": 1}},
        {"conversationId": "6c5c", "callerNumber": "+33612345678", "attributes": {"a b": "c"}},
        {"conversationId": "6c5c", "callerNumber": "+33612345678", "attribute": {}},
        {"conversationId": "6c5c", "callerNumber": "+33612345678", "status": "SUCCESS"},
    ],
)
def test_a_start_that_is_not_one_is_refused(body: dict[str, object], cloud: Cloud) -> None:
    answer = cloud.request("StartIdentificationFunction", body=json.dumps(body))
    assert answer.status == 400
    assert answer.body["error"]["code"] == "INVALID_REQUEST"
    assert "612345678" not in json.dumps(answer.body)
    assert items(cloud) == []
    assert cloud.executions() == []


def test_a_start_with_too_much_is_too_large(cloud: Cloud) -> None:
    attributes = {f"{index:024}": "x" * 1_000 for index in range(33)}
    assert cloud.start("6c5c", attributes=attributes).status == 413
    assert items(cloud) == []


@pytest.mark.parametrize("wait", ["-1", "21", "100", "1.0", "+1", "", " ", "ten", "٣", "1 "])
def test_a_wait_that_is_none_is_refused(wait: str, cloud: Cloud) -> None:
    answer = cloud.read("6c5c", wait=wait)
    assert answer.status == 400
    assert "0 to 20" in answer.body["error"]["message"]


@pytest.mark.parametrize("form", ["", "json", "FLAT", "flat "])
def test_a_format_that_is_none_is_refused(form: str, cloud: Cloud) -> None:
    assert cloud.read("6c5c", format=form).status == 400
