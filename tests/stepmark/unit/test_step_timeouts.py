"""A step that takes longer than its time-out is a failed attempt, whatever it does later."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic
import pytest
import stepmark
from stepmark import (
    Engine,
    Finish,
    Go,
    MemoryStore,
    On,
    Retry,
    Section,
    Status,
    Step,
    StepTimedOut,
    Wait,
    Workflow,
    current,
    describe,
    run_worker,
    to_mermaid,
)
from stepmark.runtime import timeouts
from stepmark.testing import LocalEngine

from tests.stepmark.support import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = 0.05  # seconds, for what never ends
LONG = 60.0  # for what ends at once
ONCE = Retry(attempts=1)
TWICE = Retry(attempts=2, first_delay=1, jitter=0)
ASKED: ContextVar[str] = ContextVar("asked", default="nobody")


@dataclass
class Slow(Workflow):
    """Its statements are set by a test."""

    log: list[str] = field(default_factory=list)
    found: str = ""
    statements: ClassVar[Any] = None
    released: ClassVar[threading.Event] = threading.Event()
    later: ClassVar[list[str]] = []

    def definition(self) -> Section:
        return Section(*type(self).statements(self))

    def note(self) -> None:
        self.log.append(current().statement)

    def hang(self) -> str:
        type(self).released.wait()
        self.log.append("too late")
        type(self).later.append("too late")
        return "too late"

    async def hang_async(self) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append("too late")
            type(self).later.append("cancelled")
        return "too late"

    async def quick_async(self) -> str:
        await asyncio.sleep(0)
        return "found"


@pytest.fixture(autouse=True)
def released() -> Iterator[threading.Event]:
    """What hangs is let go at the end."""
    Slow.released, Slow.later = threading.Event(), []
    yield Slow.released
    Slow.released.set()


def run(make: Any, monkeypatch: pytest.MonkeyPatch) -> LocalEngine:
    monkeypatch.setattr(Slow, "statements", make)
    engine = LocalEngine(Slow)
    engine.start(Slow(), workflow_id="1")
    return engine


@pytest.mark.parametrize("action", ["hang", "hang_async"])
@pytest.mark.parametrize("into", [None, "found"])
def test_what_takes_longer_is_a_failed_attempt(
    action: str, into: str | None, monkeypatch: pytest.MonkeyPatch, released: threading.Event
) -> None:
    engine = run(
        lambda self: [
            Step("slow", getattr(self, action), into=into, retry=TWICE, timeout=SHORT).or_else(
                "too slow", Step("sorry", self.note), on=TimeoutError
            )
        ],
        monkeypatch,
    )
    snapshot = engine.get("1")
    assert snapshot.status is Status.RUNNING
    assert snapshot.error == "slow: StepTimedOut: it took longer than 0.05 s"
    assert action in str(snapshot.frames)  # where it was stuck
    engine.advance(seconds=1)
    released.set()
    until(lambda: len(Slow.later) == 2)
    assert engine.get("1").status is Status.FINISHED
    assert engine.get("1").state == Slow(log=["sorry"])


@pytest.mark.parametrize("into", [None, "found"])
def test_what_is_in_time_is_as_without_a_timeout(into: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> str:
        time.sleep(SHORT)  # it is waited for
        return f"{current().statement} for {ASKED.get()}"

    token = ASKED.set("ada")
    engine = run(
        lambda self: [
            Step("look", find, into="found", timeout=1e300),
            Step("note", self.note, timeout=LONG),
            Step("async", self.quick_async, into=into, timeout=1e300),
            Step("lambda", lambda: self.quick_async(), into=into, timeout=LONG),  # noqa: PLW0108
        ],
        monkeypatch,
    )
    ASKED.reset(token)
    snapshot = engine.get("1")
    assert snapshot.status is Status.FINISHED
    assert snapshot.state == Slow(log=["note"], found="found" if into else "look for ada")


def test_an_awaitable_that_a_function_returns_is_cut_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = run(
        lambda self: [Step("slow", lambda: self.hang_async(), retry=ONCE, timeout=SHORT)],  # noqa: PLW0108
        monkeypatch,
    )
    assert engine.get("1").brief == "slow: StepTimedOut"
    assert Slow.later == ["cancelled"]


def test_an_async_step_that_swallows_its_cancellation_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stubborn() -> None:
        while not Slow.released.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                Slow.later.append("swallowed")

    monkeypatch.setattr(timeouts, "CLEAN_UP_SECONDS", SHORT)
    engine = run(lambda _: [Step("slow", stubborn, retry=ONCE, timeout=SHORT)], monkeypatch)
    assert engine.get("1").brief == "slow: StepTimedOut"
    assert Slow.later == ["swallowed"]


def test_what_an_async_step_cleans_up_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def careful() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            Slow.later.append("clean")

    run(lambda _: [Step("slow", careful, retry=ONCE, timeout=SHORT)], monkeypatch)
    assert Slow.later == ["clean"]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_step_fails_and_exits_as_without_a_timeout(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave() -> None:
        raise SystemExit(3)

    async def leave_async() -> None:
        leave()

    action = leave if kind == "def" else leave_async
    engine = run(
        lambda self: [
            Step("leaves", action, retry=ONCE, timeout=LONG).or_else("left"),
            Step("leaves alone", action, lambda _: None, retry=ONCE, timeout=LONG).or_else("left"),
            Step("still runs", self.quick_async, into="found"),
        ],
        monkeypatch,
    )
    assert engine.get("1").state.found == "found"


def test_what_a_step_has_sent_in_time_is_dropped_with_it_and_later_comes_from_outside(
    monkeypatch: pytest.MonkeyPatch, released: threading.Event
) -> None:
    monkeypatch.setattr(
        Slow,
        "statements",
        lambda self: [
            Step("slow", send, retry=ONCE, timeout=SHORT).or_else("too slow"),
            Wait("for it", On("said", self.said)),
        ],
    )
    monkeypatch.setattr(Slow, "said", lambda self, what: self.log.append(what), raising=False)
    Slow.said.__annotations__ = {"what": str}  # type: ignore[attr-defined]
    engine = LocalEngine(Slow)

    def send() -> None:
        engine.callback("1", "said", "within")
        released.wait()
        engine.callback("1", "said", "later")
        Slow.later.append("sent")

    assert engine.start(Slow(), workflow_id="1").waiting_for == ["said"]
    released.set()
    until(lambda: bool(Slow.later))
    assert engine.get("1").state.log == ["later"]


def test_stuck_steps_take_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = 4
    monkeypatch.setattr(
        Slow,
        "statements",
        lambda self: [
            *(
                Go("beside", Step(f"slow {n}", self.hang, into="found", retry=ONCE, timeout=SHORT), id=n)
                for n in range(stuck)
            ),
            Step("quick", lambda: "found", into="found"),
        ],
    )
    with Engine([Slow], store=MemoryStore(), parallel=1) as engine:
        snapshot = engine.start(Slow(), workflow_id="1")
        assert snapshot.state.found == "found"
        assert [thread.brief for thread in snapshot.threads.values()] == [
            f"slow {n}: StepTimedOut" for n in range(stuck)
        ]


def test_stuck_workflows_do_not_block_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "statements", lambda self: [Step("slow", self.hang, retry=ONCE, timeout=SHORT)])
    store, stop = MemoryStore(), threading.Event()
    with Engine([Slow], store=store, budget=stepmark.Budget(steps=0)) as starter:
        for n in range(5):
            starter.start(Slow(), workflow_id=str(n))
    with Engine([Slow], store=store) as engine:
        worker = threading.Thread(
            target=run_worker, args=(engine,), kwargs={"stop": stop, "concurrency": 2, "poll_seconds": 0.01}
        )
        worker.start()
        try:
            until(lambda: all(engine.get(str(n)).status is Status.PARKED for n in range(5)))
        finally:
            stop.set()
            worker.join()


def test_a_stuck_step_does_not_keep_its_process() -> None:
    code = """
import threading
from stepmark import *
class Slow(Workflow):
    def definition(self):
        stuck, once = threading.Event().wait, Retry(attempts=1)
        go = Go("beside", Step("too", stuck, into=print, retry=once, timeout=.01))
        return Section(go, Step("slow", stuck, retry=once, timeout=.01))
import dataclasses; Slow = dataclasses.dataclass(Slow)
with Engine([Slow], store=MemoryStore()) as engine:
    print(engine.start(Slow()).status)
"""
    # The interpreter and the code are this test's own.
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        cwd=Path(stepmark.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "PARKED"


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_timeout_is_a_number_of_seconds(wrong: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        Step("slow", print, timeout=wrong)
    with pytest.raises(ValueError, match="timeout"):
        type("Wrong", (Workflow,), {}, timeout=wrong)


def test_describe_and_diagram_show_it() -> None:
    section = Section(Step("slow", print, timeout=30).or_else("too slow", Finish("no")))
    (step,) = describe(section)["statements"]
    assert step["timeoutSeconds"] == 30
    assert step["orElse"]
    assert '"slow (at most 30 s)"' in to_mermaid(section)


@dataclass
class Ends(Workflow, timeout=100):
    def definition(self) -> Section:
        return Section(Wait("for ever", On("event", None)))


class Modelled(pydantic.BaseModel, Workflow, timeout=100):
    def definition(self) -> Section:
        return Section(Wait("for ever", On("event", None)))


@dataclass(slots=True)
class Inherits(Ends):
    pass


@pytest.mark.parametrize("cls", [Ends, Modelled, Inherits])
def test_a_workflow_with_a_timeout_is_cancelled_then(cls: Any) -> None:
    engine = LocalEngine(cls)
    snapshot = engine.start(cls(), workflow_id="1")
    assert snapshot.ends_at == engine.runtime.clock.now() + 100
    engine.advance(seconds=99)
    assert engine.get("1").status is Status.WAITING
    engine.advance(seconds=1)
    assert engine.get("1").status is Status.CANCELLED


def test_the_earlier_end_of_two_counts() -> None:
    engine = LocalEngine(Ends)
    now = engine.runtime.clock.now()
    assert engine.start(Ends(), ends_at=now + 10).ends_at == now + 10
    assert engine.start(Ends(), ends_at=now + 1000).ends_at == now + 100
    assert describe(Ends)["timeoutSeconds"] == 100


def test_a_step_with_a_timeout_is_cut_off_at_its_workflows_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "statements", lambda self: [Step("slow", self.hang, timeout=LONG)])
    with Engine([Slow], store=MemoryStore()) as engine:
        snapshot = engine.start(Slow(), workflow_id="1", ends_at=time.time() + 0.2)
        assert snapshot.status is Status.CANCELLED


def test_it_can_be_caught_by_its_type() -> None:
    assert issubclass(StepTimedOut, TimeoutError)
    assert issubclass(StepTimedOut, stepmark.RetryableError)
