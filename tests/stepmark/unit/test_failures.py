"""What counts as a failed attempt, what is logged and kept of it, and when it is tried again."""

import asyncio
import email.utils
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
import stepmark
from stepmark import (
    DoNotRetry,
    Engine,
    MemoryStore,
    On,
    Retry,
    Section,
    SqliteStore,
    Status,
    Step,
    Wait,
    Workflow,
)
from stepmark.testing import LocalEngine

from tests.stepmark.support import until


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@dataclass
class Fails(Workflow):
    """Fails as it is told; `customer` is nobody's business but its own."""

    ERROR: ClassVar[BaseException]
    RETRY: ClassVar[Retry | None] = None
    customer: str = "Mme Dupont"
    runs: int = 0

    def definition(self) -> Section:
        return Section(Step("charge", self.charge, retry=self.RETRY))

    def charge(self) -> None:
        raise self.ERROR


def failing(error: BaseException, retry: Retry | None = None) -> LocalEngine:
    Fails.ERROR, Fails.RETRY = error, retry
    engine = LocalEngine(Fails)
    engine.start(Fails(), workflow_id="w")
    return engine


# --- what is a failed attempt ------------------------------------------------------------------------------

OWN = [
    SystemExit(7),
    SystemExit(),
    GeneratorExit(),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    BaseExceptionGroup("several", [SystemExit(1), ValueError("x")]),
]


@pytest.mark.parametrize("error", OWN, ids=repr)
def test_what_a_step_raises_itself_is_a_failed_attempt_like_any_other(error: BaseException) -> None:
    engine = failing(error, Retry(attempts=3))
    assert engine.get("w").threads["main"].attempt == 1
    engine.advance(hours=1)
    snapshot = engine.get("w")
    assert (snapshot.status, snapshot.threads["main"].attempt) == (Status.PARKED, 3)
    assert type(error).__name__ in str(snapshot.error)


@pytest.mark.parametrize("error", OWN, ids=repr)
def test_what_is_not_worth_another_attempt_is_none_of_them(error: BaseException) -> None:
    assert failing(error, Retry(on=ConnectionError)).get("w").status is Status.PARKED


@pytest.mark.parametrize("error", [SystemExit(7), asyncio.CancelledError()], ids=repr)
def test_a_handler_and_a_step_alongside_fail_as_well(error: BaseException) -> None:
    @dataclass
    class Both(Workflow):
        found: int = 0

        def definition(self) -> Section:
            return Section(Wait("for it", On("it", self.on_it)), Step("look", self.look, into="found"))

        def on_it(self, fails: bool) -> None:
            if fails:
                raise error

        def look(self) -> int:
            raise error

    engine = LocalEngine(Both)
    engine.start(Both(), workflow_id="w")
    with pytest.raises(stepmark.HandlerFailed, match=type(error).__name__):
        engine.callback("w", "it", True)
    engine.callback("w", "it", False)
    assert engine.get("w").threads["main"].attempt == 1


CTRL_C = """
import os, signal, sys, time
from dataclasses import dataclass
from stepmark import Engine, Section, SqliteStore, Step, Workflow, run_worker

@dataclass
class Long(Workflow):
    def definition(self):
        return Section(Step("long", self.long))
    def long(self):
        print("begun", flush=True)
        deadline = time.monotonic() + float(sys.argv[2])
        while time.monotonic() < deadline:
            time.sleep(0.05)

engine = Engine([Long], store=SqliteStore(sys.argv[1]))
if sys.argv[3] == "call":
    engine.start(Long(), workflow_id="w")
else:
    from stepmark import Budget
    Engine([Long], store=SqliteStore(sys.argv[1]), budget=Budget(steps=0)).start(Long(), workflow_id="w")
    run_worker(engine)
"""


@dataclass
class Long(Workflow):
    def definition(self) -> Section:
        return Section(Step("long", lambda: None))


@pytest.mark.parametrize(
    ("how", "seconds", "signals", "status"),
    [("call", 60, 1, Status.RUNNING), ("worker", 1, 1, Status.FINISHED), ("worker", 60, 2, Status.RUNNING)],
)
def test_ctrl_c_blames_no_step(
    how: str, seconds: float, signals: int, status: Status, tmp_path: Path
) -> None:
    """One ends a call, and a worker once its steps have ended; a second one ends the worker at once."""
    path = tmp_path / "w.db"
    environment = os.environ | {"PYTHONPATH": str(Path(stepmark.__file__).parents[1])}
    command = [sys.executable, "-c", CTRL_C, str(path), str(seconds), how]
    with subprocess.Popen(  # noqa: S603 - our own code
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        began = time.monotonic()
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)  # two at once would be one
        process.wait(30)
    assert time.monotonic() - began < 20
    record = SqliteStore(path).load("w")
    assert record is not None
    engine = Engine([Long], store=SqliteStore(path))
    snapshot = engine.get("w")
    assert snapshot.status is status
    assert [thread.attempt for thread in snapshot.threads.values()] == [0] * len(snapshot.threads)
    assert engine.resume("w").status is Status.FINISHED


# --- what is in a group ----------------------------------------------------------------------------------


class CardRefused(DoNotRetry):
    """The customer's card is refused."""


@pytest.mark.parametrize(
    ("inside", "retry", "attempts"),
    [
        ([CardRefused("no")], None, 1),
        ([ConnectionError("a"), CardRefused("no")], None, 1),
        ([ConnectionError("a"), TimeoutError("b")], Retry(attempts=2, on=OSError), 2),
        ([ConnectionError("a"), ValueError("b")], Retry(attempts=2, on=OSError), 1),
        ([ExceptionGroup("deeper", [CardRefused("no")])], None, 1),
    ],
)
def test_a_group_is_judged_by_what_is_in_it(
    inside: list[Exception], retry: Retry | None, attempts: int
) -> None:
    engine = failing(ExceptionGroup("unhandled errors in a TaskGroup", inside), retry)
    engine.advance(hours=1)
    snapshot = engine.get("w")
    assert (snapshot.status, snapshot.threads["main"].attempt) == (Status.PARKED, attempts)


def test_a_task_group_says_what_was_in_it() -> None:
    @dataclass
    class Grouped(Workflow):
        def definition(self) -> Section:
            return Section(Step("all", self.all, retry=Retry(attempts=1)))

        async def all(self) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.one())

        async def one(self) -> None:
            raise CardRefused("expired")

    snapshot = LocalEngine(Grouped).start(Grouped())
    assert snapshot.error == "all: ExceptionGroup: CardRefused: expired"
    assert snapshot.frames[-1].endswith(" one")


# --- when to come back -----------------------------------------------------------------------------------


class Busy(Exception):
    def __init__(self, retry_after: object) -> None:
        super().__init__("busy")
        self.retry_after = retry_after


def answered(**headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "https://example.com")
    return httpx.HTTPStatusError("429", request=request, response=httpx.Response(429, headers=headers))


AT = 1_000_000.0  # where a LocalEngine's clock begins
DATE = email.utils.formatdate(AT + 240, usegmt=True)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Busy(120), 120),
        (Busy("120"), 120),
        (Busy(timedelta(minutes=2)), 120),
        (answered(**{"Retry-After": "120"}), 120),
        (answered(**{"retry-after": DATE}), 240),
        (ExceptionGroup("", [Busy(30), Busy(120)]), 120),
        (Busy(10**9), 86_400),
        (Busy(0.1), 1),
        (Busy(-5), 1),
        (Busy("soon"), 1),
        (Busy(float("nan")), 1),
        (Busy(float("inf")), 1),
        (Busy([1]), 1),
        (answered(**{"retry-after": "Thu, 99 Foo"}), 1),
        (answered(), 1),
    ],
    ids=repr,
)
def test_an_error_that_says_when_to_come_back_is_obeyed(error: Exception, seconds: float) -> None:
    engine = failing(error, Retry(first_delay=1, jitter=0, attempts=9))
    due_at = engine.get("w").threads["main"].due_at
    assert due_at is not None
    assert due_at - AT == pytest.approx(seconds)


# --- what is logged and kept -----------------------------------------------------------------------------


def test_each_failed_attempt_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    engine = failing(KeyError("Mme Dupont"), Retry(attempts=2))
    engine.advance(hours=1)
    first, second = caplog.records
    assert (first.levelno, second.levelno) == (logging.WARNING, logging.ERROR)
    assert first.getMessage().startswith("workflow w: charge failed at attempt 1: KeyError (")
    assert second.getMessage().endswith(" charge)")
    assert "Traceback (most recent call last):" in caplog.text
    assert f'File "{__file__}"' in caplog.text
    assert "Dupont" not in caplog.text


def test_the_record_keeps_the_last_frames() -> None:
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise KeyError("customer")

    @dataclass
    class Deep(Workflow):
        def definition(self) -> Section:
            return Section(Step("dive", lambda: deep(20), retry=Retry(attempts=1)))

    engine = LocalEngine(Deep)
    snapshot = engine.start(Deep(), workflow_id="w")
    assert snapshot.error == "dive: KeyError: 'customer'"
    assert len(snapshot.frames) == 5
    assert all(__file__ in frame and frame.endswith(" deep") for frame in snapshot.frames)
    assert engine.get("w").frames == snapshot.frames == snapshot.threads["main"].frames
    assert snapshot.to_dict()["frames"] == list(snapshot.frames)
    assert "frames" not in snapshot.to_dict(brief=True)


def test_what_led_to_an_error_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    def lookup() -> None:
        try:
            raising(ConnectionError("secret"))()
        except ConnectionError as error:
            raise RuntimeError("secret") from error

    @dataclass
    class Chained(Workflow):
        def definition(self) -> Section:
            return Section(Step("look up", lookup))

    LocalEngine(Chained).start(Chained())
    assert caplog.text.index("\nConnectionError\n") < caplog.text.index("which led to")
    assert "secret" not in caplog.text


class Broken(MemoryStore):
    """Says why it can't be asked."""

    def due(self, *_: object) -> list[str]:
        raise stepmark.StoreUnavailable("the store could not be read: database is locked")


def test_what_a_store_says_is_told(caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    engine = Engine([Fails], store=Broken())
    thread = threading.Thread(
        target=stepmark.run_worker, args=(engine,), kwargs={"stop": stop, "poll_seconds": 0.01}
    )
    thread.start()
    try:
        until(lambda: "database is locked" in caplog.text)
    finally:
        stop.set()
        thread.join(30)
