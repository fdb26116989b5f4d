"""The defects of the tree-walking library that inspired this one, each shown not to be here.

Some have their test elsewhere: `Continue`, a semaphore made of `WaitFor`, loops that start threads, failing
setups and teardowns, and failing steps beside other threads are in test_threads.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stepmark import (
    Break,
    Finish,
    For,
    Go,
    Handler,
    If,
    MemoryStore,
    On,
    Request,
    Scope,
    Section,
    Statement,
    Status,
    Step,
    Timeout,
    Wait,
    WaitFor,
    Workflow,
    current,
)
from stepmark.core.record import Event
from stepmark.runtime.senders import post
from stepmark.testing import LocalEngine

from tests.stepmark.support import Noted, Task, engine_on, settle


@dataclass
class Noter(Workflow):
    seen: list[str] = field(default_factory=list)
    count: int = 0

    def definition(self) -> Section:
        return Section()

    def note(self) -> None:
        self.seen.append(current().statement)
        self.count += 1


@dataclass
class Breaks(Noter):
    def definition(self) -> Section:
        return Section(
            For("outer", self.count < 3, Step("in", self.note), Break(), Step("never", self.note)),
            For("later", self.count < 4, Step("again", self.note)),
            Step("end", self.note),
        )


def test_break_skips_the_rest_of_the_body_and_does_not_leak_into_a_later_loop() -> None:
    assert LocalEngine(Breaks).start(Breaks()).state.seen == ["in", "again", "again", "again", "end"]


@dataclass
class AlreadyTrue(Noter):
    def definition(self) -> Section:
        return Section(
            WaitFor("nothing", True), WaitFor("a callable", lambda: True), Step("after", self.note)
        )


def test_a_wait_for_that_is_already_true_and_has_no_handler_is_passed() -> None:
    assert LocalEngine(AlreadyTrue).start(AlreadyTrue()).state.seen == ["after"]


@dataclass
class Fresh(Noter):
    def definition(self) -> Section:
        return Section(
            Wait("for it", On("it", self.note, If(self.count == 1, "fresh", Step("saw one", self.note)))),
            If(self.count == 2, "still fresh", Step("saw two", self.note)),
            WaitFor("a handler", self.count == 3, self.note),
            If(self.count == 4, "fresh after a handler", Step("saw four", self.note)),
        )


def test_conditions_are_fresh_after_a_handler_ran() -> None:
    engine = LocalEngine(Fresh)
    engine.start(Fresh(), workflow_id="1")
    engine.callback("1", "it")
    assert engine.get("1").state.seen == ["it", "saw one", "saw two", "a handler", "saw four"]


class SlowSetup(Handler[None, str]):
    """A setup during which an event comes, as if another process had sent it."""

    engine: LocalEngine

    def setup(self, request: Request[str]) -> str:
        Noted.log.append("set up")
        SlowSetup.engine.runtime.clock.sleep(0)
        SlowSetup.send(request.workflow_id)
        return "ticket"

    @staticmethod
    def send(workflow_id: str) -> None:
        # the workflow is leased by the session that runs this very setup: the event is posted to it
        engine = SlowSetup.engine
        record = engine.runtime.store.load(workflow_id)
        assert record is not None
        assert record.leased(engine.runtime.clock.now())
        post(engine.runtime, record, _message(engine))

    def handle(self, request: Request[str], payload: None) -> None: ...

    def teardown(self, request: Request[str], handled: bool) -> None:
        Noted.log.append(f"torn down with {request.setup_data}, handled: {handled}")


def _message(engine: LocalEngine) -> Event:
    return Event("instead", "null", None, "e1", engine.runtime.clock.now())


@dataclass
class DuringSetup(Noter):
    def definition(self) -> Section:
        return Section(Wait("for it", On("it", SlowSetup()), On("instead", self.note)))


def test_an_event_that_comes_during_setup_leaves_no_setup_behind() -> None:
    Noted.take()
    engine = SlowSetup.engine = LocalEngine(DuringSetup)
    engine.start(DuringSetup(), workflow_id="1")
    assert Noted.take() == ["set up", "torn down with ticket, handled: False"]
    assert engine.get("1").state.seen == ["instead"]
    assert engine.get("1").status is Status.FINISHED


def test_a_setup_cut_off_by_a_crash_leaves_nothing_behind() -> None:
    class Crash(BaseException):
        pass

    class CutOff(Task):
        def setup(self, request: Request[str]) -> str:
            super().setup(request)
            if len(Noted.log) == 1:
                raise Crash
            return "second ticket"

    @dataclass
    class Waiting(Workflow):
        def definition(self) -> Section:
            return Section(Wait("for it", On("task", CutOff()), On("instead", None)))

    Noted.take()
    store = MemoryStore()
    engine = engine_on(store, Waiting)
    try:
        engine.start(Waiting(), workflow_id="1")
    except Crash:
        engine.runtime.clock.sleep(1_000)
    engine.callback("1", "instead")
    assert Noted.take() == [
        "task set up",
        "task set up",
        "task torn down with second ticket, handled: False",
    ]


@dataclass
class WithThread(Noter, name="deploy"):
    def definition(self) -> Section:
        return Section(
            Step("main", self.note),
            Go("helper", Wait("pause", On("go on", Timeout(minutes=1))), Step("help", self.note)),
        )


@dataclass
class WithoutThread(Noter, name="deploy"):
    def definition(self) -> Section:
        return Section(Step("main", self.note))


@dataclass
class WithoutStep(Noter, name="deploy"):
    def definition(self) -> Section:
        return Section(Step("main", self.note), Go("helper", Step("help", self.note)))


def test_a_deleted_thread_does_not_run_the_main_body_again() -> None:
    store = MemoryStore()
    engine_on(store, WithThread).start(WithThread(), workflow_id="1")
    engine = engine_on(store, WithoutThread)
    engine.runtime.clock.sleep(60)
    snapshot = engine.resume("1")
    assert snapshot.status is Status.PARKED
    assert "Go 'helper'" in str(snapshot.error)
    assert snapshot.state.seen == ["main"]


def test_a_deleted_step_parks_and_does_not_crash() -> None:
    store = MemoryStore()
    engine_on(store, WithThread).start(WithThread(), workflow_id="1")
    snapshot = engine_on(store, WithoutStep).resume("1")
    assert snapshot.status is Status.PARKED
    assert "'pause'" in str(snapshot.error)


@dataclass
class LiveThreads(Noter):
    def definition(self) -> Section:
        return Section(Go("person", Wait("for a person", On("task", Task())), Step("after", self.note)))


def test_when_main_ends_live_threads_go_on_and_are_torn_down() -> None:
    Noted.take()
    engine = LocalEngine(LiveThreads)
    assert engine.start(LiveThreads(), workflow_id="1").status is Status.WAITING
    assert engine.callback("1", "task", "yes") == "YES"
    assert engine.get("1").state.seen == ["after"]
    assert Noted.take()[-1] == "task torn down with ticket of person, handled: True"


@dataclass
class Helpers(Noter):
    def review(self) -> tuple[Statement, ...]:
        return (
            Step("read", self.note),
            Wait("decision", On("approve", self.note), On("deny", self.note, Finish("denied"))),
            If(self.count < 100, "short", Step("sign", self.note)),
        )

    def definition(self) -> Section:
        return Section(Scope("legal", *self.review()), Scope("finance", *self.review()))


def test_a_helper_used_twice_has_names_of_its_own() -> None:
    engine = LocalEngine(Helpers)
    assert engine.start(Helpers(), workflow_id="1").waiting_for == ["legal.approve", "legal.deny"]
    engine.callback("1", "legal.approve")
    assert engine.get("1").waiting_for == ["finance.approve", "finance.deny"]
    engine.callback("1", "finance.deny")
    snapshot = engine.get("1")
    assert snapshot.result == "denied"
    assert snapshot.state.seen == [
        "legal.read",
        "legal.approve",
        "legal.sign",
        "finance.read",
        "finance.deny",
    ]


def test_a_failed_teardown_is_retried_after_a_restart() -> None:
    class Refuses(Task):
        def teardown(self, request: Request[str], handled: bool) -> None:
            super().teardown(request, handled)
            if len(Noted.log) < 4:
                raise ConnectionError

    @dataclass
    class Waits(Workflow):
        def definition(self) -> Section:
            return Section(Wait("for it", On("task", Refuses()), On("instead", None)))

    Noted.take()
    store = MemoryStore()
    first = engine_on(store, Waits)
    first.start(Waits(), workflow_id="1")
    first.callback("1", "instead")
    second = engine_on(store, Waits)
    settle(second)
    assert Noted.take() == ["task set up", *["task torn down with ticket of main, handled: False"] * 3]
    assert second.get("1").status is Status.FINISHED
