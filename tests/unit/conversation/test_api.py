"""Whatever body or path arrives, the API's helpers give an object, or a refusal with a status."""

import base64
import json
import re
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext
from hypothesis import given
from hypothesis import strategies as st

from conversation.api import (
    MAX_BODY_BYTES,
    Event,
    Response,
    answers_errors,
    check_conversation_id,
    conversation_id_in_path,
    json_object,
    respond,
)
from conversation.errors import (
    ConfigurationError,
    ConversationError,
    ConversationNotFound,
    InvalidRequest,
    NumberConflict,
    RequestTooLarge,
    SourceUnavailable,
    StartUnavailable,
    StoreUnavailable,
)

CONTEXT = cast("LambdaContext", SimpleNamespace())


@answers_errors
def echo(event: Event, _context: LambdaContext) -> Response:
    return respond(200, {"received": json_object(event)})


def answer_to(body: str | None, *, encoded: bool = False) -> tuple[int, dict[str, Any]]:
    response = echo({"body": body, "isBase64Encoded": encoded}, CONTEXT)
    return response["statusCode"], json.loads(response["body"])


def encode(body: bytes) -> str:
    return base64.b64encode(body).decode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{}", {}),
        (' \n{"a": "b"}\t', {"a": "b"}),
        ('{"a": "1", "a": "2"}', {"a": "2"}),  # RFC 8259 leaves it open; the last one counts, as everywhere
        (r'{"a": "\ud83d\udc4b"}', {"a": "👋"}),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", {"a": json.loads("[" * 100 + "]" * 100)}),
    ],
)
def test_a_json_object_is_read(body: str, expected: dict[str, object]) -> None:
    assert answer_to(body) == (200, {"received": expected})
    assert answer_to(encode(body.encode()), encoded=True) == (200, {"received": expected})


@pytest.mark.parametrize(
    "body",
    [
        None,
        "",
        " ",
        "null",
        "[]",
        "7",
        '"text"',
        "true",
        "NaN",
        "Infinity",
        "{",
        '{"a": }',
        "{'a': 'b'}",
        '{"a": "b"} {"c": "d"}',
        '{"a": "line\nbreak"}',
        '{"a": NaN}',
        '{"a": [-Infinity]}',
        "\x00",
        "conversationId=6c5c&callerNumber=%2B33612345678",
        "<xml/>",
        "[" * 100_000,
        '{"a": ' * 40_000,
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a": ' + "9" * 10_000 + "}",  # Python refuses to read so long a number
        "\ud800",
        '{"reason": "\\ud800"}',
    ],
)
def test_what_is_no_json_object_is_refused(body: str | None) -> None:
    status, document = answer_to(body)
    assert status == 400
    assert document["error"]["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize("body", ["not base64", "e30", "e30=\n", "é", encode(b"\xff\xfe{}"), encode(b"[]")])
def test_a_broken_encoding_is_refused(body: str) -> None:
    assert answer_to(body, encoded=True)[0] == 400


@pytest.mark.parametrize("encoded", [False, True])
def test_the_size_of_a_body_is_in_bytes(*, encoded: bool) -> None:
    def send(content: str) -> tuple[int, dict[str, Any]]:
        return answer_to(encode(content.encode()) if encoded else content, encoded=encoded)

    at_the_limit = '{"a": "' + "👋" * (MAX_BODY_BYTES // 4 - 3) + 'xxx"}'
    assert len(at_the_limit.encode()) == MAX_BODY_BYTES
    assert send(at_the_limit)[0] == 200
    status, document = send(at_the_limit.replace("x", "xx", 1))
    assert status == 413
    assert document["error"]["code"] == "REQUEST_TOO_LARGE"


@given(
    body=st.text(st.characters(), max_size=200) | st.binary(max_size=200).map(encode), encoded=st.booleans()
)
def test_any_text_is_an_object_or_400(body: str, *, encoded: bool) -> None:
    status, document = answer_to(body, encoded=encoded)
    assert status == 400 or isinstance(document["received"], dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=4)
    ),
)


HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")


@given(value=JSON)
def test_any_json_is_an_object_or_400(value: object) -> None:
    status, _ = answer_to(json.dumps(value))
    is_text = not HALF_OF_A_PAIR.search(json.dumps(value, ensure_ascii=False))
    assert status == (200 if isinstance(value, dict) and is_text and has_json_numbers(value) else 400)


def has_json_numbers(value: object) -> bool:
    """Whether there is neither NaN nor an infinity in it."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (InvalidRequest("say it so"), 400, "INVALID_REQUEST", False),
        (RequestTooLarge("send less"), 413, "REQUEST_TOO_LARGE", False),
        (ConversationNotFound("start it"), 404, "CONVERSATION_NOT_FOUND", False),
        (NumberConflict("new id"), 409, "CALLER_NUMBER_CONFLICT", False),
        (StoreUnavailable("again"), 503, "TEMPORARILY_UNAVAILABLE", True),
        (StartUnavailable("again"), 503, "TEMPORARILY_UNAVAILABLE", True),
        (SourceUnavailable("again"), 503, "SOURCE_UNAVAILABLE", True),
    ],
)
def test_each_error_has_its_status(error: ConversationError, status: int, code: str, *, retry: bool) -> None:
    @answers_errors
    def refuse(_event: Event, _context: LambdaContext) -> Response:
        raise error

    response = refuse({}, CONTEXT)
    assert response["statusCode"] == status
    assert json.loads(response["body"]) == {"error": {"code": code, "message": str(error)}}
    assert response["headers"].get("Retry-After") == ("1" if retry else None)
    assert error.retryable == retry


@pytest.mark.parametrize("error", [ConfigurationError("set it"), RuntimeError("a defect"), KeyError("x")])
def test_what_no_client_can_mend_fails_the_function(error: Exception) -> None:
    """It must reach the function's error metric; the gateway's own document answers for it."""

    @answers_errors
    def fail(_event: Event, _context: LambdaContext) -> Response:
        raise error

    with pytest.raises(type(error)):
        fail({}, CONTEXT)


def test_an_answer_is_json_that_nobody_caches() -> None:
    response = respond(202, {"name": "Élise 👋"})
    assert response["headers"] == {"Content-Type": "application/json", "Cache-Control": "no-store"}
    assert json.loads(response["body"]) == {"name": "Élise 👋"}
    assert len(response["body"].encode()) == len('{"name": "Élise 👋"}'.encode())  # nothing is escaped


@pytest.mark.parametrize(
    "conversation_id",
    [
        "6c5c",
        "a" * 128,
        "A-Z_0-9",
        "1267568856.11",  # Asterisk
        "v3:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJiSw8d6A9BborherQ",  # Telnyx
        "a84b4c76e66710@10.0.0.1",  # a SIP Call-ID
        "asterisk-1-1267568856.11",
        "b6a1f6f0-3b5c-4a43-9f5e-6f5f6a0a1b2c",
        "CA0123456789abcdef0123456789abcdef",
    ],
)
def test_ids_of_the_usual_platforms_are_ids(conversation_id: str) -> None:
    assert conversation_id_in_path({"pathParameters": {"conversationId": conversation_id}}) == conversation_id


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        *(
            {"conversationId": x}
            for x in (
                "",
                "a" * 129,
                "a b",
                "é",
                "a\n",
                "-a",
                ".a",
                ":",
                "@x",
                "_a",
                "a/b",
                "a~b",
                "a%2Fb",
                "a\x00",
            )
        ),
    ],
)
def test_what_is_no_id_is_refused(parameters: dict[str, str] | None) -> None:
    with pytest.raises(
        InvalidRequest,
        match=re.escape("conversationId must be 1 to 128 characters of A-Z a-z 0-9 . _ : @ -"),
    ):
        conversation_id_in_path({"pathParameters": parameters})


@pytest.mark.parametrize(
    "in_path", ["v3%3A1a2b", "a84b4c76e66710%4010.0.0.1", "v3:1a2b", "a84b4c76e66710@10.0.0.1"]
)
def test_an_id_in_the_path_may_be_escaped(in_path: str) -> None:
    assert conversation_id_in_path({"pathParameters": {"conversationId": in_path}}) == unquote(in_path)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1267568856.11, "a number: put it in quotes"),
        (7, "a number: put it in quotes"),
        (True, "a boolean"),
        (None, "null"),
        (["6c5c"], "an array"),
        ({}, "an object"),
    ],
)
def test_what_stands_where_a_string_belongs_is_told(value: object, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^conversationId must be a JSON string, not {kind}$"):
        check_conversation_id(value)


@pytest.mark.parametrize("encoded", [False, True])
def test_a_byte_order_mark_before_a_body_is_nothing(encoded: bool) -> None:
    body = "\ufeff{}"
    assert answer_to(encode(body.encode()) if encoded else body, encoded=encoded)[0] == 200
    assert answer_to("{}\ufeff")[0] == 400
