"""What functions import: they stand between a caller and an answer, so their cold starts are kept lean."""

import subprocess
import sys

import pytest

from tests.architecture.deployment import SOURCES
from tests.support.template import REPOSITORY

# Each costs tens of milliseconds, and the reader needs none of them.
HEAVY = {
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.utilities.parameters",
    "aws_lambda_powertools.utilities.parser",
    "aws_xray_sdk",
    "boto3",
    "httpx",
    "phonenumbers",
    "pydantic",
}


LAYERS = [REPOSITORY / "layers" / name for name in ("conversation", "journeys", "stepmark")]


def modules_imported_by(function: str, source: str = "") -> set[str]:
    """What is in sys.modules after a new Python has imported a function and made its DynamoDB client."""
    code = "import sys, app; from conversation import aws; aws.dynamodb(); print(*sys.modules, sep='\\n')"
    environment = {
        "PYTHONPATH": ":".join([f"{REPOSITORY}/functions/{function}", *map(str, LAYERS)]),
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "SOURCE": source,
    }
    command = [sys.executable, "-c", code]
    # The interpreter and the code are this test's own.
    finished = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    return set(finished.stdout.split())


def test_the_reader_is_lean() -> None:
    imported = modules_imported_by("read_conversation")
    assert "botocore.client" in imported
    assert HEAVY & imported == set()


def test_a_lookup_imports_nothing_that_it_does_not_need() -> None:
    """Numbers are parsed only when a record is not written as the caller's number is."""
    assert HEAVY & modules_imported_by("look_up_caller", "gamma") == set()


@pytest.mark.parametrize("source", SOURCES)
def test_a_lookup_imports_its_own_company_while_the_environment_starts(source: str) -> None:
    imported = modules_imported_by("look_up_caller", source)
    assert {other for other in SOURCES if f"conversation.sources.{other}" in imported} == {source}


@pytest.mark.parametrize(
    ("function", "module"), [("start_identification", "phonenumbers"), ("run_journey", "pydantic")]
)
def test_what_is_heavy_is_found_where_it_is_needed(function: str, module: str) -> None:
    assert module in modules_imported_by(function)
