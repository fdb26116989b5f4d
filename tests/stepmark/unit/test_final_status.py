"""FINISHED and CANCELLED are final, whatever becomes of what is still to be torn down."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from stepmark import (
    Engine,
    Finish,
    Handler,
    MemoryStore,
    On,
    Request,
    Retry,
    Section,
    SqliteStore,
    Status,
    Step,
    Store,
    Wait,
    Workflow,
    WorkflowClosed,
)
from stepmark.core.record import Progress
from stepmark.testing import LocalEngine, VirtualClock, run_due

from tests.stepmark.support import CountingStore

if TYPE_CHECKING:
    from pathlib import Path


class World:
    broken = True
    tried = 0


class Clings(Handler[None, str]):
    """Can't be torn down as long as the world is broken."""

    def __init__(self, attempts: int = 3) -> None:
        self.retry = Retry(attempts=attempts)

    def setup(self, request: Request[str]) -> str:
        return f"ticket of {request.thread}"

    def handle(self, request: Request[str], payload: None) -> None: ...

    def teardown(self, request: Request[str], handled: bool) -> None:
        assert request.setup_data == "ticket of main"
        assert not handled
        World.tried += 1
        if World.broken:
            raise ConnectionError("no answer")


@dataclass
class Task(Workflow, name="task"):
    attempts: int = 3

    def definition(self) -> Section:
        return Section(Wait("for it", On("task", Clings(self.attempts)), On("go", None, Finish("done"))))


@dataclass
class Gone(Workflow, name="task"):
    attempts: int = 3

    def definition(self) -> Section:
        return Section(Step("another", lambda: None))


@dataclass
class Raises(Workflow, name="task"):
    attempts: int = 3

    def definition(self) -> Section:
        raise LookupError


@pytest.fixture(autouse=True)
def _world() -> None:
    World.broken, World.tried = True, 0


def _end(engine: Engine, how: str) -> Status:
    engine.start(Task(), workflow_id="w")
    if how == "finished":
        engine.callback("w", "go")
        return Status.FINISHED
    engine.cancel("w")
    return Status.CANCELLED


def _left(store: Store) -> int:
    record = store.load("w")
    assert record is not None
    return len(Progress.from_json(record.progress).teardowns)


@pytest.mark.parametrize("how", ["finished", "cancelled"])
def test_a_teardown_that_fails_after_the_end_changes_no_status(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    parked: list[tuple[str, tuple[str, ...]]] = []
    store, clock = CountingStore(), VirtualClock()
    engine = Engine([Task], store=store, clock=clock, on_parked=lambda *told: parked.append(told))
    final = _end(engine, how)
    run_due(engine, clock, clock.now() + 100_000)
    snapshot = engine.get("w")
    assert snapshot.status is final
    assert snapshot.result == ("done" if how == "finished" else None)
    assert snapshot.error == "teardown of event 'task': ConnectionError: no answer"
    assert snapshot.brief == "teardown of event 'task': ConnectionError"
    assert World.tried == 3
    statuses = [record.status for record in store.records]
    assert statuses[statuses.index(final) :] == [final] * statuses.count(final)
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING] * 2 + [logging.ERROR]
    assert parked == [("w", ("for it",))], "somebody is told once that nothing tries it again"


@pytest.mark.parametrize("how", ["finished", "cancelled"])
def test_retry_tears_down_what_is_left_after_the_end(how: str) -> None:
    engine = LocalEngine(Task)
    final = _end(engine, how)
    engine.advance(hours=1)
    assert engine.retry("w").status is final
    assert (World.tried, _left(engine.store)) == (4, 1)
    World.broken = False
    engine.advance(hours=1)
    assert (World.tried, _left(engine.store)) == (5, 0)
    assert (engine.get("w").status, engine.get("w").error) == (final, None)


@pytest.mark.parametrize("seconds", [0, 100_000])
@pytest.mark.parametrize("how", ["finished", "cancelled"])
def test_cancel_gives_up_what_cannot_be_torn_down(how: str, seconds: float) -> None:
    engine = LocalEngine(Task)
    final = _end(engine, how)
    engine.advance(seconds=seconds)
    result = engine.get("w").result
    snapshot = engine.cancel("w")
    assert (snapshot.status, snapshot.result, snapshot.error) == (final, result, None)
    assert _left(engine.store) == 0
    assert engine.store.next_due() is None
    version = engine.get("w").version
    assert engine.cancel("w").version == version


@pytest.mark.parametrize("cls", [Gone, Raises])
def test_a_definition_that_has_lost_the_handler_changes_no_status(cls: type[Workflow]) -> None:
    store, clock = MemoryStore(), VirtualClock()
    before = Engine([Task], store=store, clock=clock)
    final = _end(before, "finished")
    parked: list[str] = []
    after = Engine([cls], store=store, clock=clock, on_parked=lambda name, _at: parked.append(name))
    run_due(after, clock, clock.now() + 100_000)
    assert after.get("w").status is final
    assert (_left(store), parked) == (1, ["w"])
    assert after.retry("w").status is final
    World.broken = False
    assert before.retry("w").status is final
    assert _left(store) == 0


@pytest.mark.parametrize("cls", [Gone, Raises])
def test_cancel_gives_up_what_has_lost_its_handler(cls: type[Workflow]) -> None:
    store, clock = MemoryStore(), VirtualClock()
    _end(Engine([Task], store=store, clock=clock), "finished")
    after = Engine([cls], store=store, clock=clock)
    run_due(after, clock, clock.now() + 100_000)
    assert after.cancel("w").status is Status.FINISHED
    assert _left(store) == 0


@pytest.mark.parametrize("how", ["retry", "cancel"])
def test_what_was_parked_before_the_end_is_finished_once_somebody_has_acted(how: str) -> None:
    @dataclass
    class Earlier(Workflow):
        def definition(self) -> Section:
            return Section(
                Wait("for it", On("task", Clings()), On("next", None)),
                Wait("for the end", On("end", None, Finish("done"))),
            )

    store, clock = CountingStore(), VirtualClock()
    engine = Engine([Earlier], store=store, clock=clock)
    engine.start(Earlier(), workflow_id="w")
    engine.callback("w", "next")
    run_due(engine, clock, clock.now() + 1_000)
    assert engine.get("w").status is Status.PARKED
    engine.callback("w", "end")
    assert (engine.get("w").status, engine.get("w").result) == (Status.PARKED, "done")
    snapshot = engine.retry("w") if how == "retry" else engine.cancel("w")
    assert (snapshot.status, snapshot.result) == (Status.FINISHED, "done")
    run_due(engine, clock, clock.now() + 1_000)
    statuses = [record.status for record in store.records]
    assert set(statuses[statuses.index(Status.FINISHED) :]) == {Status.FINISHED}
    assert _left(store) == (how == "retry")


def test_a_second_cancel_closes_what_has_no_definition_any_more() -> None:
    store, clock = MemoryStore(), VirtualClock()
    Engine([Task], store=store, clock=clock).start(Task(), workflow_id="w")
    after = Engine([Raises], store=store, clock=clock)
    assert after.cancel("w").status is Status.PARKED
    assert after.cancel("w").status is Status.CANCELLED
    assert _left(store) == 0


@pytest.mark.parametrize("how", ["finished", "cancelled"])
def test_what_is_sent_after_the_end_changes_nothing(how: str) -> None:
    engine = LocalEngine(Task)
    final = _end(engine, how)
    for _ in range(4):
        before = engine.get("w")
        for event in ("go", "task"):
            with pytest.raises(WorkflowClosed):
                engine.callback("w", event, event_id="k")
        with pytest.raises(WorkflowClosed):
            engine.move("w", "main", "for it")
        assert engine.look("w") == before
        assert before.status is final
        engine.advance(seconds=100)


def test_a_teardown_that_kills_its_process_is_given_up_too() -> None:
    class Dies(MemoryStore):
        on_one_machine = False

    class Killed(BaseException):
        pass

    class Kills(Clings):
        def teardown(self, request: Request[str], handled: bool) -> None:
            del request, handled
            World.tried += 1
            raise Killed

    @dataclass
    class Deadly(Workflow):
        def definition(self) -> Section:
            return Section(Wait("for it", On("task", Kills()), On("go", None, Finish("done"))))

    store, clock = Dies(), VirtualClock()
    engine = Engine([Deadly], store=store, clock=clock)
    engine.start(Deadly(), workflow_id="w")
    with pytest.raises(Killed):
        engine.callback("w", "go")
    for _ in range(100):
        if store.next_due() is None:
            break
        try:
            run_due(engine, clock, clock.now() + 100)
        except Killed:
            continue
    assert World.tried == 21
    snapshot = engine.get("w")
    assert snapshot.status is Status.FINISHED
    assert "has died 21 times" in str(snapshot.error)
    assert engine.cancel("w").error is None


def test_what_is_over_and_can_no_longer_be_read_stays_over() -> None:
    engine = LocalEngine(Task)
    World.broken = False
    _end(engine, "finished")
    record = engine.store.load("w")
    assert record is not None
    fields: dict[str, Any] = {name: getattr(record, name) for name in type(record).__dataclass_fields__}
    unread = type(record)(**{**fields, "version": record.version + 1, "progress": "no JSON"})
    engine.store.commit(unread, record.version)
    for call in (engine.resume, engine.cancel, engine.look):
        assert call("w").status is Status.FINISHED


def test_a_file_keeps_what_is_over_until_it_is_torn_down(tmp_path: Path) -> None:
    store, clock = SqliteStore(tmp_path / "w.db", keep=0), VirtualClock()
    engine = Engine([Task], store=store, clock=clock)
    _end(engine, "finished")
    assert _left(store) == 1
    World.broken = False
    run_due(engine, clock, clock.now() + 100_000)
    assert World.tried == 2
    assert engine.start(Task(), workflow_id="other").status is Status.WAITING
    engine.cancel("other")
    assert store.load("w") is None
