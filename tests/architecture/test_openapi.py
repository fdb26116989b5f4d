"""docs/openapi.yaml agrees with the template that serves it and the code that answers."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

import journeys.api
from conversation import api, attributes, phone_numbers, record, waiting
from conversation.errors import InvalidRequest
from tests.architecture.deployment import FUNCTIONS, RESOURCES, Function, events
from tests.support.openapi import DOCUMENT, OPERATIONS, resolve, schema, validator

API = RESOURCES["Api"]["Properties"]
NOW = datetime(2026, 11, 21, 19, 34, 1, 123000, UTC)

ROUTES = {(event["Path"], event["Method"]): function for function in FUNCTIONS for event in events(function)}
OF_JOURNEYS = {route for route, function in ROUTES.items() if function.folder == "journeys_api"}
OF_CONVERSATIONS = ROUTES.keys() - OF_JOURNEYS


def documented_codes(operation: dict[str, Any], status: str) -> set[str]:
    """The error codes that an operation documents for a status: its examples are named after them."""
    response = resolve(operation["responses"][status])
    examples = response["content"]["application/json"]["examples"]
    for name, example in examples.items():
        assert example["value"]["error"]["code"] == name
        validator("Error").validate(example["value"])
    return set(examples)


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_has_the_routes_of_the_template() -> None:
    assert OPERATIONS.keys() == ROUTES.keys()


def test_every_route_wants_the_key() -> None:
    assert DOCUMENT["security"] == [{"apiKey": []}]
    assert not any("security" in operation for operation in OPERATIONS.values())
    assert API["Auth"]["ApiKeyRequired"] is True


@pytest.mark.parametrize(("route", "function"), ROUTES.items(), ids=lambda value: str(value)[:50])
def test_the_gateway_lets_through_what_is_documented(route: tuple[str, str], function: Function) -> None:
    """Its models must be no narrower than the document; the functions check the rest."""
    (event,) = [one for one in events(function) if (one["Path"], one["Method"]) == route]
    operation = OPERATIONS[route]
    assert operation.get("requestBody", {}).get("required", False) == ("RequestModel" in event)
    if "RequestModel" in event:
        assert event["RequestModel"]["ValidateBody"] is True
        model = API["Models"][event["RequestModel"]["Model"]]
        body = resolve(operation["requestBody"]["content"]["application/json"]["schema"])
        assert model["type"] == body["type"] == "object"
        assert set(model.get("required", [])) <= set(body.get("required", []))
        assert model.get("properties", {}).keys() <= body.get("properties", {}).keys()
        assert "additionalProperties" not in model
        for name, property_ in model.get("properties", {}).items():
            assert property_.get("type") in (None, resolve(body["properties"][name]).get("type"))


def test_path_parameters_are_those_of_the_path() -> None:
    for path, item in DOCUMENT["paths"].items():
        parameters = [resolve(parameter) for parameter in item.get("parameters", [])]
        named = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind, _ in api._HTTP_STATUS], ids=lambda kind: kind.__name__)
def test_every_error_of_the_functions_is_documented(kind: type[Exception]) -> None:
    (status,) = [str(status) for error, status in api._HTTP_STATUS if error is kind]
    operations = [OPERATIONS[route] for route in OF_CONVERSATIONS]
    documented = [documented_codes(o, status) for o in operations if status in o["responses"]]
    assert documented
    # A conflict is of one route's kind; whatever else may happen, may happen at every route.
    where = any if status == "409" else all
    assert where(vars(kind)["code"] in codes for codes in documented)


@pytest.mark.parametrize(
    ("status", "code"), [(str(int(status)), code) for _, status, code in journeys.api.HTTP_STATUS]
)
def test_every_error_of_journeys_is_documented(status: str, code: str) -> None:
    operations = [OPERATIONS[route] for route in OF_JOURNEYS]
    assert any(code in documented_codes(o, status) for o in operations if status in o["responses"])


@pytest.mark.parametrize("name", API["GatewayResponses"])
def test_every_answer_of_the_gateway_is_documented(name: str) -> None:
    response = API["GatewayResponses"][name]
    template = response["ResponseTemplates"]["application/json"]
    answer = yaml.safe_load(template.replace("$context.error.messageString", '"what is wrong"'))
    validator("Error").validate(answer)
    status = response.get("StatusCode", "400")
    documented = [documented_codes(o, status) for o in OPERATIONS.values() if status in o["responses"]]
    assert documented
    assert all(answer["error"]["code"] in codes for codes in documented)
    says_when = "Retry-After" in response.get("ResponseParameters", {}).get("Headers", {})
    assert says_when == (status in {"429", "503"})


def test_every_documented_code_can_come() -> None:
    of_functions = {vars(kind)["code"] for kind, _ in api._HTTP_STATUS}
    of_functions |= {code for _, _, code in journeys.api.HTTP_STATUS}
    of_gateway = {
        code
        for response in API["GatewayResponses"].values()
        for code in re.findall(r'"code":"(\w+)"', response["ResponseTemplates"]["application/json"])
    }
    documented = {
        code
        for operation in OPERATIONS.values()
        for status in operation["responses"]
        if status >= "400"
        for code in documented_codes(operation, status)
    }
    assert documented == of_functions | of_gateway


# --- limits ------------------------------------------------------------------------------------------------


def test_the_limits_are_those_of_the_code() -> None:
    wait, flat = OPERATIONS["/conversations/{conversationId}", "GET"]["parameters"]
    assert wait["schema"]["maximum"] == waiting.MAX_SECONDS
    assert flat["schema"]["enum"] == ["flat"]
    assert schema("ConversationId")["pattern"] == f"^{api._CONVERSATION_ID.pattern}$"
    assert schema("AttributeName")["pattern"] == f"^{attributes._NAME.pattern}$"
    assert (
        schema("StartIdentification")["properties"]["callerNumber"]["maxLength"] == phone_numbers.MAX_LENGTH
    )
    for name in ("AttributeChange", "Attributes"):
        assert schema(name)["maxProperties"] == attributes.TOTAL_ROOM.count
        assert schema(name)["additionalProperties"]["maxLength"] == attributes.MAX_VALUE_LENGTH
    described = OPERATIONS["/conversations/{conversationId}/attributes", "PATCH"]["description"]
    assert f"{attributes.TOTAL_ROOM.bytes:,} bytes" in described
    assert f"{attributes.CLIENT_ROOM.bytes:,}, and {attributes.CLIENT_ROOM.count} of" in described


@pytest.mark.parametrize(
    ("change", "is_good"),
    [
        ({"a" * 64: "x" * 1000}, True),
        ({"a" * 65: "x"}, False),
        ({"a": "x" * 1001}, False),
        ({"": "x"}, False),
        ({"a": None}, True),
        ({"a": 1}, False),
        ({f"n{number}": "" for number in range(50)}, True),
        ({f"n{number}": "" for number in range(51)}, False),
    ],
)
def test_document_and_code_agree_on_attributes(change: dict[str, object], *, is_good: bool) -> None:
    assert validator("AttributeChange").is_valid(change) == is_good
    if is_good:
        attributes.check_change(change)
    else:
        with pytest.raises(InvalidRequest):
            attributes.check_change(change)


def test_the_enumerations_are_those_of_the_code() -> None:
    assert schema("Status")["enum"] == list(record.Status)
    assert schema("SourceStatus")["enum"] == list(record.SourceStatus)
    assert schema("Conversation")["properties"]["reason"]["enum"] == [
        record.WITHHELD_NUMBER,
        record.UNUSABLE_NUMBER,
    ]


# --- documents ---------------------------------------------------------------------------------------------

IDENTITY = {
    "source": "gamma",
    "customerId": "G-1042",
    "displayName": "Jean Dupont",
    "firstName": "Jean",
    "lastName": "Dupont",
    "segment": "vip",
    "candidates": 1,
}


def conversation(status: record.Status, **more: Any) -> record.Conversation:
    return record.Conversation(
        start_id="0a1b2c3d4e5f6071",
        conversation_id="6c5c1d9e",
        status=status,
        started_at=NOW,
        updated_at=NOW,
        deadline_at=NOW + timedelta(seconds=10),
        expires_at=NOW + timedelta(hours=1),
        **more,
    )


CONVERSATIONS = [
    conversation(record.Status.ONGOING, caller_number="+33612345678"),
    conversation(
        record.Status.NOT_FOUND, caller_number=None, reason=record.WITHHELD_NUMBER, concluded_at=NOW
    ),
    conversation(
        record.Status.SUCCESS,
        caller_number="+33612345678",
        concluded_at=NOW,
        identity=IDENTITY,
        sources={"alpha": record.SourceStatus.MATCH, "gamma": record.SourceStatus.MATCH},
        other_matches={"alpha": {**IDENTITY, "source": "alpha"}},
        attributes={"reason": "billing"},
    ),
]


@pytest.mark.parametrize("one", CONVERSATIONS, ids=lambda one: one.status)
def test_documents_are_as_documented(one: record.Conversation) -> None:
    validator("Conversation").validate(one.document(NOW))
    validator("FlatConversation").validate(one.flat_document(NOW))


def test_a_document_has_every_documented_field_and_no_other() -> None:
    shown = {key for one in CONVERSATIONS for key in one.document(NOW)}
    assert shown == schema("Conversation")["properties"].keys()
    always = set.intersection(*(set(one.document(NOW)) for one in CONVERSATIONS))
    assert always == set(schema("Conversation")["required"])


@pytest.mark.parametrize("name", ["Ongoing", "Success", "Withheld", "Flat"])
def test_the_examples_are_documents(name: str) -> None:
    example = DOCUMENT["components"]["examples"][name]["value"]
    validator("FlatConversation" if name == "Flat" else "Conversation").validate(example)


def test_the_examples_of_requests_are_requests() -> None:
    for operation in OPERATIONS.values():
        if "requestBody" not in operation:
            continue
        content = operation["requestBody"]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        for example in content["examples"].values():
            validator(name).validate(example["value"])
