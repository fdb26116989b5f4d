"""docs/openapi.yaml, for tests that hold the code or its answers against it."""

from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.support.template import REPOSITORY

PATH = REPOSITORY / "docs/openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text())
_METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}
_REGISTRY = Registry().with_resource("urn:openapi", DRAFT202012.create_resource(DOCUMENT))

OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    (path, method.upper()): operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in _METHODS
}
"""By path and method, such as ("/conversations", "POST")."""


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` of the document points at."""
    found: Any = node
    while "$ref" in found:
        target: Any = DOCUMENT
        for part in found["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        found = target
    resolved: dict[str, Any] = found
    return resolved


def schema(name: str) -> dict[str, Any]:
    """One of the document's schemas."""
    return resolve({"$ref": f"#/components/schemas/{name}"})


@cache
def validator(name: str) -> Draft202012Validator:
    """A validator for one of the document's schemas."""
    reference = {"$ref": f"urn:openapi#/components/schemas/{name}"}
    return Draft202012Validator(reference, registry=_REGISTRY, format_checker=FormatChecker())
