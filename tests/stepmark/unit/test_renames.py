"""What stays the same when a deploy, or the state, changes the definition between two attempts."""

from dataclasses import dataclass, field
from functools import partial

from stepmark import (
    Engine,
    Go,
    Handler,
    MemoryStore,
    On,
    Request,
    Retry,
    Section,
    Status,
    Step,
    Timeout,
    Wait,
    Workflow,
    check_store,
    current,
)
from stepmark.testing import LocalEngine, VirtualClock, run_due

KEYS: dict[str, list[str]] = {}
RETRY = Retry(attempts=9, first_delay=10, factor=1, jitter=0)


def note(what: str, key: str, fails: int) -> None:
    keys = KEYS.setdefault(what, [])
    keys.append(key)
    if len(keys) <= fails:
        raise ConnectionError


class Ticket(Handler[str, str]):
    retry = RETRY

    def setup(self, request: Request[str]) -> str:
        note("setup", request.idempotency_key, 2)
        return request.idempotency_key

    def handle(self, request: Request[str], payload: str) -> None:
        note(f"handle {payload}", request.idempotency_key, 2)

    def teardown(self, request: Request[str], handled: bool) -> None:
        note(f"teardown {handled}", request.idempotency_key, 2)


@dataclass
class Before(Workflow, name="renamed"):
    found: str = ""

    def definition(self) -> Section:
        return Section(
            Go("beside", Step("charge", self.charge, retry=RETRY)),
            Go("in the air", Step("fetch", self.fetch, into="found", retry=RETRY)),
            Wait("for a person", On("ticket", Ticket()), On("late", Timeout(hours=1))),
        )

    def charge(self) -> None:
        note("charge", current().idempotency_key, 2)

    def fetch(self) -> str:
        note("fetch", current().idempotency_key, 2)
        return "found"


@dataclass
class After(Before, name="renamed"):
    def definition(self) -> Section:
        return Section(
            Go("aside", Step("debit", self.charge, retry=RETRY, aliases=("charge",)), aliases=("beside",)),
            Go("in the air", Step("get", self.fetch, into="found", retry=RETRY, aliases=("fetch",))),
            Wait(
                "for somebody",
                On("task", Ticket(), aliases=("ticket",)),
                On("late", Timeout(hours=1)),
                aliases=("for a person",),
            ),
        )


@dataclass
class Later(After, name="renamed"):
    """Renamed once more."""

    def definition(self) -> Section:
        return Section(
            Go("aside", Step("pay", self.charge, aliases=("charge", "debit")), aliases=("beside",)),
            Go("in the air", Step("take", self.fetch, into="found", aliases=("fetch", "get"))),
            Wait(
                "for anybody",
                On("work", Ticket(), aliases=("ticket", "task")),
                On("late", Timeout(hours=1)),
                aliases=("for a person", "for somebody"),
            ),
        )


def test_guarantee_02_the_idempotency_key_outlasts_renames() -> None:
    KEYS.clear()
    store, clock = MemoryStore(), VirtualClock()
    engine = Engine([Before], store=store, clock=clock)
    engine.start(Before(), workflow_id="w")
    for deploy in (After, Later):
        engine = Engine([deploy], store=store, clock=clock)
        clock.sleep(10)
        engine.resume("w")
    for what in ("charge", "fetch", "setup"):
        assert len(KEYS[what]) == 3, what
        assert len(set(KEYS[what])) == 1, what
    assert engine.get("w").state.found == "found"
    assert len({keys[0] for keys in KEYS.values()}) == 3  # each piece of work has its own


def test_guarantee_02_the_key_of_a_teardown_outlasts_renames() -> None:
    KEYS.clear()
    KEYS["setup"] = ["", ""]  # it need not fail here
    store, clock = MemoryStore(), VirtualClock()
    Engine([Before], store=store, clock=clock).start(Before(), workflow_id="w")
    Engine([After], store=store, clock=clock).cancel("w")
    assert len(KEYS["teardown False"]) == 1
    run_due(Engine([Later], store=store, clock=clock), clock, clock.now() + 100)
    assert len(KEYS["teardown False"]) == 3
    assert len(set(KEYS["teardown False"])) == 1


def test_guarantee_02_the_key_of_a_kept_events_handler_outlasts_renames() -> None:
    @dataclass
    class First(Workflow, name="kept"):
        def definition(self) -> Section:
            return Section(Wait("pause", On("go", Timeout(seconds=1))), Wait("for it", On("it", Ticket())))

    @dataclass
    class Second(Workflow, name="kept"):
        def definition(self) -> Section:
            wait = Wait("for that", On("that", Ticket(), aliases=("it",)), aliases=("for it",))
            return Section(Wait("pause", On("go", Timeout(seconds=1))), wait)

    KEYS.clear()
    KEYS["setup"] = ["", ""]  # it need not fail here
    store, clock = MemoryStore(), VirtualClock()
    engine = Engine([First], store=store, clock=clock)
    engine.start(First(), workflow_id="w")
    engine.callback("w", "it", "kept")
    run_due(engine, clock, clock.now() + 1)
    assert len(KEYS["handle kept"]) == 1
    run_due(Engine([Second], store=store, clock=clock), clock, clock.now() + 100)
    assert len(KEYS["handle kept"]) == 3
    assert len(set(KEYS["handle kept"])) == 1


@dataclass
class Shrinking(Workflow):
    """A Go for each name; the names change."""

    names: list[str] = field(default_factory=lambda: ["a", "b"])
    ran: list[str] = field(default_factory=list)

    def definition(self) -> Section:
        gos = [
            Go("per", Wait("pause", On("go", None)), Step("do", partial(self.do, name)), id=name)
            for name in self.names
        ]
        return Section(*gos, Wait("for a change", On("drop", self.drop)))

    def do(self, name: str) -> None:
        self.ran.append(f"{current().thread_id} did {name}")

    def drop(self) -> None:
        self.names = ["a"]


def test_guarantee_09_a_thread_whose_go_was_dropped_does_not_run_anothers() -> None:
    engine = LocalEngine(Shrinking)
    engine.start(Shrinking(), workflow_id="w")
    engine.callback("w", "drop")
    assert [problem.thread for problem in check_store(Shrinking, engine.store)] == ["per[b]"]
    engine.callback("w", "go", thread="per[a]")
    engine.callback("w", "go", thread="per[b]")
    snapshot = engine.get("w")
    assert snapshot.status is Status.PARKED
    assert "Go 'per' with id 'b'" in str(snapshot.error)
    assert snapshot.state.ran == ["a did a"]
    assert snapshot.threads["per[b]"].parked
