"""Guarantees 4, 6 and 8: threads change one state in a fair order, run alongside, and end together."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from functools import partial

import pytest
from stepmark import (
    Continue,
    Finish,
    For,
    Go,
    If,
    On,
    Retry,
    Return,
    Section,
    Status,
    Step,
    Timeout,
    Wait,
    WaitFor,
    Workflow,
    current,
)
from stepmark.testing import LocalEngine

from tests.stepmark.support import Noted, Task


@dataclass
class Shared(Workflow):
    count: int = 0
    names: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            *[Go("adder", *[Step(f"add {n}", self.add) for n in range(3)], id=name) for name in "abc"],
        )

    def add(self) -> None:
        before = self.count
        self.names.append(f"{current().thread_id}{before}")
        self.count = before + 1


def test_guarantee_04_a_counter_and_a_list_shared_by_threads_just_work() -> None:
    snapshot = LocalEngine(Shared).start(Shared())
    assert snapshot.state.count == 9
    assert len(snapshot.state.names) == 9


def test_guarantee_04_threads_take_turns() -> None:
    names = LocalEngine(Shared).start(Shared()).state.names
    assert [name[0] for name in names] == list("abcabcabc")


@dataclass
class Lookups(Workflow):
    alpha: str = ""
    beta: str = ""
    gamma: str = ""

    def definition(self) -> Section:
        return Section(
            Go("ask alpha", Step("alpha", partial(self.look_up, "a"), into="alpha")),
            Go("ask beta", Step("beta", self.look_up_async, into="beta")),
            Go("ask gamma", Step("gamma", partial(self.look_up, "c"), into=self.set_gamma)),
        )

    barrier = threading.Barrier(3, timeout=20)

    def look_up(self, found: str) -> str:
        self.barrier.wait()
        return found

    async def look_up_async(self) -> str:
        await asyncio.to_thread(self.barrier.wait)
        return "b"

    def set_gamma(self, found: str) -> None:
        self.gamma = found


def test_guarantee_04_steps_with_into_run_alongside_each_other() -> None:
    # each of the three waits for the two others: one after the other they would never end
    state = LocalEngine(Lookups).start(Lookups()).state
    assert (state.alpha, state.beta, state.gamma) == ("a", "b", "c")


@dataclass
class Cheater(Workflow):
    total: int = 0
    found: str = ""

    def definition(self) -> Section:
        return Section(Step("look", self.look, into="found"))

    def look(self) -> str:
        self.total += 1
        return "x"


def test_guarantee_04_a_step_with_into_that_changes_its_copy_is_an_error_naming_the_field() -> None:
    snapshot = LocalEngine(Cheater).start(Cheater())
    assert snapshot.status is Status.PARKED
    assert "'total'" in str(snapshot.error)
    assert (snapshot.state.total, snapshot.state.found) == (0, "")


@dataclass
class MainEndsFirst(Workflow):
    late: bool = False

    def definition(self) -> Section:
        return Section(
            Go("slow", Wait("pause", On("go on", Timeout(minutes=1))), Step("do late", self.do_late)),
        )

    def do_late(self) -> None:
        self.late = True


def test_guarantee_06_a_workflow_is_finished_when_all_its_threads_are() -> None:
    engine = LocalEngine(MainEndsFirst)
    assert engine.start(MainEndsFirst(), workflow_id="1").status is Status.WAITING
    assert list(engine.get("1").threads) == ["slow"]
    engine.advance(minutes=1)
    assert engine.get("1").status is Status.FINISHED
    assert engine.get("1").state.late


@dataclass
class Finisher(Workflow):
    def definition(self) -> Section:
        return Section(
            Go("waiter", Wait("for a person", On("task", Task()))),
            Wait("for the end", On("end", None)),
            Finish({"why": "enough"}),
        )


def test_guarantee_06_finish_cancels_the_other_threads_and_tears_down() -> None:
    Noted.take()
    engine = LocalEngine(Finisher)
    assert engine.start(Finisher(), workflow_id="1").waiting_for == ["end", "task"]
    engine.callback("1", "end")
    snapshot = engine.get("1")
    assert (snapshot.status, snapshot.result, snapshot.threads) == (Status.FINISHED, {"why": "enough"}, {})
    assert Noted.take() == ["task set up", "task torn down with ticket of waiter, handled: False"]


def test_guarantee_06_cancel_tears_down() -> None:
    Noted.take()
    engine = LocalEngine(Finisher)
    engine.start(Finisher(), workflow_id="1")
    assert engine.cancel("1").status is Status.CANCELLED
    assert engine.cancel("1").status is Status.CANCELLED
    assert Noted.take() == ["task set up", "task torn down with ticket of waiter, handled: False"]


@dataclass
class Returner(Workflow):
    seen: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Go("early", If(True, "always", Return()), Step("never", self.note)),
            Step("main goes on", self.note),
        )

    def note(self) -> None:
        self.seen.append(current().statement)


def test_guarantee_06_return_ends_only_its_thread() -> None:
    assert LocalEngine(Returner).start(Returner()).state.seen == ["main goes on"]


@dataclass
class OneFails(Workflow):
    done: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Go(
                "bad",
                Step("fails", self.fail, retry=Retry(attempts=2, first_delay=1)),
                Step("after", self.note),
            ),
            Go("good", Step("works", self.note), Wait("for a sign", On("sign", self.on_sign))),
        )

    def fail(self) -> None:
        self.done.append("half")
        if "mended" not in self.done:
            raise ConnectionError("no answer")

    def note(self) -> None:
        self.done.append(current().statement)

    def on_sign(self) -> None:
        self.done.append("mended")


def test_guarantee_08_one_failing_step_does_not_stop_other_threads() -> None:
    engine = LocalEngine(OneFails)
    engine.start(OneFails(), workflow_id="1")
    engine.advance(minutes=1)
    snapshot = engine.get("1")
    assert snapshot.status is Status.PARKED
    assert snapshot.state.done == ["works"]
    assert snapshot.threads["bad"].parked
    assert "fails: ConnectionError: no answer" in str(snapshot.error)
    engine.callback("1", "sign")
    assert engine.get("1").state.done == ["works", "mended"]
    assert engine.get("1").status is Status.PARKED
    snapshot = engine.retry("1")
    assert snapshot.status is Status.FINISHED
    assert snapshot.state.done == ["works", "mended", "half", "after"]


class Fragile(Task):
    """A task whose setup and teardown fail as often as they are told to."""

    failures = 0

    def setup(self, request: object) -> str:
        self._fail("setup")
        return super().setup(request)  # type: ignore[arg-type]

    def teardown(self, request: object, handled: bool) -> None:
        self._fail("teardown")
        super().teardown(request, handled)  # type: ignore[arg-type]

    def _fail(self, what: str) -> None:
        if Fragile.failures:
            Fragile.failures -= 1
            Noted.log.append(f"{what} failed")
            raise ConnectionError


@dataclass
class FragileWait(Workflow):
    steps: int = 0

    def definition(self) -> Section:
        return Section(
            Go("busy", Wait("a while", On("over", Timeout(hours=1))), Step("work", self.work)),
            Wait("for a person", On("task", Fragile()), On("instead", None)),
            Step("after", self.work),
        )

    def work(self) -> None:
        self.steps += 1


def test_guarantee_08_setup_and_teardown_are_retried_on_their_own() -> None:
    Noted.take()
    engine = LocalEngine(FragileWait)
    Fragile.failures = 2
    engine.start(FragileWait(), workflow_id="1")
    engine.advance(minutes=5)
    assert Noted.take() == ["setup failed", "setup failed", "task set up"]
    Fragile.failures = 3
    engine.callback("1", "instead")
    assert engine.get("1").state.steps == 1  # the thread does not wait for the teardown
    engine.advance(minutes=5)
    assert Noted.take() == ["teardown failed"] * 3 + ["task torn down with ticket of main, handled: False"]
    engine.advance(hours=1)
    assert engine.get("1").status is Status.FINISHED


def test_guarantee_08_a_teardown_that_keeps_failing_parks_the_workflow_and_can_be_retried() -> None:
    Noted.take()
    engine = LocalEngine(FragileWait)
    Fragile.failures = 0
    engine.start(FragileWait(), workflow_id="1")
    Fragile.failures = 5
    engine.callback("1", "instead")
    engine.advance(minutes=10)
    assert engine.get("1").status is Status.PARKED
    assert "teardown of event 'task'" in str(engine.get("1").error)
    engine.retry("1")
    assert Noted.take()[-1] == "task torn down with ticket of main, handled: False"
    assert engine.get("1").status is Status.WAITING


@dataclass
class Semaphore(Workflow):
    busy: int = 0
    most: int = 0
    done: int = 0

    def definition(self) -> Section:
        worker = (
            WaitFor("a free slot", self.busy < 2, self.take),
            Step("work", self.work),
            Step("free the slot", self.free),
        )
        return Section(*[Go("worker", *worker, id=n) for n in range(6)])

    def take(self) -> None:
        self.busy += 1
        self.most = max(self.most, self.busy)

    def work(self) -> None:
        self.done += 1

    def free(self) -> None:
        self.busy -= 1


def test_a_semaphore_made_of_wait_for_works() -> None:
    state = LocalEngine(Semaphore).start(Semaphore()).state
    assert (state.busy, state.most, state.done) == (0, 2, 6)


@dataclass
class Spawner(Workflow):
    started: int = 0
    seen: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            For(
                "start threads",
                self.started < 3,
                Go(
                    "worker",
                    Wait("sleep", On("wake", Timeout(minutes=1))),
                    Step("note", self.note),
                    id=self.started,
                ),
                Step("count", self.count),
            )
        )

    def count(self) -> None:
        self.started += 1

    def note(self) -> None:
        self.seen.append(str(current().thread_id))


def test_a_loop_starts_threads_told_apart_by_id() -> None:
    engine = LocalEngine(Spawner)
    snapshot = engine.start(Spawner(), workflow_id="1")
    assert sorted(snapshot.threads) == ["worker[0]", "worker[1]", "worker[2]"]
    engine.advance(minutes=1)
    assert sorted(engine.get("1").state.seen) == ["0", "1", "2"]


@dataclass
class NumberedSpawner(Workflow):
    started: int = 0
    ended: int = 0

    def definition(self) -> Section:
        return Section(
            For(
                "start threads",
                self.started < 3,
                Go("worker", Wait("sleep", On("wake", Timeout(minutes=1))), Step("note", self.note)),
                Step("count", self.count),
            )
        )

    def count(self) -> None:
        self.started += 1

    def note(self) -> None:
        self.ended += 1


def test_threads_started_in_a_loop_without_an_id_are_numbered() -> None:
    engine = LocalEngine(NumberedSpawner)
    snapshot = engine.start(NumberedSpawner(), workflow_id="1")
    assert sorted(snapshot.threads) == ["worker", "worker#2", "worker#3"]
    engine.advance(minutes=1)
    assert engine.get("1").state.ended == 3
    assert engine.get("1").status is Status.FINISHED


@dataclass
class SameId(Workflow):
    started: int = 0

    def definition(self) -> Section:
        wait = Wait("sleep", On("wake", Timeout(minutes=1)))
        return Section(
            For("again", self.started < 2, Go("worker", wait, id="same"), Step("count", self.count))
        )

    def count(self) -> None:
        self.started += 1


def test_a_second_thread_with_the_same_id_is_an_error_that_names_it() -> None:
    snapshot = LocalEngine(SameId).start(SameId())
    assert snapshot.status is Status.PARKED
    assert "'worker[same]' is still running" in str(snapshot.error)


@dataclass
class Odd(Workflow):
    number: int = 0
    odd: list[int] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            For(
                "numbers",
                self.number < 6,
                Step("next", self.next),
                If(self.number % 2 == 0, "even", Continue()),
                Step("keep", self.keep),
            )
        )

    def next(self) -> None:
        self.number += 1

    def keep(self) -> None:
        self.odd.append(self.number)


def test_continue_goes_back_to_the_condition() -> None:
    assert LocalEngine(Odd).start(Odd()).state.odd == [1, 3, 5]


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no")])
def test_a_retry_policy_names_the_errors_that_are_worth_another_attempt(error: Exception) -> None:
    @dataclass
    class Picky(Workflow):
        def definition(self) -> Section:
            return Section(Step("try", self.attempt, retry=Retry(attempts=3, on=(KeyError,))))

        def attempt(self) -> None:
            Noted.log.append("tried")
            raise error

    Noted.take()
    engine = LocalEngine(Picky)
    engine.start(Picky(), workflow_id="1")
    engine.advance(hours=1)
    assert engine.get("1").status is Status.PARKED
    assert len(Noted.take()) == (3 if isinstance(error, KeyError) else 1)
