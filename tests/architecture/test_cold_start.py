"""What a function does before its first event: it imports what it needs, and has its clients ready on Lambda.

How long that takes is measured by `benchmarks/first_answer.py`.
"""

import ast
import subprocess
import sys

import botocore.loaders
import pytest

from benchmarks.first_answer import CASES, Case, environment_of
from conversation import aws
from tests.architecture.deployment import FUNCTIONS_BY_FOLDER, SOURCES
from tests.support.template import REPOSITORY

# Each costs tens of milliseconds, and the functions on the caller's way need none of them.
HEAVY = {
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.utilities.parameters",
    "aws_lambda_powertools.utilities.parser",
    "aws_xray_sdk",
    "boto3",
    "httpx",
    "pydantic",
    "stepmark",
}
NOWHERE = "http://127.0.0.1:9"
LAYERS = ("conversation", "journeys", "stepmark")


def after_import(case: Case, expression: str, *, on_lambda: bool = False, before: str = "") -> str:
    """What an expression is in a new Python that has imported a function."""
    environment = environment_of(case, NOWHERE)
    if not on_lambda:
        del environment["AWS_LAMBDA_INITIALIZATION_TYPE"]
    path = [f"{REPOSITORY}/functions/{case.function}", *(f"{REPOSITORY}/layers/{layer}" for layer in LAYERS)]
    command = [sys.executable, "-c", f"import gc, sys\n{before}\nimport app\nprint({expression})"]
    # The interpreter and the code are this test's own.
    finished = subprocess.run(  # noqa: S603
        command, env=environment | {"PYTHONPATH": ":".join(path)}, check=True, capture_output=True, text=True
    )
    return finished.stdout.splitlines()[-1]


def modules_imported_by(case: Case) -> set[str]:
    return set(after_import(case, "*sys.modules").split())


every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
lookups = pytest.mark.parametrize("case", [case for case in CASES if case.source], ids=lambda case: case.name)
BY_FUNCTION = {case.function: case for case in CASES}


def test_every_function_is_looked_at_as_it_is_deployed() -> None:
    assert {case.function for case in CASES} == set(FUNCTIONS_BY_FOLDER)
    assert {case.source for case in CASES if case.source} <= set(SOURCES)
    for case in CASES:
        variables = FUNCTIONS_BY_FOLDER[case.function].properties["Environment"]["Variables"]
        assert variables.keys() <= environment_of(case, NOWHERE).keys()


# --- imports -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", ["read_conversation", "set_attributes", "start_identification", "look_up_caller"]
)
def test_what_a_caller_waits_for_is_lean(function: str) -> None:
    imported = modules_imported_by(BY_FUNCTION[function])
    assert "botocore.client" in imported
    assert HEAVY & imported == set()


@every_case
def test_only_who_reads_numbers_imports_how(case: Case) -> None:
    """Lookups parse numbers only when a record is not written as the caller's number is."""
    assert ("phonenumbers" in modules_imported_by(case)) == (case.function == "start_identification")


@every_case
def test_only_lookups_import_what_asks_companies(case: Case) -> None:
    """The journeys' functions import it when a step leaves a note in the CRM."""
    imported = modules_imported_by(case)
    assert {"asyncio", "h11"} & imported == ({"asyncio", "h11"} if case.source else set())


@lookups
def test_a_lookup_imports_its_own_company_while_the_environment_starts(case: Case) -> None:
    imported = modules_imported_by(case)
    assert {other for other in SOURCES if f"conversation.sources.{other}" in imported} == {case.source}


@pytest.mark.parametrize("module", ["pydantic", "stepmark"])
def test_what_is_heavy_is_found_where_it_is_needed(module: str) -> None:
    assert module in modules_imported_by(BY_FUNCTION["run_journey"])
    assert module not in modules_imported_by(BY_FUNCTION["notify_journeys"])


# --- clients -----------------------------------------------------------------------------------------------

COUNT_SESSIONS = """
import botocore.session
made = []
start = botocore.session.Session.__init__
def count(session, *given, **named):
    made.append(session)
    start(session, *given, **named)
botocore.session.Session.__init__ = count
"""


@every_case
def test_on_lambda_clients_are_made_before_the_first_event_and_of_one_session(case: Case) -> None:
    """Whatever AWS says by then, which here is nothing: nobody listens at that port."""
    clients = (
        "len(made), sum(one.cache_info().currsize for one in"
        " [aws.dynamodb, aws.step_functions, aws.secrets_manager, aws.sqs, aws.schedules]),"
        " gc.isenabled(), gc.get_freeze_count() > 0"
    )
    before = f"{COUNT_SESSIONS}\nfrom conversation import aws"
    sessions, count, collects, frozen = after_import(case, clients, on_lambda=True, before=before).split()
    assert sessions == "1"
    assert int(count) >= 1
    assert (collects, frozen) == ("True", "True")


def test_garbage_is_left_before_anything_heavy_is_imported() -> None:
    before = "import conversation\nfirst = gc.isenabled(), 'botocore' in sys.modules"
    assert after_import(BY_FUNCTION["read_conversation"], "first", on_lambda=True, before=before) == (
        "(False, False)"
    )


@every_case
def test_elsewhere_a_function_is_imported_and_nothing_else(case: Case) -> None:
    state = after_import(case, "len(made), gc.isenabled(), gc.get_freeze_count()", before=COUNT_SESSIONS)
    assert state == "0 True 0"


@pytest.mark.parametrize("function", FUNCTIONS_BY_FOLDER)
def test_every_function_prepares_once_and_last(function: str) -> None:
    """It is also what turns the collection of garbage on again."""
    body = ast.parse((REPOSITORY / f"functions/{function}/app.py").read_text()).body
    calls = [n for n, one in enumerate(body) if isinstance(one, ast.Expr) and "prepare(" in ast.unparse(one)]
    imports = [n for n, one in enumerate(body) if isinstance(one, ast.Import | ast.ImportFrom)]
    assert len(calls) == 1
    assert max(imports) < calls[0]


def test_botocore_is_told_of_services_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    known = set(botocore.loaders.Loader().list_available_services("service-2"))
    told = aws._OwnServices().list_available_services("service-2")
    assert told == sorted(told)
    assert set(told) <= known
    for name in told:
        assert aws.make_client(name).meta.service_model.service_name == name
