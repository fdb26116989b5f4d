"""Whatever is accepted where a value enters can be read everywhere afterwards."""

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stepmark import (
    Engine,
    Finish,
    Handler,
    HandlerFailed,
    Happened,
    If,
    Observation,
    On,
    PayloadRefused,
    Record,
    Request,
    Retry,
    Section,
    SqliteStore,
    StateError,
    Status,
    Step,
    Wait,
    Workflow,
    check_store,
    live_positions,
)
from stepmark.cli import main
from stepmark.core.record import Progress
from stepmark.core.values import MAX_DEPTH, encode, nested_too_deep, too_deep
from stepmark.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable


def nested(levels: int, kind: str = "list", inside: Any = 1) -> Any:
    value = inside
    for level in range(levels):
        in_list = kind == "list" or (kind == "both" and level % 2)
        value = [value] if in_list else {"k": value}
    return value


class Taken:
    """The value that a workflow's functions hand on; no field of theirs, so that it is stored nowhere."""

    value: Any = None


class Box(Handler[Any, Any]):
    retry = Retry(attempts=1)

    def setup(self, request: Request[Any]) -> Any:
        assert isinstance(request.state, Holder)
        return Taken.value if request.state.where == "setup" else None

    def handle(self, request: Request[Any], payload: Any) -> Any:
        return [request.setup_data, payload]


class Seen(Observation[Any]):
    retry = Retry(attempts=1)

    def look(self, request: Request[None]) -> Happened | None:
        assert isinstance(request.state, Holder)
        return Happened(Taken.value) if request.state.where == "look" else None

    def handle(self, request: Request[None], payload: Any) -> None: ...


@dataclass
class Holder(Workflow, name="holder"):
    """Takes a value where it is told to."""

    where: str = ""
    kept: Any = None
    found: Any = None
    list_of: list[Any] = field(default_factory=list)

    def definition(self) -> Section:
        once = Retry(attempts=1)
        return Section(
            If(self.where == "result", "result", Finish(Taken.value)),
            If(self.where == "into", "into", Step("into", lambda: Taken.value, into="found", retry=once)),
            If(self.where == "state", "state", Step("state", self.keep, retry=once)),
            Wait("w", On("event", self.on_event), On("box", Box()), On("seen", Seen())),
            Wait("another", On("end", None)),
        )

    def keep(self) -> None:
        self.list_of = [[Taken.value]]

    def on_event(self, payload: Any) -> Any:
        if self.where == "output":
            return payload
        if self.where == "deeper":
            self.list_of.append({"part": payload})
        return None


def values() -> st.SearchStrategy[Any]:
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([4299, 4300, 4301, 9000]).map(lambda digits: 10**digits),
        st.sampled_from([4298, 4299, 4300]).map(lambda digits: -(10**digits)),
        st.sampled_from([math.nan, math.inf, -math.inf, 1e308]),
        st.floats(),
        st.text(),
        st.sampled_from(["\ud800", "\udfff", "NaN", '"[[[', "\\", '\\"', "\x00", "x" * 10_000]),
    )
    shallow = st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    )
    deep = st.builds(
        nested,
        st.one_of(
            *(st.integers(0, 400), st.integers(MAX_DEPTH - 4, MAX_DEPTH + 2)),
            *(st.integers(192, 202), st.just(5_000)),  # the parser ends at 200
        ),
        st.sampled_from(["list", "dict", "both"]),
        plain,
    )
    long_key = st.builds(lambda size: {"k" * size: 1}, st.sampled_from([1, 1_000, 60_000, 70_000]))
    return st.one_of(shallow, deep, long_key)


def everything_else_works(engine: Engine, store: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Each way to look at a workflow and to change it."""
    engine.get("w").to_dict()
    said = json.dumps(engine.get("w").to_dict(brief=True), ensure_ascii=False, allow_nan=False)
    assert json.loads(said)["workflowId"] == "w"
    assert check_store(Holder, store) == []
    assert all(position.unread is None for position in live_positions(store))
    capsys.readouterr()
    for command in (("list",), ("show", "w"), ("check", f"{__name__}:Holder")):
        assert main((command[0], "--store", f"sqlite:{store_path(store)}", *command[1:])) == 0
        capsys.readouterr()
    engine.look("w")
    engine.retry("w")
    if not engine.get("w").status.closed:
        engine.move("w", "main", "another")
        engine.callback("w", "end")
        assert engine.get("w").status is Status.FINISHED
    engine.cancel("w")


def store_path(store: SqliteStore) -> str:
    path: str = store._connection.execute("PRAGMA database_list").fetchone()[2]
    return path


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Holder.__module__])


def clean(store: SqliteStore) -> None:
    store._connection.execute("DELETE FROM workflows")


ERRORS = (PayloadRefused, HandlerFailed, StateError)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    "where", ["start", "payload", "output", "deeper", "setup", "look", "into", "state", "result"]
)
def test_what_is_accepted_can_be_read_everywhere_and_what_is_not_changes_nothing(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SqliteStore(tmp_path / "w.db")
    engine = Engine([Holder], store=store, clock=VirtualClock())
    outcomes: set[str] = set()

    @settings(max_examples=120, deadline=None)
    @given(value=values())
    def try_one(value: Any) -> None:
        clean(store)
        Taken.value = value
        try:
            engine.start(Holder(where, value if where == "start" else None), workflow_id="w")
        except ERRORS:
            assert where in {"start", "result"}
            assert store.load("w") is None
            outcomes.add("refused")
            return
        before = store.load("w")
        if where in {"payload", "output", "deeper"}:
            try:
                engine.callback("w", "event", value, event_id="1")
            except ERRORS:
                after = store.load("w")
                assert before is not None
                assert after is not None
                assert (after.status, after.state) == (before.status, before.state)
                assert Progress.from_json(after.progress).events == []
                outcomes.add("refused")
        status = engine.get("w").status
        outcomes.add("parked" if status is Status.PARKED else "accepted")
        if status is Status.PARKED:
            assert "holds" in str(engine.get("w").error) or "stored" in str(engine.get("w").error)
        Taken.value = None  # what look() finds from here on is another story
        everything_else_works(engine, store, capsys)

    try_one()
    assert outcomes >= {"accepted"}
    assert outcomes & {"refused", "parked"}


@pytest.mark.parametrize("kind", ["list", "dict", "both"])
def test_the_bound_is_a_number_of_levels(kind: str) -> None:
    for levels in range(MAX_DEPTH - 1, MAX_DEPTH + 120):
        value = nested(levels, kind, "[[[{{{")
        assert nested_too_deep(value) == (levels > MAX_DEPTH)
        assert too_deep(json.dumps(value)) == (levels > MAX_DEPTH)
        if levels > MAX_DEPTH:
            with pytest.raises(StateError, match="it is nested more than 100 levels deep"):
                encode(value, "it", StateError)
        else:
            assert json.loads(encode(value, "it", StateError)) == value


def test_many_values_side_by_side_are_not_deep() -> None:
    value = [{"k\\": ["]", "}", '"', "\\"], "[": {}} for _ in range(5_000)]
    assert not too_deep(json.dumps(value))
    assert not nested_too_deep(value)


def test_what_holds_itself_is_too_deep_and_said_to_be() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(PayloadRefused, match="nested more than 100"):
        encode(ring, "it", PayloadRefused)
    wide: Any = 1
    for _ in range(300):  # 2 ** 300 ways through it
        wide = [wide, wide]
    with pytest.raises(PayloadRefused, match="nested more than 100"):
        encode(wide, "it", PayloadRefused)


def test_a_state_is_bounded_as_a_whole_and_the_error_names_the_field() -> None:
    engine = Engine([Holder], store=SqliteStore(":memory:"))
    engine.start(Holder(kept=nested(MAX_DEPTH - 1)), workflow_id="fits")
    for levels in (MAX_DEPTH, 190, 250, 300, 2_000):
        with pytest.raises(StateError, match=r"field 'kept' of Holder can't be stored: .* 100 levels"):
            engine.start(Holder(kept=nested(levels)), workflow_id="deep")


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"k": -math.inf}, 1e400])
def test_a_number_that_json_does_not_have_is_refused(value: Any) -> None:
    engine = Engine([Holder], store=SqliteStore(":memory:"))
    engine.start(Holder("output"), workflow_id="w")
    with pytest.raises(PayloadRefused, match="not finite"):
        engine.callback("w", "event", value)


@pytest.mark.parametrize("identity", ["event_id", "thread"])
def test_half_a_character_in_a_name_is_refused(identity: str) -> None:
    engine = Engine([Holder], store=SqliteStore(":memory:"))
    engine.start(Holder(), workflow_id="w")
    before = engine.get("w").version
    send: Callable[..., Any] = engine.callback
    with pytest.raises(Exception, match="ud800") as raised:
        send("w", "event", None, **{identity: "\ud800"})
    assert type(raised.value).__name__ in {"ValueError", "UnknownThread"}
    assert engine.get("w").version == before


# -- records that nobody can read -----------------------------------------------------------------------


def spoil(store: SqliteStore, workflow_id: str, **columns: str) -> None:
    for column, text in columns.items():
        store._connection.execute(
            f"UPDATE workflows SET {column} = ? WHERE workflow_id = ?",  # noqa: S608 - our own names
            (text, workflow_id),
        )


SPOILED = {
    "no JSON": {"progress": "{"},
    "empty": {"progress": ""},
    "another thing": {"progress": "[]"},
    "no threads": {"progress": "{}"},
    "a thread without a place": {"progress": '{"threads":[{"thread":"main"}]}'},
    "too deep": {"progress": '{"threads":[],"outputs":[["1",' + "[" * 100_000 + "]" * 100_000 + "]]}"},
    "an ending that we do not know": {"progress": '{"threads":[],"ended":"BURIED"}'},
    "a state that is no JSON": {"state": "{"},
    "a state that is too deep": {"state": '{"kept":' + "[" * 100_000 + "]" * 100_000 + "}"},
    "a status that we do not know": {"status": "PAUSED"},
}


@pytest.fixture
def three(tmp_path: Path) -> tuple[Engine, SqliteStore]:
    store = SqliteStore(tmp_path / "w.db")
    engine = Engine([Holder], store=store, clock=VirtualClock())
    for workflow_id in ("a", "b", "c"):
        engine.start(Holder(), workflow_id=workflow_id)
    return engine, store


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("how", SPOILED)
def test_readers_of_many_name_a_bad_record_and_go_on(
    how: str, three: tuple[Engine, SqliteStore], capsys: pytest.CaptureFixture[str]
) -> None:
    engine, store = three
    spoil(store, "b", **SPOILED[how])
    url = ("--store", f"sqlite:{store_path(store)}")

    assert main(("list", *url)) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["a", "b", "c"]
    code = main(("check", *url, "--all", f"{__name__}:Holder"))
    found = {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()}
    is_bad = "status" not in SPOILED[how]
    assert (code, found) == ((1, {"b"}) if is_bad else (0, set()))
    assert {problem.workflow_id for problem in check_store(Holder, store)} == found
    assert {position.workflow_id for position in live_positions(store)} == {"a", "b", "c"}

    assert main(("show", *url, "b")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["workflowId"] == "b"
    assert engine.get("b").to_dict(brief=True)["workflow"] == "holder"
    for other in ("a", "c"):
        assert engine.callback(other, "event", "x") is None

    assert main(("cancel", *url, "--here", "b", f"{__name__}:Holder")) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "CANCELLED"
    assert engine.get("b").status is Status.CANCELLED
    assert store.due(1e12, 10) == []
    assert engine.cancel("b").status is Status.CANCELLED


@pytest.mark.parametrize("how", [how for how in SPOILED if "progress" in SPOILED[how]])
def test_what_nobody_can_run_is_parked_and_asks_for_no_worker(
    how: str, three: tuple[Engine, SqliteStore]
) -> None:
    engine, store = three
    spoil(store, "b", **SPOILED[how])
    for call in (engine.resume, engine.look):
        snapshot = call("b")
        assert snapshot.status is Status.PARKED
        assert "can't be read" in str(snapshot.error)
    version = engine.get("b").version
    calls: list[Callable[[], Any]] = [
        lambda: engine.callback("b", "event"),
        lambda: engine.retry("b"),
        lambda: engine.move("b", "main", "w"),
    ]
    for refused in calls:
        with pytest.raises(StateError, match="can't be read"):
            refused()
    engine.resume("b")
    assert engine.get("b").version == version
    record = store.load("b")
    assert isinstance(record, Record)
    assert (record.progress, record.due_at) == (SPOILED[how]["progress"], None)


def test_what_the_release_before_stored_too_deep_is_read(three: tuple[Engine, SqliteStore]) -> None:
    """It accepted what the parser takes alone, and put it three levels deeper."""
    engine, store = three
    record = store.load("b")
    assert record is not None
    output = "[" * 199 + "]" * 199
    spoil(store, "b", progress=record.progress[:-1] + ',"outputs":[["1",' + output + "]]}")
    assert engine.get("b").error is None
    assert engine.callback("b", "event", event_id="1") == json.loads(output)
    assert check_store(Holder, store) == []
    assert engine.callback("b", "event", "x") is None
    assert engine.cancel("b").status is Status.CANCELLED
