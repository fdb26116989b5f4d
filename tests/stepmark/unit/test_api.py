"""The names that other people's programs import."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import stepmark
from stepmark import Retry, Section, StepmarkError, Workflow, errors
from stepmark.definition.retry import DEFAULT_RETRY
from stepmark.testing import LocalEngine

CONTRACT = {
    "Break", "Case", "Continue", "Default", "DynamoDBStore", "Engine", "Finish", "For", "Go", "Handler", "If",
    "MemoryStore", "On", "Retry", "Return", "Scope", "Section", "Snapshot", "SqliteStore", "Step",
    "Switch", "Timeout", "Wait", "WaitFor", "Workflow", "check", "describe", "run_worker",
    "to_mermaid",
}  # fmt: skip
MORE = {
    "state_to_json",
    "workflow_from_json",
    "Budget", "Clock", "DefinitionError", "DoNotRetry", "EventPending", "EventRefused", "EventsFull",
    "Failure", "HandlerFailed", "Happened", "LivePosition", "LocalScheduler", "LookAgain", "Observation",
    "OutputForgotten", "PayloadRefused", "PayloadTooLarge", "PermanentError",
    "Problem", "Record", "RecordTooLarge", "Request", "RetryableError", "Scheduler", "StateError",
    "Statement", "Status", "StepContext", "StepTimedOut", "StepmarkError",
    "Store", "StoreError", "StoreUnavailable",
    "SystemClock", "ThreadSnapshot", "UnknownEvent", "UnknownStatement", "UnknownThread",
    "UnknownWorkflow", "VersionConflict", "WorkflowBusy", "WorkflowClosed", "WorkflowExists",
    "WorkflowNotFound", "check_store", "current", "live_positions",
}  # fmt: skip


def test_the_public_names() -> None:
    assert set(stepmark.__all__) == (CONTRACT | MORE) - {"DynamoDBStore"}
    assert sorted(stepmark.__all__) == stepmark.__all__
    assert all(hasattr(stepmark, name) for name in CONTRACT | MORE)
    assert set(dir(stepmark)) >= CONTRACT | MORE
    with pytest.raises(AttributeError, match="DynamoStore"):
        _ = stepmark.DynamoStore  # type: ignore[attr-defined] # there is none


def printed(code: str) -> str:
    """What a new process prints that runs this code."""
    command = [sys.executable, "-c", code]
    folder = Path(stepmark.__file__).parents[1]
    # The interpreter and the code are this test's own.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()


def test_the_store_in_dynamodb_costs_only_those_who_ask_for_it() -> None:
    code = "import sys; from stepmark import *; print('botocore' in sys.modules)"
    assert printed(f"{code}; from stepmark import DynamoDBStore; print(DynamoDBStore.__module__)") == (
        "False\nstepmark.dynamodb"
    )
    without = "import sys; sys.modules['botocore'] = None; from stepmark import *"
    assert printed(f"{without}; print(Engine.__name__)") == "Engine"
    asked = "try:\n    from stepmark import DynamoDBStore\nexcept ImportError as error:\n    print(error)"
    assert printed(f"{without}\n{asked}") == "DynamoDBStore needs botocore: pip install 'stepmark[aws]'"


def test_every_public_name_says_what_it_is() -> None:
    for name in CONTRACT | MORE:
        assert getattr(stepmark, name).__doc__, name


def test_every_error_says_whether_retrying_helps_and_is_in_the_tree() -> None:
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, StepmarkError):
            assert name in str(errors.__doc__)
            assert issubclass(error, errors.RetryableError | errors.PermanentError) or error is StepmarkError


def test_the_library_is_typed_and_imports_nothing_of_this_project() -> None:
    assert (Path(stepmark.__file__).parent / "py.typed").exists()
    code = "import sys, stepmark; print(sorted({'conversation', 'journeys', 'boto3'} & set(sys.modules)))"
    assert printed(code) == "[]"


def test_the_default_retry_is_five_attempts_with_growing_jittered_delays() -> None:
    error = ConnectionError()
    delays = [DEFAULT_RETRY.delay(failures, error) for failures in range(1, 6)]
    assert delays[-1] is None
    grown = [delay for delay in delays[:-1] if delay is not None]
    assert len(grown) == 4
    assert grown == sorted(grown)
    assert len({DEFAULT_RETRY.delay(1, error) for _ in range(10)}) > 1


def test_a_retry_stays_within_its_bounds() -> None:
    retry = Retry(attempts=2000, first_delay=1, factor=3, longest_delay=7, jitter=0)
    assert [retry.delay(failures, OSError()) for failures in (1, 2, 3, 1999)] == [1, 3, 7, 7]
    for wrong in (
        {"attempts": 0},
        {"first_delay": -1},
        {"factor": 0.5},
        {"jitter": 2},
        {"longest_delay": -1},
        {"first_delay": float("nan")},
        {"longest_delay": float("inf")},
        {"factor": float("nan")},
    ):
        with pytest.raises(ValueError, match="Retry"):
            Retry(**wrong)


@pytest.mark.parametrize("on", [[OSError], (OSError(),), (KeyboardInterrupt,), ("OSError",), None])
def test_a_retry_takes_what_except_takes(on: Any) -> None:
    with pytest.raises(TypeError, match="as after `except`"):
        Retry(on=on)
    assert Retry(on=OSError, jitter=0).delay(1, ConnectionError()) == 1
    assert Retry(on=OSError).delay(1, ValueError()) is None


@dataclass
class Something(Workflow):
    def definition(self) -> Section:
        return Section()


@pytest.mark.parametrize(
    ("workflow", "workflow_id", "error", "message"),
    [
        (Something, "1", TypeError, "not the class Something"),
        ("Something", "1", TypeError, "not <class 'str'>"),
        (Something(), "", ValueError, "some text"),
        (Something(), "\ud83d", ValueError, "some text"),
        (Something(), 7, TypeError, "a string, not int"),
        (Something(), b"7", TypeError, "a string, not bytes"),
    ],
)
def test_what_cannot_be_started_is_refused(
    workflow: Any, workflow_id: Any, error: type[Exception], message: str
) -> None:
    engine = LocalEngine(Something)
    with pytest.raises(error, match=message):
        engine.start(workflow, workflow_id)
    assert list(engine.store.live()) == []
