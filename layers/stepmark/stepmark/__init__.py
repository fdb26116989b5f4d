"""Durable workflows as plain Python, without replay."""

from stepmark import import_path as _import_path  # noqa: F401 - before any other module is looked for

# isort: split
from typing import TYPE_CHECKING, Any

from stepmark.core.check import Problem, check
from stepmark.core.describe import describe
from stepmark.core.diagram import to_mermaid
from stepmark.core.positions import LivePosition
from stepmark.core.record import Failure, Record, Status
from stepmark.core.snapshot import Snapshot, ThreadSnapshot
from stepmark.core.starting import state_to_json, workflow_from_json
from stepmark.definition.handlers import Handler, Happened, LookAgain, Observation, Request, Timeout
from stepmark.definition.retry import Retry
from stepmark.definition.statements import (
    Break,
    Case,
    Continue,
    Default,
    Finish,
    For,
    Go,
    If,
    On,
    Return,
    Scope,
    Step,
    Switch,
    Wait,
    WaitFor,
)
from stepmark.definition.workflow import Section, Statement, Workflow
from stepmark.errors import (
    DefinitionError,
    DoNotRetry,
    EventPending,
    EventRefused,
    EventsFull,
    HandlerFailed,
    OutputForgotten,
    PayloadRefused,
    PayloadTooLarge,
    PermanentError,
    RecordTooLarge,
    RetryableError,
    StateError,
    StepmarkError,
    StepTimedOut,
    StoreError,
    StoreUnavailable,
    UnknownEvent,
    UnknownStatement,
    UnknownThread,
    UnknownWorkflow,
    VersionConflict,
    WorkflowBusy,
    WorkflowClosed,
    WorkflowExists,
    WorkflowNotFound,
)
from stepmark.runtime.clock import Clock, SystemClock
from stepmark.runtime.context import StepContext, current
from stepmark.runtime.engine import Engine, run_worker
from stepmark.runtime.ledger import Budget
from stepmark.runtime.live import check_store, live_positions
from stepmark.runtime.scheduler import LocalScheduler, Scheduler
from stepmark.stores.memory import MemoryStore
from stepmark.stores.protocol import Store
from stepmark.stores.sqlite import SqliteStore
from stepmark.version import __version__ as __version__

if TYPE_CHECKING:
    from stepmark.dynamodb import DynamoDBStore as DynamoDBStore

__all__ = [
    "Break",
    "Budget",
    "Case",
    "Clock",
    "Continue",
    "Default",
    "DefinitionError",
    "DoNotRetry",
    "Engine",
    "EventPending",
    "EventRefused",
    "EventsFull",
    "Failure",
    "Finish",
    "For",
    "Go",
    "Handler",
    "HandlerFailed",
    "Happened",
    "If",
    "LivePosition",
    "LocalScheduler",
    "LookAgain",
    "MemoryStore",
    "Observation",
    "On",
    "OutputForgotten",
    "PayloadRefused",
    "PayloadTooLarge",
    "PermanentError",
    "Problem",
    "Record",
    "RecordTooLarge",
    "Request",
    "Retry",
    "RetryableError",
    "Return",
    "Scheduler",
    "Scope",
    "Section",
    "Snapshot",
    "SqliteStore",
    "StateError",
    "Statement",
    "Status",
    "Step",
    "StepContext",
    "StepTimedOut",
    "StepmarkError",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "Switch",
    "SystemClock",
    "ThreadSnapshot",
    "Timeout",
    "UnknownEvent",
    "UnknownStatement",
    "UnknownThread",
    "UnknownWorkflow",
    "VersionConflict",
    "Wait",
    "WaitFor",
    "Workflow",
    "WorkflowBusy",
    "WorkflowClosed",
    "WorkflowExists",
    "WorkflowNotFound",
    "check",
    "check_store",
    "current",
    "describe",
    "live_positions",
    "run_worker",
    "state_to_json",
    "to_mermaid",
    "workflow_from_json",
]


if not TYPE_CHECKING:  # with a module __getattr__ every misspelt name would type-check

    def __getattr__(name: str) -> Any:
        """Import what needs botocore when asked for; not in __all__, as `import *` must work without it."""
        if name != "DynamoDBStore":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from stepmark.dynamodb import DynamoDBStore  # noqa: PLC0415 - it needs botocore
        except ModuleNotFoundError as error:
            raise ImportError("DynamoDBStore needs botocore: pip install 'stepmark[aws]'") from error
        return DynamoDBStore

    def __dir__() -> list[str]:
        return [*globals(), "DynamoDBStore"]
