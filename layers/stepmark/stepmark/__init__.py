"""Durable workflows as plain Python, without replay."""

from stepmark.check import LivePosition, Problem, check, check_store, live_positions
from stepmark.clock import Clock, SystemClock
from stepmark.context import StepContext, current
from stepmark.describe import describe
from stepmark.diagram import to_mermaid
from stepmark.engine import Engine
from stepmark.errors import (
    DefinitionError,
    DoNotRetry,
    EventPending,
    EventsFull,
    HandlerFailed,
    PayloadRefused,
    PermanentError,
    RecordTooLarge,
    RetryableError,
    StateError,
    StepmarkError,
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
from stepmark.handlers import Handler, Request
from stepmark.ledger import Budget
from stepmark.memory import MemoryStore
from stepmark.record import Record, Status
from stepmark.retry import Retry
from stepmark.scheduler import LocalScheduler, Scheduler
from stepmark.snapshot import Snapshot, ThreadSnapshot
from stepmark.sqlite import SqliteStore
from stepmark.statements import (
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
    Section,
    Statement,
    Step,
    Switch,
    Timeout,
    Wait,
    WaitFor,
)
from stepmark.store import Store
from stepmark.worker import run_worker
from stepmark.workflow import Workflow

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
    "EventsFull",
    "Finish",
    "For",
    "Go",
    "Handler",
    "HandlerFailed",
    "If",
    "LivePosition",
    "LocalScheduler",
    "MemoryStore",
    "On",
    "PayloadRefused",
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
    "StepmarkError",
    "Store",
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
    "to_mermaid",
]
