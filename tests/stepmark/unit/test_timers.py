"""Wake-ups that a scheduler keeps go with what they belong to."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from stepmark import (
    Budget,
    Engine,
    Finish,
    For,
    Go,
    MemoryStore,
    On,
    Record,
    Retry,
    Section,
    Status,
    Step,
    Timeout,
    VersionConflict,
    Wait,
    Workflow,
)
from stepmark.core.record import Progress
from stepmark.testing import VirtualClock

DAY = 86_400.0


@dataclass
class Keeper:
    """A scheduler that keeps one wake-up for each workflow, for what is more than 15 minutes ahead."""

    clock: VirtualClock
    kept: dict[str, float] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    before_wake: Callable[[], object] | None = None
    far_seconds: float = 900.0

    def wake(self, workflow_id: str, at: float) -> None:
        if at - self.clock.now() <= self.far_seconds:
            self.calls.append("message")
            return
        hook, self.before_wake = self.before_wake, None
        if hook is not None:
            hook()
        self.calls.append("set")
        self.kept[workflow_id] = at

    def forget(self, workflow_id: str) -> None:
        self.calls.append("forget")
        self.kept.pop(workflow_id, None)


@dataclass
class Offer(Workflow, name="offer"):
    """Two waits with timers far ahead, one with a near one, one without; then steps."""

    steps: int = 0
    broken: bool = False

    def definition(self) -> Section:
        return Section(
            Wait(
                "for an answer",
                On("yes", None),
                On("stop", None, Finish("stopped")),
                On("too late", Timeout(days=300)),
            ),
            Wait("for a date", On("date", None), On("no date", Timeout(days=7), Finish("no date"))),
            Wait("for a minute", On("go", None), On("over", Timeout(seconds=60))),
            Step("fragile", self.fragile, retry=Retry(attempts=1)),
            Wait("for the end", On("end", None)),
            For("steps", self.steps < 20, Step("count", self.count)),
        )

    def fragile(self) -> None:
        if self.broken:
            raise LookupError

    def count(self) -> None:
        self.steps += 1


@dataclass
class Quick(Workflow):
    """Never waits for long."""

    steps: int = 0

    def definition(self) -> Section:
        return Section(
            For("steps", self.steps < 50, Step("count", self.count)),
            Wait("for a minute", On("go", None), On("over", Timeout(seconds=600))),
        )

    def count(self) -> None:
        self.steps += 1


class World:
    def __init__(self, *, queued: bool = False, steps: int | None = None) -> None:
        self.clock = VirtualClock()
        self.keeper = Keeper(self.clock)
        self.store = MemoryStore()
        self.engine = self.another(queued=queued, steps=steps)

    def another(self, *, queued: bool = False, steps: int | None = None) -> Engine:
        return Engine(
            [Offer, Quick, Beside],
            store=self.store,
            scheduler=self.keeper,
            clock=self.clock,
            queued=queued,
            budget=Budget(steps=steps),
        )

    def work(self) -> None:
        """What a worker does: all that is due by now."""
        while due := self.store.due(self.clock.now(), 10):
            for workflow_id in due:
                self.engine.resume(workflow_id, Budget())


@pytest.fixture(params=["at once", "through the queue"])
def world(request: pytest.FixtureRequest) -> World:
    queued = request.param == "through the queue"
    return World(queued=queued, steps=0 if queued else None)


def send(world: World, event: str) -> None:
    world.engine.callback("w", event)
    world.clock.sleep(20)  # what lies in the queue is due when its lease is over
    world.work()


def test_a_timer_is_moved_and_goes_when_nothing_waits_for_it(world: World) -> None:
    began = world.clock.now()
    world.engine.start(Offer(), workflow_id="w")
    assert world.keeper.kept == {"w": began + 300 * DAY}
    send(world, "yes")
    assert list(world.keeper.kept) == ["w"]
    assert abs(world.keeper.kept["w"] - (began + 7 * DAY)) < 60
    send(world, "date")  # the next wait has a near timer, which is no reason to keep this one
    assert world.keeper.kept == {}
    send(world, "go")
    send(world, "end")
    assert world.engine.get("w").status is Status.FINISHED
    assert world.keeper.kept == {}
    assert world.keeper.calls.count("set") == 2
    assert world.keeper.calls.count("forget") == 1


@pytest.mark.parametrize("how", ["finish", "cancel", "park", "move"])
def test_a_timer_goes_with_its_workflow(world: World, how: str) -> None:
    world.engine.start(Offer(broken=True), workflow_id="w")
    assert list(world.keeper.kept) == ["w"]
    if how == "finish":
        send(world, "stop")
    elif how == "cancel":
        world.engine.cancel("w")
    else:
        world.engine.move("w", "main", "fragile" if how == "park" else "for the end")
        world.clock.sleep(20)
        world.work()
    wanted = {"finish": Status.FINISHED, "cancel": Status.CANCELLED, "park": Status.PARKED}
    assert world.engine.get("w").status is wanted.get(how, Status.WAITING)
    assert world.keeper.kept == {}
    assert world.keeper.calls.count("forget") == 1


def test_what_never_waits_for_long_never_asks_for_a_timer(world: World) -> None:
    world.engine.start(Quick(), workflow_id="w")
    world.clock.sleep(20)
    world.work()
    send(world, "go")
    assert world.engine.get("w").status is Status.FINISHED
    assert set(world.keeper.calls) == {"message"}


@dataclass
class Beside(Workflow):
    """A timer stands while another thread has many turns."""

    notes: int = 0

    def definition(self) -> Section:
        return Section(
            Go("timer", Wait("for time", On("over", Timeout(days=30)))),
            For("notes", self.notes < 9, Wait("for a note", On("note", None)), Step("keep", self.keep)),
            Finish("enough"),
        )

    def keep(self) -> None:
        self.notes += 1


def test_a_timer_that_stands_is_not_set_again(world: World) -> None:
    world.engine.start(Beside(), workflow_id="w")
    world.clock.sleep(20)
    world.work()
    for _ in range(9):
        send(world, "note")
    assert world.engine.get("w").status is Status.FINISHED
    assert [call for call in world.keeper.calls if call != "message"] == ["set", "forget"]


def test_a_timer_that_has_come_is_not_asked_about_again(world: World) -> None:
    world.engine.start(Offer(), workflow_id="w")
    world.keeper.kept.clear()  # it deletes itself when it fires
    world.clock.sleep(300 * DAY)
    world.work()
    assert world.engine.get("w").threads["main"].at == "for a date"
    assert world.keeper.calls.count("forget") == 0


# -- races ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_who_ends_a_workflow_while_a_slow_one_starts_it_leaves_no_timer(how: str) -> None:
    """The slow one has written the first record, and sets the timer when all is over."""
    world = World()
    other = world.another()
    end = (lambda: other.cancel("w")) if how == "cancel" else (lambda: other.callback("w", "stop"))
    world.keeper.before_wake = end
    world.engine.start(Offer(), workflow_id="w")
    assert world.engine.get("w").status.closed
    assert world.keeper.kept == {}


def test_who_cancels_a_workflow_while_its_holder_sets_a_timer_leaves_none() -> None:
    world = World()
    world.engine.start(Offer(), workflow_id="w")
    world.keeper.before_wake = lambda: world.another().cancel("w")
    world.engine.move("w", "main", "for a date")
    assert world.engine.get("w").status is Status.CANCELLED
    assert world.keeper.kept == {}


def test_two_senders_at_once_leave_the_timer_of_what_holds() -> None:
    world = World()
    world.engine.start(Offer(), workflow_id="w")
    world.keeper.before_wake = lambda: world.another().callback("w", "stop")
    with pytest.raises(Exception, match="w"):
        world.engine.callback("w", "yes")
    assert world.engine.get("w").result == "stopped"
    assert world.keeper.kept == {}


class Failing(MemoryStore):
    """Refuses one commit, as if somebody else had been faster, who then is not there any more."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse = 0

    def commit(self, record: Record, expected_version: int) -> None:
        self.refuse -= 1
        if self.refuse == 0:
            raise VersionConflict(record.workflow_id)
        super().commit(record, expected_version)


def test_a_commit_that_fails_leaves_the_timer_that_the_record_tells_of() -> None:
    clock = VirtualClock()
    store, keeper = Failing(), Keeper(clock)
    engine = Engine([Offer], store=store, scheduler=keeper, clock=clock)
    engine.start(Offer(), workflow_id="w")
    first = dict(keeper.kept)
    store.refuse = 1
    session = engine._readable(engine._load("w"))
    with pytest.raises(VersionConflict):
        engine._attend(session, session.cancel)
    assert engine.get("w").status is Status.WAITING
    assert keeper.kept == first


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("then", ["a worker", "an event", "a cancel"])
@pytest.mark.parametrize("moment", ["before the timer", "after the timer"])
def test_a_worker_that_dies_over_a_timer_leaves_none_behind(moment: str, then: str) -> None:
    world = World()
    world.engine.start(Offer(), workflow_id="w")
    world.engine.move("w", "main", "for a minute")
    assert world.keeper.kept == {}
    world.clock.sleep(1)

    wake = world.keeper.wake

    def die(workflow_id: str, at: float) -> None:
        if moment == "after the timer":
            wake(workflow_id, at)
        raise Killed

    world.keeper.wake = die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        world.engine.move("w", "main", "for an answer")
    world.keeper.wake = wake  # type: ignore[method-assign]
    if then == "a worker":
        world.clock.sleep(20)
        world.work()
        assert list(world.keeper.kept) == ["w"]
    elif then == "a cancel":
        world.engine.cancel("w")
    if then in {"a worker", "an event"}:
        world.engine.callback("w", "stop")
    assert world.engine.get("w").status.closed
    assert world.keeper.kept == {}


def test_a_keeper_that_fails_stops_no_workflow(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Keeper):
        def wake(self, workflow_id: str, at: float) -> None:
            raise ConnectionError(workflow_id, at)

        def forget(self, workflow_id: str) -> None:
            raise ConnectionError(workflow_id)

    clock = VirtualClock()
    engine = Engine([Offer], store=MemoryStore(), scheduler=Broken(clock), clock=clock)
    with caplog.at_level(logging.WARNING):
        engine.start(Offer(), workflow_id="w\x1b[2J")
        engine.callback("w\x1b[2J", "stop")
    assert engine.get("w\x1b[2J").status is Status.FINISHED
    assert len(caplog.records) == 2
    assert "\x1b" not in caplog.text


class Plain:
    """A scheduler of before: it knows nothing of forgetting."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def wake(self, workflow_id: str, at: float) -> None:
        del workflow_id
        self.at.append(at)


def test_a_scheduler_that_cannot_forget_is_not_asked_to() -> None:
    clock, store, scheduler = VirtualClock(), MemoryStore(), Plain()
    engine = Engine([Offer], store=store, scheduler=scheduler, clock=clock)
    engine.start(Offer(), workflow_id="w")
    engine.callback("w", "stop")
    assert scheduler.at == [clock.now() + 300 * DAY]
    record = store.load("w")
    assert record is not None
    assert "timer" not in record.progress


def test_a_keeper_without_a_distance_keeps_all_that_is_not_at_once() -> None:
    class Near:
        def __init__(self) -> None:
            self.kept: dict[str, float] = {}

        def wake(self, workflow_id: str, at: float) -> None:
            self.kept[workflow_id] = at

        def forget(self, workflow_id: str) -> None:
            del self.kept[workflow_id]

    clock, near = VirtualClock(), Near()
    engine = Engine([Quick], store=MemoryStore(), scheduler=near, clock=clock)
    engine.start(Quick(), workflow_id="w")
    assert near.kept == {"w": clock.now() + 600}
    engine.callback("w", "go")
    assert near.kept == {}


def test_the_timer_of_the_release_before_is_set_once_more_and_forgotten() -> None:
    world = World()
    world.engine.start(Beside(), workflow_id="w")
    record = world.store.load("w")
    assert record is not None
    progress = Progress.from_json(record.progress)
    progress.timer = None  # as the release before wrote it
    world.store._records["w"] = Record(
        *(record.workflow_id, record.workflow, record.version, record.status, record.state),
        *(progress.to_json(), record.due_at, None, None),
    )
    world.keeper.kept.clear()
    world.engine.callback("w", "note")
    assert list(world.keeper.kept) == ["w"]
    world.engine.cancel("w")
    assert world.keeper.kept == {}
