"""Senders of events who meet each other, the worker, and the workflow itself."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from stepmark import (
    Budget,
    DoNotRetry,
    Engine,
    EventPending,
    EventsFull,
    For,
    Go,
    Handler,
    HandlerFailed,
    MemoryStore,
    On,
    PayloadRefused,
    Record,
    Request,
    Retry,
    Section,
    SqliteStore,
    Status,
    Step,
    Store,
    UnknownThread,
    Wait,
    Workflow,
    current,
)
from stepmark.core.record import Progress
from stepmark.testing import LocalEngine, VirtualClock

from tests.stepmark.support import CountingStore, until

ENGINES: list[Engine] = []
LOG: list[str] = []


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    LOG.clear()
    HOLD.clear()
    STARTED.clear()
    yield
    HOLD.set()


HOLD = threading.Event()
STARTED = threading.Event()


@dataclass
class Votes(Workflow):
    votes: list[int] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(For("all", len(self.votes) < 1_000, Wait("for a vote", On("vote", self.on_vote))))

    def on_vote(self, number: int) -> int:
        self.votes.append(number)
        return number


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_events_without_an_id_sent_at_once_count_once_each(kind: str, tmp_path: Path) -> None:
    store: Store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "w.db")
    engine = Engine([Votes], store=store, callback_seconds=100)
    engine.start(Votes(), workflow_id="w")
    outputs: list[int] = []

    def send(first: int) -> None:
        outputs.extend(engine.callback("w", "vote", number) for number in range(first, first + 10))

    threads = [threading.Thread(target=send, args=(10 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert sorted(outputs) == list(range(80))
    assert sorted(engine.get("w").state.votes) == list(range(80))


def test_events_without_an_id_cost_no_room_in_the_record() -> None:
    store = CountingStore()
    engine = Engine([Votes], store=store, clock=VirtualClock())
    engine.start(Votes(), workflow_id="w")
    for number in range(20):
        engine.callback("w", "vote", number)
    assert len({len(record.progress) for record in store.records}) == 1
    assert store.calls.count("commit") == 20


@dataclass
class KeyOfEvent(Workflow):
    def definition(self) -> Section:
        return Section(Wait("for it", On("it", self.on_it)))

    def on_it(self, good: bool) -> None:
        LOG.append(current().idempotency_key)
        if not good:
            raise ValueError


def test_guarantee_02_two_events_at_one_wait_have_keys_of_their_own() -> None:
    engine = LocalEngine(KeyOfEvent)
    engine.start(KeyOfEvent(), workflow_id="w")
    with pytest.raises(HandlerFailed):
        engine.callback("w", "it", False)
    engine.callback("w", "it", True)
    assert len(set(LOG)) == 2


@dataclass
class HandledThenLost(Workflow):
    """The step after the event takes the workflow away from whoever runs it."""

    got: int = 0

    def definition(self) -> Section:
        return Section(Wait("for it", On("it", self.on_it)), Step("cancel", self.cancel))

    def on_it(self) -> str:
        self.got += 1
        return "thanks"

    def cancel(self) -> None:
        ENGINES[0].cancel(current().workflow_id)


@pytest.mark.parametrize("event_id", [None, "e"])
def test_a_sender_has_its_answer_even_if_the_workflow_is_lost_later(event_id: str | None) -> None:
    ENGINES[:] = [LocalEngine(HandledThenLost)]
    ENGINES[0].start(HandledThenLost(), workflow_id="w")
    assert ENGINES[0].callback("w", "it", event_id=event_id) == "thanks"
    assert ENGINES[0].get("w").status is Status.CANCELLED
    assert ENGINES[0].get("w").state.got == 1


# -- events that a workflow sends to itself -----------------------------------------------------------


class SendsTicket(Handler[None, None]):
    def setup(self, request: Request[None]) -> None:
        ENGINES[0].callback(request.workflow_id, "second", "from setup")

    def handle(self, request: Request[None], payload: None) -> None: ...


@dataclass
class Answers(Workflow):
    """Handlers and a step that send events to their own workflow."""

    got: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Wait("one", On("first", self.on_first)),
            Wait("two", On("second", self.on_second)),
            Wait("three", On("ticket", SendsTicket()), On("second", self.on_second)),
        )

    def on_first(self) -> str:
        LOG.append("first")
        assert ENGINES[0].callback(current().workflow_id, "second", "from a handler", event_id="same") is None
        assert ENGINES[0].callback(current().workflow_id, "second", "from a handler", event_id="same") is None
        return "thanks"

    def on_second(self, text: str) -> None:
        self.got.append(text)


@pytest.mark.parametrize("event_id", [None, "e"])
def test_a_handler_may_send_an_event_to_its_own_workflow(event_id: str | None) -> None:
    store = CountingStore()
    ENGINES[:] = [Engine([Answers], store=store, clock=VirtualClock())]
    ENGINES[0].start(Answers(), workflow_id="w")
    store.calls.clear()
    assert ENGINES[0].callback("w", "first", event_id=event_id) == "thanks"
    assert LOG == ["first"]  # it ran once
    assert ENGINES[0].get("w").state.got == ["from a handler", "from setup"]
    assert ENGINES[0].get("w").status is Status.FINISHED
    # The two handlers, a setup, a handler and its teardown: what is sent costs no write. An event with an id
    # has cost one more, before its handler ran: so that whoever repeats it at this moment waits.
    assert store.calls.count("commit") == (5 if event_id is None else 6)


@dataclass
class SendsAndFails(Workflow):
    got: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Step("send", self.send, retry=Retry(first_delay=1)),
            For("all", len(self.got) < 5, Wait("for it", On("it", self.got.append))),
        )

    def send(self) -> None:
        ENGINES[0].callback(current().workflow_id, "it", f"attempt {current().attempt}")
        if current().attempt < 3:
            raise ConnectionError


def test_what_a_failed_attempt_has_sent_is_dropped_with_it() -> None:
    engine = LocalEngine(SendsAndFails)
    ENGINES[:] = [engine]
    engine.start(SendsAndFails(), workflow_id="w")
    engine.advance(minutes=1)
    assert engine.get("w").state.got == ["attempt 3"]


@dataclass
class Greeted(Workflow):
    def definition(self) -> Section:
        return Section(Wait("for it", On("hello", None)))


@dataclass
class Greeter(Workflow):
    def definition(self) -> Section:
        return Section(Step("greet", self.greet))

    def greet(self) -> None:
        ENGINES[0].callback(current().workflow_id, "hello")


def test_a_workflow_of_the_same_id_in_another_store_is_not_the_own() -> None:
    ENGINES[:] = [LocalEngine(Greeted)]
    ENGINES[0].start(Greeted(), workflow_id="w")
    LocalEngine(Greeter).start(Greeter(), workflow_id="w")
    assert ENGINES[0].get("w").status is Status.FINISHED


@dataclass
class Background(Workflow):
    """A step that leaves something behind, which reports when the step is long over."""

    def definition(self) -> Section:
        return Section(Step("begin", self.begin), Wait("for it", On("done", self.on_done)))

    async def begin(self) -> None:
        workflow_id = current().workflow_id

        async def later() -> None:
            await asyncio.to_thread(HOLD.wait, 60)
            LOG.append(await asyncio.to_thread(ENGINES[0].callback, workflow_id, "done"))

        TASKS.append(asyncio.create_task(later()))

    def on_done(self) -> str:
        return "thanks"


TASKS: list[asyncio.Task[None]] = []


@pytest.mark.timeout(60)
def test_what_a_step_has_left_behind_sends_as_anybody_else() -> None:
    ENGINES[:] = [LocalEngine(Background)]
    assert ENGINES[0].start(Background(), workflow_id="w").waiting_for == ["done"]
    HOLD.set()
    until(lambda: LOG != [])
    assert LOG == ["thanks"]
    assert ENGINES[0].get("w").status is Status.FINISHED


# -- events that meet a full house, or a handler that refuses ------------------------------------------


@dataclass
class Clicks(Workflow):
    def definition(self) -> Section:
        return Section(Wait("first", On("click", None)), Wait("second", On("approve", self.on_approve)))

    def on_approve(self) -> str:
        return "approved"


def test_events_that_nobody_wants_any_more_do_not_keep_out_the_one_that_is_waited_for() -> None:
    engine = LocalEngine(Clicks)
    engine.start(Clicks(), workflow_id="w")
    for _ in range(101):
        engine.callback("w", "click")
    before = engine.get("w").version
    with pytest.raises(EventsFull):
        engine.callback("w", "click")
    assert engine.get("w").version == before
    assert engine.callback("w", "approve") == "approved"
    assert engine.get("w").status is Status.FINISHED


@dataclass
class Busy(Workflow):
    """A handler that refuses, while another thread's step is in the air."""

    got: list[str] = field(default_factory=list)
    found: str = ""

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("slow", self.slow, into="found")),
            Wait("for it", On("it", self.on_it)),
        )

    def slow(self) -> str:
        STARTED.set()
        assert HOLD.wait(60)
        return "found"

    def on_it(self, text: str) -> str:
        LOG.append(text)
        self.got.append(text)
        if text == "bad":
            raise LookupError("unknown customer")
        if text == "wrong":
            raise PayloadRefused("not like this")
        return text.upper()


@pytest.fixture
def busy() -> Iterator[Engine]:
    store = MemoryStore()
    runner = Engine([Busy], store=store)
    thread = threading.Thread(target=runner.start, args=(Busy(), "w"))
    thread.start()
    assert STARTED.wait(60)
    yield Engine([Busy], store=store, callback_seconds=30)
    HOLD.set()
    thread.join(60)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("event_id", [None, "e"])
def test_a_handler_that_raises_in_another_worker_tells_the_sender_and_changes_nothing(
    busy: Engine, event_id: str | None
) -> None:
    with pytest.raises(HandlerFailed, match="unknown customer"):
        busy.callback("w", "it", "bad", event_id=event_id)
    with pytest.raises(PayloadRefused, match="not like this"):
        busy.callback("w", "it", "wrong", event_id=event_id)
    snapshot = busy.get("w")
    assert (snapshot.status, snapshot.error, snapshot.state.got) == (Status.RUNNING, None, [])
    assert busy.callback("w", "it", "good", event_id=event_id) == "GOOD"
    assert busy.get("w").state.got == ["good"]
    assert LOG == ["bad", "wrong", "good"]  # each was tried once


@dataclass
class BusyLater(Busy):
    """The same, but its Wait is only reached when no sender waits any more."""

    def definition(self) -> Section:
        return Section(Step("slow", self.slow, into="found"), Wait("for it", On("it", self.on_it)))

    def on_it(self, text: str) -> str:
        raise DoNotRetry(text)


@pytest.mark.timeout(60)
def test_an_event_whose_sender_has_gone_is_not_dropped_when_its_handler_raises() -> None:
    store = MemoryStore()
    runner = Engine([BusyLater], store=store)
    thread = threading.Thread(target=runner.start, args=(BusyLater(), "w"))
    thread.start()
    assert STARTED.wait(60)
    with pytest.raises(EventPending):
        Engine([BusyLater], store=store, callback_seconds=0).callback("w", "it", "bad", event_id="e")
    HOLD.set()
    thread.join(60)
    snapshot = runner.get("w")
    assert snapshot.status is Status.PARKED
    assert "DoNotRetry: bad" in str(snapshot.error)


@dataclass
class KeptWhileBusy(Workflow):
    """An event that is left with the worker, and kept by it for a Wait that comes later."""

    def definition(self) -> Section:
        return Section(
            Step("slow", self.slow),
            Wait("first", On("one", None)),
            Wait("second", On("two", self.on_two)),
        )

    def slow(self) -> None:
        STARTED.set()
        assert HOLD.wait(60)

    def on_two(self) -> None:
        raise DoNotRetry("no")


@pytest.mark.timeout(60)
def test_an_event_that_is_kept_is_nobodys_to_refuse() -> None:
    store = MemoryStore()
    runner = Engine([KeptWhileBusy], store=store)
    thread = threading.Thread(target=runner.start, args=(KeptWhileBusy(), "w"))
    thread.start()
    assert STARTED.wait(60)
    answers: list[Any] = []

    def send() -> None:
        answers.append(Engine([KeptWhileBusy], store=store, callback_seconds=60).callback("w", "two"))

    def posted() -> bool:
        record = store.load("w")
        return record is not None and bool(Progress.from_json(record.progress).events)

    sender = threading.Thread(target=send)
    sender.start()
    until(posted)
    HOLD.set()
    thread.join(60)
    sender.join(60)
    assert answers == [None]
    runner.callback("w", "one")  # the sender of the other is told that it is kept: it must not be dropped
    assert runner.get("w").status is Status.PARKED
    assert "two: DoNotRetry: no" in str(runner.get("w").error)


# -- threads that events are for ------------------------------------------------------------------------


@dataclass
class Threads(Workflow):
    rounds: int = 0
    got: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            For(
                "rounds",
                self.rounds < 3,
                Go("worker", Wait("for work", On("work", self.on_work)), id=self.rounds),
                Step("count", self.count),
            ),
            Wait("pause", On("go on", None)),
            Go("late", Wait("for late work", On("work", self.on_work))),
            *[Go("each", Wait("for each", On("work", self.on_work)), id=name) for name in "ab"],
        )

    def count(self) -> None:
        self.rounds += 1

    def on_work(self) -> None:
        self.got.append(current().thread)


def test_an_event_for_a_thread_that_never_was_is_refused() -> None:
    engine = LocalEngine(Threads)
    before = engine.start(Threads(), workflow_id="w").version
    for name in ("worker[99]", "worker", "each[c]", "each", "late[1]", "late#7", "nobody"):
        with pytest.raises(UnknownThread, match="no thread"):
            engine.callback("w", "work", thread=name)
    assert engine.get("w").version == before
    for name in ("worker[1]", "late", "each[b]"):  # it runs, or will be started by the definition
        engine.callback("w", "work", thread=name)
    engine.callback("w", "go on")
    assert sorted(engine.get("w").state.got) == ["each[b]", "late", "worker[1]"]


@dataclass
class LeftBehind(Workflow):
    """A worker whose budget ends while an event waits that it could deliver."""

    got: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("slow", self.slow), Step("more", self.more)),
            Wait("for it", On("it", self.on_it)),
        )

    def slow(self) -> None:
        STARTED.set()
        assert HOLD.wait(60)

    def more(self) -> None: ...

    def on_it(self) -> str:
        return "thanks"


@pytest.mark.timeout(60)
def test_a_sender_delivers_itself_what_a_worker_has_left_behind() -> None:
    store = MemoryStore()
    runner = Engine([LeftBehind], store=store, budget=Budget(steps=1))
    thread = threading.Thread(target=runner.start, args=(LeftBehind(), "w"))
    thread.start()
    assert STARTED.wait(60)
    answers: list[Any] = []
    sender = Engine([LeftBehind], store=store, callback_seconds=60, budget=Budget(steps=0))
    sending = threading.Thread(target=lambda: answers.append(sender.callback("w", "it")))
    sending.start()
    until(lambda: '"it"' in (store.load("w") or EMPTY).progress)
    HOLD.set()
    thread.join(60)
    sending.join(60)
    assert answers == ["thanks"]
    assert runner.get("w").threads["beside"].at == "more"


EMPTY = Record("w", "", 0, Status.RUNNING, "", "", None, None, None)
