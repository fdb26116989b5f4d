"""Stores and schedulers that fail: nothing is lost, and a later call goes on."""

from dataclasses import dataclass, field

import pytest
from stepmark import (
    Engine,
    MemoryStore,
    On,
    Record,
    RecordTooLarge,
    Section,
    Status,
    Step,
    StoreUnavailable,
    Wait,
    Workflow,
    current,
)
from stepmark.testing import VirtualClock

from tests.stepmark.support import CountingStore, engine_on, settle


@dataclass
class Chain(Workflow):
    done: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(Step("one", self.note), Step("two", self.note), Wait("w", On("go", self.note)))

    def note(self) -> None:
        self.done.append(current().statement)


class FailingStore(CountingStore):
    """Fails at one commit, before or after it was done."""

    on_one_machine = False

    def __init__(self, at: int, *, done: bool) -> None:
        super().__init__()
        self.left = at
        self.done = done

    def commit(self, record: Record, expected_version: int) -> None:
        self.left -= 1
        if self.left == 0 and not self.done:
            raise StoreUnavailable("not now")
        super().commit(record, expected_version)
        if self.left == 0:
            raise StoreUnavailable("no answer")


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("at", [1, 2])
def test_a_store_that_fails_once_delays_a_workflow_and_loses_nothing(at: int, done: bool) -> None:
    engine = engine_on(FailingStore(at, done=done), Chain)
    with pytest.raises(StoreUnavailable):
        engine.start(Chain(), workflow_id="1")
    settle(engine)
    assert engine.get("1").state.done == ["one", "two"]
    engine.callback("1", "go")
    assert engine.get("1").status is Status.FINISHED


class NoScheduler:
    """A scheduler that fails whenever it is asked."""

    def wake(self, workflow_id: str, at: float) -> None:
        raise ConnectionError(workflow_id, at)


def test_a_scheduler_that_fails_loses_no_wake_up() -> None:
    @dataclass
    class Again(Workflow):
        tried: int = 0

        def definition(self) -> Section:
            return Section(Step("try", self.attempt))

        def attempt(self) -> None:
            if current().attempt == 1:
                raise ConnectionError
            self.tried = current().attempt

    store, clock = MemoryStore(), VirtualClock()
    with pytest.raises(ConnectionError):
        Engine([Again], store=store, clock=clock, scheduler=NoScheduler()).start(Again(), workflow_id="1")
    engine = Engine([Again], store=store, clock=clock)
    settle(engine)
    assert engine.get("1").state.tried == 2


class SmallStore(CountingStore):
    """Holds little for one workflow."""

    on_one_machine = False

    def commit(self, record: Record, expected_version: int) -> None:
        if len(record.state) > 100:
            raise RecordTooLarge("a workflow may have 100 bytes here")
        super().commit(record, expected_version)


@dataclass
class Grows(Workflow):
    text: str = ""

    def definition(self) -> Section:
        return Section(Step("small", self.small), Step("large", self.large), Step("after", self.small))

    def small(self) -> None:
        self.text += "x"

    def large(self) -> None:
        self.text += "y" * 1000


def test_a_state_too_large_for_the_store_parks_the_step_that_made_it() -> None:
    engine = engine_on(SmallStore(), Grows)
    snapshot = engine.start(Grows(), workflow_id="1")
    assert snapshot.status is Status.PARKED
    assert snapshot.threads["main"].at == "large"
    assert snapshot.state.text == "x"
    assert "100 bytes" in str(snapshot.error)
