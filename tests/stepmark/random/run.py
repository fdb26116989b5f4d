"""Runs a program on stepmark and on the oracle, and compares."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import Executor, Future, wait
from concurrent.futures._base import DoneAndNotDoneFutures
from typing import Any

from stepmark import Engine, Snapshot, WorkflowClosed
from stepmark.runtime.calls import call
from stepmark.runtime.context import StepContext
from stepmark.testing import VirtualClock, run_due

from tests.stepmark.random.oracle import Oracle
from tests.stepmark.random.programs import (
    TIMEOUT,
    Action,
    Mend,
    Pass,
    Program,
    Random,
    Send,
    Tape,
    World,
    sendable,
)

WORKFLOW_ID = "w"
START = 1_000_000.0


def begin_at_once(function: Any, context: StepContext, executor: Executor) -> Future[Any]:
    """Run a step with `into` before anything else: whose turn it is must not depend on the machine."""
    del executor
    future: Future[Any] = Future()
    try:
        future.set_result(call(function, context))
    except BaseException as error:  # noqa: BLE001 - crashes of the tests included
        future.set_exception(error)
    return future


class InTheAir:
    """Steps with `into` that end when nothing else can run, one after the other by their threads' names.

    So they are in the air while other threads have their turns, and still nothing depends on the machine, or
    on how often a crash has made them begin again.
    """

    def __init__(self) -> None:
        self.most = 0
        self._flying: dict[Future[Any], tuple[Any, StepContext]] = {}

    def begin(self, function: Any, context: StepContext, executor: Executor) -> Future[Any]:
        del executor
        future: Future[Any] = Future()
        self._flying[future] = (function, context)
        return future

    def wait(
        self, futures: Iterable[Future[Any]], seconds: float, until: str
    ) -> tuple[set[Future[Any]], set[Future[Any]]]:
        del seconds, until
        flying = set(futures)
        self.most = max(self.most, len(flying))
        landing = min(flying, key=lambda future: self._flying[future][1].thread)
        function, context = self._flying.pop(landing)
        try:
            landing.set_result(call(function, context))
        except BaseException as error:  # noqa: BLE001 - crashes of the tests included
            landing.set_exception(error)
        return {landing}, flying - {landing}


def wait_or_hang(futures: Iterable[Future[Any]], seconds: float) -> DoneAndNotDoneFutures[Any]:
    """Wait for a step with a time-out, whose time is over as soon as it hangs."""
    assert seconds == TIMEOUT
    (future,) = futures
    while not (future.done() or World.hung.is_set()):
        wait([future], 0.001)
    World.hung.clear()
    return wait([future], 0)


async def wait_or_hang_async(task: asyncio.Task[Any], seconds: float) -> None:
    """The same for an `async def`."""
    assert seconds == TIMEOUT
    while not (task.done() or World.hung.is_set()):
        await asyncio.wait({task}, timeout=0.001)
    World.hung.clear()


def act(engine: Engine, clock: VirtualClock, action: Action, number: int) -> Any:
    """One action of a schedule on stepmark; as the oracle, it answers with an event's output or "closed"."""
    match action:
        case Send():
            try:
                output = engine.callback(WORKFLOW_ID, action.event, action.payload, event_id=f"e{number}")
            except WorkflowClosed:
                return "closed"
            if action.repeat and engine.get(WORKFLOW_ID).status.closed is False:
                assert (
                    engine.callback(WORKFLOW_ID, action.event, action.payload, event_id=f"e{number}")
                    == output
                )
            return output
        case Pass():
            run_due(engine, clock, clock.now() + action.seconds)
        case Mend():
            engine.retry(WORKFLOW_ID)
    return None


def compare(snapshot: Snapshot, oracle: Oracle) -> None:
    """Everything that can be seen of a workflow, after what it no longer waits for has come to its end."""
    World.end_hanging()
    seen = (
        str(snapshot.status),
        snapshot.state.values,
        snapshot.state.field_value,
        snapshot.state.trace,
        {name: thread.at for name, thread in snapshot.threads.items()},
        snapshot.result,
    )
    wanted = (
        oracle.status,
        oracle.values,
        oracle.field_value,
        oracle.trace,
        oracle.positions(),
        oracle.result,
    )
    assert seen == wanted, f"{seen}\nis not\n{wanted}"


def handler_effects() -> list[str]:
    return [effect for effect in World.effects if effect.startswith(("setup", "teardown"))]


def make_schedule(tape: Tape, program: Program, most: int = 10, *, in_the_air: bool = False) -> list[Action]:
    """What happens from outside, chosen while the oracle runs: mostly what the program waits for."""
    oracle = Oracle(program, now=START, in_the_air=in_the_air)
    oracle.start()
    known = sendable(program)
    actions: list[Action] = []
    while len(actions) < most and not oracle.finished:
        kinds = ["pass"] + (["mend"] if oracle.status == "PARKED" else []) + (["known"] if known else [])
        kinds += ["awaited"] * 3 if oracle.awaited() else []
        match tape.pick(kinds):
            case "pass":
                action: Action = Pass(tape.integer(0, 15))
            case "mend":
                action = Mend()
            case kind:
                names = oracle.awaited() if kind == "awaited" else known
                action = Send(tape.pick(names), tape.integer(-1, 3), tape.flag())
        oracle.do(action, len(actions))
        actions.append(action)
    return actions


def run(
    engine: Engine,
    clock: VirtualClock,
    program: Program,
    schedule: list[Action],
    *,
    in_the_air: bool = False,
) -> None:
    """Run both, comparing after every action."""
    World.program, World.effects = program, []
    oracle = Oracle(program, now=START, in_the_air=in_the_air)
    engine.start(Random(), workflow_id=WORKFLOW_ID)
    oracle.start()
    compare(engine.get(WORKFLOW_ID), oracle)
    for number, action in enumerate(schedule):
        assert act(engine, clock, action, number) == oracle.do(action, number)
        compare(engine.get(WORKFLOW_ID), oracle)
    assert handler_effects() == oracle.handlers
