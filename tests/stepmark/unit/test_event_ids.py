"""What an event_id tells apart, and what a repeat meets: other events, other senders, long outputs, steps."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from stepmark import (
    Engine,
    For,
    Go,
    Handler,
    HandlerFailed,
    MemoryStore,
    On,
    OutputForgotten,
    Request,
    Retry,
    Scope,
    Section,
    SqliteStore,
    Status,
    Step,
    Store,
    StoreUnavailable,
    Timeout,
    Wait,
    Workflow,
)
from stepmark.core.outputs import MAX_OUTPUTS
from stepmark.core.record import Progress
from stepmark.testing import LocalEngine, VirtualClock

from tests.stepmark.support import CountingStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENGINES: list[Engine] = []


# -- another event with the same id ---------------------------------------------------------------------


@dataclass
class Two(Workflow):
    log: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(For("ever", True, Wait("for one", On("a", self.on_a), On("b", self.on_b))))

    def on_a(self, number: int) -> str:
        self.log.append(f"a{number}")
        return self.log[-1]

    def on_b(self, number: int) -> str:
        self.log.append(f"b{number}")
        return self.log[-1]


def test_the_same_id_on_another_event_is_another_event() -> None:
    engine = LocalEngine(Two)
    engine.start(Two(), workflow_id="w")
    for _ in range(2):
        assert engine.callback("w", "a", 1, event_id="k") == "a1"
        assert engine.callback("w", "b", 2, event_id="k") == "b2"
    assert engine.get("w").state.log == ["a1", "b2"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", None, "b1"), ("ab", None, "1")),
        (("a", "1", "k"), ("a", None, "1k")),
        (("a", None, "1::ak"), ("a", None, "k")),
    ],
)
def test_no_two_events_share_an_id_however_their_parts_are_spelt(
    one: tuple[str, str | None, str], other: tuple[str, str | None, str]
) -> None:
    @dataclass
    class Spelt(Workflow):
        count: int = 0

        def definition(self) -> Section:
            events = [On(name, self.on_it) for name in ("a", "ab")]
            return Section(
                Go("threads", *[Go("1", For("each", True, Wait("inside", On("a", self.on_it))))]),
                For("ever", True, Wait("for one", *events)),
            )

        def on_it(self) -> int:
            self.count += 1
            return self.count

    engine = LocalEngine(Spelt)
    engine.start(Spelt(), workflow_id="w")
    for _ in range(2):
        for number, (event, thread, event_id) in enumerate((one, other), start=1):
            assert engine.callback("w", event, thread=thread, event_id=event_id) == number


@dataclass
class Crew(Workflow):
    got: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(
            *[
                Go(
                    "worker",
                    For(f"{name} ever", True, Wait(f"{name} waits", On("work", self.on_work))),
                    id=name,
                )
                for name in "ab"
            ]
        )

    def on_work(self, what: str) -> str:
        self.got.append(what)
        return what


def test_the_same_id_for_another_thread_is_another_event() -> None:
    engine = LocalEngine(Crew)
    engine.start(Crew(), workflow_id="w")
    for _ in range(2):
        for name in "ab":
            assert engine.callback("w", "work", name, thread=f"worker[{name}]", event_id="k") == name
    assert engine.get("w").state.got == ["a", "b"]


def test_events_kept_with_the_same_id_are_all_delivered() -> None:
    @dataclass
    class Early(Two):
        def definition(self) -> Section:
            return Section(Wait("for time", On("time", Timeout(minutes=1))), *super().definition().body)

    engine = LocalEngine(Early)
    engine.start(Early(), workflow_id="w")
    assert engine.callback("w", "a", 1, event_id="k") is None
    assert engine.callback("w", "b", 2, event_id="k") is None
    engine.advance(minutes=1)
    assert engine.get("w").state.log == ["a1", "b2"]
    assert engine.callback("w", "b", 2, event_id="k") == "b2"


@dataclass
class Prefixed(Workflow, name="renamed"):
    got: int = 0

    def definition(self) -> Section:
        return Section(For("ever", True, Scope("legal", Wait("waits", On("answer", self.on_answer)))))

    def on_answer(self) -> int:
        self.got += 1
        return self.got


@dataclass
class Renamed(Prefixed, name="renamed"):
    def definition(self) -> Section:
        on = On("reply", self.on_answer, aliases=("answer",))
        return Section(For("ever", True, Scope("legal", Wait("waits", on))))


def test_a_repeat_may_call_the_event_by_any_of_its_names() -> None:
    store, clock = MemoryStore(), VirtualClock()
    engine = Engine([Prefixed], store=store, clock=clock)
    engine.start(Prefixed(), workflow_id="w")
    assert engine.callback("w", "answer", event_id="k") == 1
    assert engine.callback("w", "legal.answer", event_id="k") == 1
    engine = Engine([Renamed], store=store, clock=clock)
    assert engine.callback("w", "legal.reply", event_id="k") == 1
    assert engine.callback("w", "legal.reply", event_id="another") == 2


def test_what_the_release_before_has_remembered_is_still_answered() -> None:
    engine = LocalEngine(Two)
    engine.start(Two(), workflow_id="w")
    record = engine.store.load("w")
    assert record is not None
    progress = Progress.from_json(record.progress)
    progress.outputs["k"] = "a1"
    changed = {**_fields(record), "version": record.version + 1, "progress": progress.to_json()}
    engine.store.commit(type(record)(**changed), record.version)
    assert engine.callback("w", "a", 1, event_id="k") == "a1"
    assert engine.get("w").state.log == []


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in type(record).__dataclass_fields__}


# -- many senders of one event at once --------------------------------------------------------------------


@dataclass
class Slow(Workflow):
    count: int = 0

    def definition(self) -> Section:
        return Section(For("ever", True, Wait("for it", On("it", self.on_it), On("task", SlowTask(self)))))

    def on_it(self, good: bool) -> int:
        RUNS.append(1)
        time.sleep(0.05)
        if not good:
            raise LookupError
        self.count += 1
        return self.count


class SlowTask(Handler[bool, None]):
    def __init__(self, slow: Slow) -> None:
        self.slow = slow

    def handle(self, request: Request[None], payload: bool) -> int:
        del request
        return self.slow.on_it(payload)


RUNS: list[int] = []


def _stores(kind: str, tmp_path: Path) -> Callable[[], Store]:
    if kind == "sqlite":
        return lambda: SqliteStore(tmp_path / "w.db")
    store = MemoryStore()
    return lambda: store


@pytest.mark.timeout(120)
@pytest.mark.parametrize("event", ["it", "task"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_senders_of_one_event_at_once_run_its_handler_once(kind: str, event: str, tmp_path: Path) -> None:
    RUNS.clear()
    open_store = _stores(kind, tmp_path)
    engines = [Engine([Slow], store=open_store(), callback_seconds=100) for _ in range(3)]
    engines[0].start(Slow(), workflow_id="w")
    outputs: list[Any] = []

    def send(engine: Engine) -> None:
        outputs.append(engine.callback("w", event, payload=True, event_id="k"))

    threads = [threading.Thread(target=send, args=(engines[number % 3],)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert outputs == [1] * 50
    assert len(RUNS) == 1
    assert engines[0].get("w").state.count == 1
    assert engines[0].get("w").status is Status.WAITING


@pytest.mark.timeout(120)
def test_senders_of_one_event_at_once_are_all_told_that_it_failed() -> None:
    engine = Engine([Slow], store=MemoryStore(), callback_seconds=100)
    engine.start(Slow(), workflow_id="w")
    told: list[str] = []

    def send() -> None:
        with pytest.raises(HandlerFailed) as raised:
            engine.callback("w", "it", payload=False, event_id="k")
        told.append(str(raised.value))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(told) == 8
    record = engine.runtime.store.load("w")
    assert record is not None
    assert Progress.from_json(record.progress).events == []
    assert engine.callback("w", "it", payload=True, event_id="k") == 1


def test_an_event_whose_handler_has_failed_is_not_kept_when_that_cannot_be_written() -> None:
    class Failing(CountingStore):
        def commit(self, record: Any, expected_version: int) -> None:
            if RUNS:
                raise StoreUnavailable
            super().commit(record, expected_version)

    RUNS.clear()
    engine = Engine([Slow], store=Failing(), clock=VirtualClock())
    engine.start(Slow(), workflow_id="w")
    with pytest.raises(StoreUnavailable):
        engine.callback("w", "it", payload=False, event_id="k")


# -- outputs that are long --------------------------------------------------------------------------------


@dataclass
class Long(Workflow):
    count: int = 0

    def definition(self) -> Section:
        return Section(For("ever", True, Wait("for it", On("it", self.on_it))))

    def on_it(self, length: int) -> list[dict[str, Any]]:
        self.count += 1
        return [{"name": f"customer {number}", "open": True} for number in range(length)]


def _noise(length: int) -> str:
    """Text that can't be compressed to much less than it is."""
    return "".join(random.Random(length).choices([chr(c) for c in range(0x4E00, 0x9000)], k=length))  # noqa: S311


def test_a_long_output_is_remembered_beside_others() -> None:
    engine = LocalEngine(Long)
    engine.start(Long(), workflow_id="w")
    lengths = {"first": 1, "long": 3_000, "second": 2, "longer": 6_000, "third": 3}
    for event_id, length in [*lengths.items(), *lengths.items()]:
        assert len(engine.callback("w", "it", length, event_id=event_id)) == length
    assert engine.get("w").state.count == len(lengths)


@dataclass
class Huge(Workflow):
    count: int = 0

    def definition(self) -> Section:
        return Section(For("ever", True, Wait("for it", On("it", self.on_it))))

    def on_it(self, length: int) -> str:
        self.count += 1
        return _noise(length)


def test_the_repeat_of_an_event_whose_output_was_too_long_runs_nothing() -> None:
    engine = LocalEngine(Huge)
    engine.start(Huge(), workflow_id="w")
    for event_id in ("one", "two"):
        assert len(engine.callback("w", "it", 70_000, event_id=event_id)) == 70_000
    with pytest.raises(OutputForgotten):
        engine.callback("w", "it", 70_000, event_id="one")
    assert engine.get("w").state.count == 2


def test_the_last_hundred_ids_are_remembered_however_long_their_outputs() -> None:
    engine = LocalEngine(Huge)
    engine.start(Huge(), workflow_id="w")
    for number in range(MAX_OUTPUTS):
        engine.callback("w", "it", 2_000, event_id=str(number))
    for number in range(MAX_OUTPUTS):
        try:
            assert engine.callback("w", "it", 2_000, event_id=str(number)) == _noise(2_000)
        except OutputForgotten:
            assert number < MAX_OUTPUTS - 5
    assert engine.get("w").state.count == MAX_OUTPUTS
    record = engine.store.load("w")
    assert record is not None
    assert len(record.progress.encode()) < 80_000


# -- what a step sends to another workflow ----------------------------------------------------------------


@dataclass
class Sender(Workflow):
    """Its step sends, and fails when it is run for the first time."""

    got: list[Any] = field(default_factory=list)
    alongside: bool = False

    def definition(self) -> Section:
        retry = Retry(attempts=3, first_delay=1)
        if self.alongside:
            return Section(Step("send", self.send, into="got", retry=retry))
        return Section(Step("send", self.send_here, retry=retry))

    def send(self) -> list[Any]:
        outputs = [ENGINES[0].callback("receiver", "a", number) for number in (7, 8)]
        outputs.append(ENGINES[0].callback("receiver", "b", 9))
        RUNS.append(1)
        if len(RUNS) == 1:
            raise ConnectionError
        return outputs

    def send_here(self) -> None:
        self.got = self.send()


@pytest.mark.parametrize("alongside", [True, False])
def test_what_a_step_sends_counts_once_however_often_it_is_run(alongside: bool) -> None:
    RUNS.clear()
    engine = LocalEngine(Two, Sender)
    ENGINES[:] = [engine]
    engine.start(Two(), workflow_id="receiver")
    engine.start(Sender(alongside=alongside), workflow_id="sender")
    engine.advance(hours=1)
    assert len(RUNS) == 2
    assert engine.get("receiver").state.log == ["a7", "a8", "b9"]
    assert engine.get("sender").state.got == ["a7", "a8", "b9"]


def test_each_visit_of_a_step_sends_anew() -> None:
    @dataclass
    class Loops(Workflow):
        rounds: int = 0

        def definition(self) -> Section:
            return Section(For("thrice", self.rounds < 3, Step("send", self.send)))

        def send(self) -> None:
            self.rounds += 1
            engine.callback("receiver", "a", 1)

    engine = LocalEngine(Two, Loops)
    engine.start(Two(), workflow_id="receiver")
    for workflow_id in ("one", "two"):
        engine.start(Loops(), workflow_id=workflow_id)
    assert engine.get("receiver").state.log == ["a1"] * 6


def test_a_workflow_that_begins_anew_with_an_id_sends_anew() -> None:
    @dataclass
    class Daily(Workflow):
        def definition(self) -> Section:
            return Section(Step("send", self.send))

        def send(self) -> None:
            hub.callback("hub", "a", 1)

    hub = LocalEngine(Two)
    hub.start(Two(), workflow_id="hub")
    for _ in range(2):  # as it may once the first is kept no longer, or in another store
        LocalEngine(Daily).start(Daily(), workflow_id="daily")
    assert hub.get("hub").state.log == ["a1", "a1"]


def test_what_a_handler_sends_to_another_workflow_counts_once() -> None:
    @dataclass
    class Forwards(Workflow):
        tried: int = 0

        def definition(self) -> Section:
            return Section(
                Wait("for time", On("time", Timeout(minutes=1))),
                Wait("for it", On("it", self.on_it)),
            )

        def on_it(self) -> None:
            engine.callback("receiver", "a", 1)
            RUNS.append(1)
            if len(RUNS) < 3:
                raise ConnectionError

    RUNS.clear()
    engine = LocalEngine(Two, Forwards)
    engine.start(Two(), workflow_id="receiver")
    engine.start(Forwards(), workflow_id="w")
    engine.callback("w", "it")
    engine.advance(hours=1)
    assert len(RUNS) == 3
    assert engine.get("receiver").state.log == ["a1"]


def test_an_id_that_a_step_gives_counts_as_it_is() -> None:
    @dataclass
    class Gives(Workflow):
        name: str = ""

        def definition(self) -> Section:
            return Section(Step("send", self.send))

        def send(self) -> None:
            engine.callback("receiver", "a", 1, event_id="k")

    engine = LocalEngine(Two, Gives)
    engine.start(Two(), workflow_id="receiver")
    for workflow_id in ("one", "two"):
        engine.start(Gives(), workflow_id=workflow_id)
    assert engine.get("receiver").state.log == ["a1"]


@pytest.mark.parametrize("alongside", [True, False])
def test_what_a_step_sends_to_its_own_workflow_counts_once(alongside: bool) -> None:
    @dataclass
    class Own(Workflow):
        got: list[int] = field(default_factory=list)
        done: bool = False

        def definition(self) -> Section:
            wait = Wait("for a number", On("number", self.on_number))
            listen = Go("listen", For("twice", len(self.got) < 2, wait))
            if alongside:
                return Section(listen, Step("send", self.send, into="done"))
            return Section(listen, Step("send", self.send_here))

        def on_number(self, number: int) -> None:
            self.got.append(number)

        def send(self) -> bool:
            for number in (1, 2):
                engine.callback("w", "number", number)
            RUNS.append(1)
            if len(RUNS) == 1:
                raise ConnectionError
            return True

        def send_here(self) -> None:
            self.done = self.send()

    RUNS.clear()
    engine = LocalEngine(Own)
    engine.start(Own(), workflow_id="w")
    engine.advance(hours=1)
    assert engine.get("w").state.got == [1, 2]
    assert engine.get("w").status is Status.FINISHED
