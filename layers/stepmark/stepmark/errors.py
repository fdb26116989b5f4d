"""Every error that stepmark raises on purpose.

StepmarkError
├── RetryableError             the same call may succeed later
│   ├── WorkflowBusy           another worker runs the workflow
│   ├── EventPending           the event is stored, its output not there yet
│   ├── StepTimedOut           a step has taken longer than its time-out
│   ├── EventsFull             too many events are kept that nobody waits for yet
│   └── StoreUnavailable       the store could not answer
└── PermanentError             the same call fails again
    ├── WorkflowNotFound
    ├── WorkflowExists         the id belongs to a workflow of another class
    ├── WorkflowClosed         finished or cancelled
    ├── UnknownWorkflow        this engine was not given the class
    ├── UnknownEvent           the definition does not have this event
    ├── UnknownThread
    ├── UnknownStatement
    ├── PayloadRefused         the payload does not fit the event's type
    │   └── PayloadTooLarge    it is longer than an event may be
    ├── EventRefused           not now: a Wait says so, or the event's handler
    ├── OutputForgotten        the event was handled before; its output is not kept
    ├── HandlerFailed          the event's handler raised; nothing changed
    ├── DefinitionError        definition() raised or is not valid
    ├── StoreError             the store can't be used like this, now or later
    ├── RecordTooLarge         a store can't hold that much for one workflow
    ├── StateError             a field can't be stored or no longer fits
    └── DoNotRetry             a step raises it (or a subclass) to refuse retries
VersionConflict                a store's answer to a commit that came too late
"""

import os
from pathlib import Path
from traceback import extract_tb


class StepmarkError(Exception):
    """The base of every error that this library raises on purpose.

    brief: the message without what users' code has said, which may quote anything; None where whoever raised
    the error has not said what that is.
    """

    brief: str | None = None

    def __init__(self, *args: object, brief: str | None = None) -> None:
        super().__init__(*args)
        if brief is not None:
            self.brief = brief


class RetryableError(StepmarkError):
    """The same call may succeed later."""


class PermanentError(StepmarkError):
    """The same call fails again until somebody changes something."""


class WorkflowBusy(RetryableError):
    """Another worker runs the workflow at the moment."""


class StepTimedOut(RetryableError, TimeoutError):
    """An attempt of a step has taken longer than the step's time-out.

    Step("ask", self.ask, timeout=30).or_else("no answer", Finish("no answer"), on=StepTimedOut)
    """


class EventPending(RetryableError):
    """The event is stored and not handled yet; repeat the call with the same event_id."""


class EventsFull(RetryableError):
    """Too many events are kept until the workflow waits for them."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(f"workflow {workflow_id!r} keeps too many events: send it when it waits for it")


class StoreUnavailable(RetryableError):
    """The store could not answer; what it was asked may or may not have been done."""


class WorkflowNotFound(PermanentError):
    """No workflow has this id."""


class WorkflowExists(PermanentError):
    """The id belongs to a workflow of another class."""


class WorkflowClosed(PermanentError):
    """The workflow is finished or cancelled."""


class UnknownWorkflow(PermanentError):
    """The engine was not given the class of this workflow."""


class UnknownEvent(PermanentError):
    """The workflow's definition does not wait for an event of this name."""


class UnknownThread(PermanentError):
    """The workflow has no thread of this name."""


class UnknownStatement(PermanentError):
    """The definition has no statement of this name where it was looked for."""


class PayloadRefused(PermanentError):
    """The payload does not fit the annotation of the event's handler."""


class PayloadTooLarge(PayloadRefused):
    """The payload is longer than an event may be."""


class EventRefused(PermanentError):
    """The workflow does not take the event in its present state; nothing has changed.

        def on_bid(self, bid: int) -> None:
            if bid <= self.highest:
                raise EventRefused("somebody has bidden more")

    `Wait(..., refuse=...)` raises it, and a handler may; then its sender is told, and the event not tried
    again.
    """


class OutputForgotten(PermanentError):
    """The event was handled before, and its repeat runs nothing; its output was too long to be kept."""


class HandlerFailed(PermanentError):
    """The handler of an event raised (see `__cause__`); the workflow has not changed."""


class DefinitionError(PermanentError):
    """A definition() raised, or what it returned is not a valid definition."""


class StateError(PermanentError):
    """A field of the state can't be stored, or what is stored no longer fits the class."""


class StoreError(PermanentError):
    """The store can't be used like this: a table is missing, an id too long, a file of a newer release."""


class RecordTooLarge(PermanentError):
    """A store can't hold that much for one workflow; the step that needed the room is parked."""


class DoNotRetry(PermanentError):
    """Raised by a step, alone or as a subclass, to give up at once instead of being tried again.

    class CardRefused(DoNotRetry): ...
    """


class VersionConflict(Exception):
    """A store refuses a commit because the record is no longer at the expected version."""


_MAX_TEXT_BYTES = 2_000


def printable(text: str) -> str:
    """A text for a terminal or a log: what moves a cursor or turns the writing round is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def leaves_of(error: BaseException) -> list[BaseException]:
    """The error, or what is in it if it is a group."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in leaves_of(each)]


def text_of(error: BaseException) -> str:
    """What an error says, fit to be stored: within 2 KB, in UTF-8, whatever its __str__ does.

    A group says what is in it.
    """
    if isinstance(error, BaseExceptionGroup):
        text = "; ".join(f"{type(each).__name__}: {text_of(each)}" for each in leaves_of(error))
    else:
        try:
            text = str(error)
        except Exception as problem:  # noqa: BLE001 - the user's class may raise anything
            text = f"(its text can't be read: {type(problem).__name__})"
    whole = text[: _MAX_TEXT_BYTES + 1].encode(errors="backslashreplace")
    if len(whole) <= _MAX_TEXT_BYTES:
        return whole.decode()
    return f"{whole[:_MAX_TEXT_BYTES].decode(errors='ignore')}... ({len(text):,} characters)"


_LIBRARY = str(Path(__file__).parent) + os.sep
MAX_FRAMES = 5
_MAX_FRAME = 200  # characters


def frames_of(error: BaseException) -> list[str]:
    """Where in the user's code an error was raised, the innermost last, each as `file:line function`."""
    frames = [
        frame
        for frame in extract_tb(leaves_of(error)[0].__traceback__)
        if not frame.filename.startswith(_LIBRARY)
    ]
    texts = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-MAX_FRAMES:]]
    return [text[-_MAX_FRAME:].encode(errors="backslashreplace").decode() for text in texts]
