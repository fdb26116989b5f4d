"""Steps that are `async def`, and steps that call the engine themselves."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import pytest
from stepmark import (
    Engine,
    Finish,
    Go,
    If,
    MemoryStore,
    On,
    Section,
    Status,
    Step,
    Wait,
    WaitFor,
    Workflow,
    current,
)
from stepmark.testing import LocalEngine

ENGINES: dict[str, Engine] = {}


def soon(function: Callable[[], Any]) -> Any:
    """What it returns or raises, on a thread of its own: a fault here is a wait that never ends."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # noqa: BLE001 - the test wants to see it
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert outcome, "it hangs"
    return outcome[0]


@dataclass
class Nested(Workflow):
    """Starts itself again, one level deeper each time; `how` says which kind of step does so."""

    how: str
    depth: int = 3
    below: int = 0

    def definition(self) -> Section:
        steps = {
            "async": Step("start", self.start_async),
            "async into": Step("start", self.start_async_into, into="below"),
            "async thread": Step("start", self.start_async_in_a_thread, into="below"),
            "sync into": Step("start", self.start, into="below"),
        }
        how = self.how.split(", ")
        return Section(steps[how[self.depth % len(how)]])

    def start(self) -> int:
        if self.depth == 0:
            return 0
        below = Nested(self.how, self.depth - 1)
        snapshot = ENGINES["nested"].start(below, f"{current().workflow_id}-{self.depth}")
        assert snapshot.status is Status.FINISHED
        return 1 + int(snapshot.state.below)

    async def start_async(self) -> None:
        await asyncio.sleep(0)
        self.below = self.start()

    async def start_async_into(self) -> int:
        await asyncio.sleep(0)
        return self.start()

    async def start_async_in_a_thread(self) -> int:
        return await asyncio.to_thread(self.start)


@pytest.mark.parametrize(
    "how",
    [
        "async",
        "async into",
        "async thread",
        "sync into",
        "async, sync into",
        "async into, async thread, async",
        "sync into, async thread, async into, async",
    ],
)
def test_a_step_may_start_a_workflow_with_steps_of_any_kind(how: str) -> None:
    ENGINES["nested"] = Engine([Nested], store=MemoryStore(), parallel=1)
    snapshot = soon(lambda: ENGINES["nested"].start(Nested(how, depth=5), "top"))
    assert (snapshot.status, snapshot.state.below) == (Status.FINISHED, 5)


def test_a_handler_that_is_async_may_start_a_workflow_with_async_steps() -> None:
    @dataclass
    class Starter(Workflow):
        below: int = 0

        def definition(self) -> Section:
            return Section(Wait("w", On("go", self.on_go)))

        async def on_go(self) -> None:
            self.below = ENGINES["nested"].start(Nested("async", 1), "below").state.below

    ENGINES["nested"] = LocalEngine(Starter, Nested)
    ENGINES["nested"].start(Starter(), "top")
    soon(lambda: ENGINES["nested"].callback("top", "go"))
    assert ENGINES["nested"].get("top").state.below == 1


@dataclass
class Crowd(Workflow):
    """As many parents as there are places in the pool, each with a child that needs one."""

    together: ClassVar[threading.Barrier]
    done: int = 0

    def definition(self) -> Section:
        steps = [Go("t", Step(f"p{n}", partial(self.parent, n), into=self.add), id=n) for n in range(4)]
        return Section(*steps)

    def parent(self, number: int) -> int:
        self.together.wait(30)
        below = ENGINES["crowd"].start(Nested("sync into", 0), f"child {number}")
        return int(below.status is Status.FINISHED)

    def add(self, done: int) -> None:
        self.done += done


def test_steps_that_fill_the_pool_may_each_start_a_workflow_that_needs_it() -> None:
    Crowd.together = threading.Barrier(4)
    ENGINES["crowd"] = Engine([Crowd, Nested], store=MemoryStore(), parallel=4)
    assert soon(lambda: ENGINES["crowd"].start(Crowd())).state.done == 4


@dataclass
class Leaves(Workflow):
    """Raises what LEAVING holds."""

    into: bool = False
    done: int = 0

    def definition(self) -> Section:
        return Section(Step("leave", self.leave, into="done") if self.into else Step("leave", self.leave_now))

    async def leave(self) -> int:
        for error in LEAVING:
            raise error
        return 1

    async def leave_now(self) -> None:
        self.done = await self.leave()


LEAVING: list[type[BaseException]] = []


@pytest.mark.parametrize("into", [False, True])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_an_async_step_that_exits_has_failed_and_leaves_the_event_loop_running(
    into: bool, error: type[BaseException]
) -> None:
    LEAVING.append(error)
    engine = LocalEngine(Leaves)
    failed = soon(lambda: engine.start(Leaves(into=into), workflow_id="w"))
    LEAVING.clear()
    assert failed.threads["main"].attempt == 1
    assert error.__name__ in failed.error
    soon(lambda: engine.advance(minutes=1))
    assert engine.get("w").state.done == 1


def test_an_async_step_that_cannot_be_called_fails_as_any_other() -> None:
    @dataclass
    class Wrong(Workflow):
        found: str = ""

        def definition(self) -> Section:
            return Section(Step("look up", self.look_up, into="found"))  # type: ignore[arg-type]

        async def look_up(self, key: str) -> str:
            return key

    snapshot = soon(lambda: LocalEngine(Wrong).start(Wrong()))
    assert "look up: TypeError" in snapshot.error


@dataclass
class AsyncInto(Workflow):
    numbers: list[int] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Step("sync", lambda: 1, into=self.take),
            Step("async", self.two, into=self.take),
            Step("wrapped", lambda: 3, into=partial(self.take)),
        )

    async def two(self) -> int:
        return 2

    async def take(self, number: int) -> None:
        await asyncio.sleep(0)
        self.numbers.append(number)


def test_what_takes_a_result_may_be_async_too() -> None:
    engine = LocalEngine(AsyncInto)
    assert engine.start(AsyncInto(), workflow_id="1").state.numbers == [1, 2, 3]


@dataclass
class AsyncCondition(Workflow):
    where: str

    def definition(self) -> Section:
        condition: Any = self.no
        return Section(
            Step("begin", lambda: None),
            WaitFor("it", condition) if self.where == "WaitFor" else Section(),
            If(condition if self.where == "If" else False, "never", Finish("passed")),
        )

    async def no(self) -> bool:
        return False


@pytest.mark.parametrize("where", ["WaitFor", "If"])
def test_a_condition_that_would_have_to_be_awaited_parks(where: str) -> None:
    engine = LocalEngine(AsyncCondition)
    snapshot = engine.start(AsyncCondition(where), workflow_id="1")
    engine.advance(days=1)
    snapshot = engine.get("1")
    assert (snapshot.status, snapshot.result) == (Status.PARKED, None)
    assert "can't be awaited" in str(snapshot.error)
