"""What is easily written and would do something else than it says is refused, with what to write instead."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from pydantic import BaseModel
from stepmark import (
    DefinitionError,
    Engine,
    Finish,
    For,
    HandlerFailed,
    If,
    MemoryStore,
    On,
    Retry,
    Section,
    SqliteStore,
    StateError,
    Statement,
    Status,
    Step,
    Switch,
    Wait,
    WaitFor,
    Workflow,
    current,
    run_worker,
)
from stepmark.testing import LocalEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

ONCE = Retry(attempts=1)


@dataclass
class Plain(Workflow):
    n: int = 0
    items: list[int] = field(default_factory=list)

    def definition(self) -> Section:
        return Section(Step("add", self.add))

    def add(self) -> None:
        self.n += 1


# --- steps that run nothing --------------------------------------------------------------------------------


@dataclass
class Generators(Workflow):
    kind: str
    n: int = 0

    def definition(self) -> Section:
        actions: dict[str, Callable[[], Any]] = {
            "generator": self.generate,
            "async generator": self.generate_async,
            "part of one": partial(self.generate, 2),
            "returned": lambda: self.generate(),  # noqa: PLW0108 - looks like any other function
            "returned later": self.return_async,
        }
        return Section(Step("work", actions[self.kind]), Step("more", self.generated, into=self.take))

    def generate(self, by: int = 1) -> Iterator[int]:
        self.n += by
        yield self.n

    async def generate_async(self) -> AsyncIterator[int]:
        self.n += 1
        yield self.n

    async def return_async(self) -> AsyncIterator[int]:
        return self.generate_async()

    def generated(self) -> int:
        return 1

    def take(self, _: int) -> None: ...


@pytest.mark.parametrize("kind", ["generator", "async generator", "part of one"])
def test_a_generator_function_is_no_action(kind: str) -> None:
    engine = LocalEngine(Generators)
    with pytest.raises(
        DefinitionError, match=r"^Step 'work': its action has a `yield` and would run nothing"
    ):
        engine.start(Generators(kind), workflow_id="1")
    assert engine.store.load("1") is None


@pytest.mark.parametrize("kind", ["returned", "returned later"])
def test_a_generator_that_comes_of_an_action_parks_it_at_once(kind: str) -> None:
    snapshot = LocalEngine(Generators).start(Generators(kind), workflow_id="1")
    assert (snapshot.status, snapshot.threads["main"].attempt) == (Status.PARKED, 1)
    assert "has a `yield` and so runs nothing" in (snapshot.error or "")


@dataclass
class Handled(Workflow):
    n: int = 0

    def definition(self) -> Section:
        return Section(Wait("for it", On("event", self.on_event), On("stop", None, Finish("stopped"))))

    def on_event(self) -> Iterator[int]:
        self.n += 1
        yield self.n


def test_a_generator_as_a_handler_is_refused_to_the_sender() -> None:
    engine = LocalEngine(Handled)
    engine.start(Handled(), workflow_id="1")
    with pytest.raises(HandlerFailed, match="on_event has a `yield` and so runs nothing"):
        engine.callback("1", "event")
    assert engine.get("1").status is Status.WAITING


@dataclass
class Condition(Workflow):
    n: int = 0

    def definition(self) -> Section:
        return Section(If(self.holds, "yes", Step("work", self.work)))

    def holds(self) -> Any:
        yield self.n > 0

    def work(self) -> None: ...


def test_a_generator_is_no_condition() -> None:
    with pytest.raises(DefinitionError, match="a plain function without a `yield`"):
        LocalEngine(Condition).start(Condition())


# --- a state that changes while nobody is to change it -----------------------------------------------------


@dataclass
class Changing(Workflow):
    """Changes itself where it says so."""

    where: str
    n: int = 0
    items: list[int] = field(default_factory=list)
    names: set[str] = field(default_factory=lambda: {"a", "b", "c"})

    def definition(self) -> Section:
        if self.where == "definition":
            self.n += 1
        if self.where == "deep in definition":
            self.items.append(1)
        return Section(
            Wait("for it", On("go")),
            If(self.condition, "yes", Step("inside", self.nothing)),
            For("loop", self.loop, Step("again", self.again)),
            WaitFor("gate", self.gate, self.nothing),
            Wait("at the end", On("end")),
        )

    def condition(self) -> bool:
        return self._count("condition")

    def loop(self) -> bool:
        self._count("loop")
        return not self.items

    def gate(self) -> bool:
        return self._count("gate")

    def _count(self, where: str) -> bool:
        if self.where == where:
            self.n += 1
        return True

    def nothing(self) -> None: ...

    def again(self) -> None:
        self.items = [1]


@pytest.mark.parametrize(("where", "field_name"), [("definition", "n"), ("deep in definition", "items")])
def test_a_definition_that_changes_the_state_does_not_begin(where: str, field_name: str) -> None:
    engine = LocalEngine(Changing)
    with pytest.raises(DefinitionError, match=f"has changed field '{field_name}', which only steps"):
        engine.start(Changing(where), workflow_id="1")
    assert engine.store.load("1") is None


@pytest.mark.parametrize("where", ["condition", "loop", "gate"])
def test_a_condition_that_changes_the_state_parks_before_a_change_is_stored(where: str) -> None:
    engine = LocalEngine(Changing)
    engine.start(Changing(where), workflow_id="1")
    engine.callback("1", "go")
    snapshot = engine.get("1")
    assert (snapshot.status, snapshot.state.n) == (Status.PARKED, 0)
    assert "has changed field 'n', which only steps and handlers may" in (snapshot.error or "")


def test_who_changes_nothing_goes_on() -> None:
    engine = LocalEngine(Changing)
    engine.start(Changing("nowhere"), workflow_id="1")
    engine.callback("1", "go")
    engine.callback("1", "end")
    assert engine.get("1").status is Status.FINISHED


@dataclass
class Older(Workflow, name="aged"):
    def definition(self) -> Section:
        return Section(Wait("for it", On("go")))


@dataclass
class Newer(Workflow, name="aged"):
    token: str = field(default_factory=lambda: uuid4().hex)

    def definition(self) -> Section:
        return Section(Wait("for it", On("go")))


def test_a_new_field_s_default_is_no_change() -> None:
    store = MemoryStore()
    Engine([Older], store=store).start(Older(), workflow_id="1")
    engine = Engine([Newer], store=store)
    engine.callback("1", "go")
    assert engine.get("1").status is Status.FINISHED


class Model(BaseModel, Workflow):
    names: set[str] = set()

    def definition(self) -> Section:
        return Section(Step("add", self.add), Step("more", self.add))

    def add(self) -> None:
        self.names |= {f"name {len(self.names) + each}" for each in range(50)}


def test_a_set_in_another_order_is_no_change() -> None:
    assert LocalEngine(Model).start(Model()).status is Status.FINISHED


# --- what is no list of statements, and no list of classes -------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Section([Step("a", print)]),  # type: ignore[arg-type]
        lambda: Section(Step(name, print) for name in "ab"),  # type: ignore[arg-type]
        lambda: For("loop", True, [Step("a", print)]),  # type: ignore[arg-type]
        lambda: Switch([Finish()]),  # type: ignore[arg-type]
    ],
)
def test_a_list_in_place_of_statements_needs_a_star(make: Callable[[], Statement]) -> None:
    with pytest.raises(TypeError, match=r" takes statements, not .*: put a \* before it, as in \w+\(\*"):
        make()


def test_a_function_in_place_of_a_statement_needs_a_step() -> None:
    with pytest.raises(TypeError, match=r": Step\('print', \.\.\.\) makes a statement of it$"):
        Section(print)  # type: ignore[arg-type]


def test_nothing_in_place_of_a_statement_is_named() -> None:
    with pytest.raises(TypeError, match=r"^Switch takes statements, not None$"):
        Switch(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [Plain, None, 7])
def test_an_engine_takes_a_list_of_classes(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^give workflow classes in a list, such as \[Approval\], not "):
        Engine(given, store=MemoryStore())


@pytest.mark.parametrize("given", [Plain(), int, "Plain"])
def test_an_engine_takes_workflow_classes(given: Any) -> None:
    with pytest.raises(
        TypeError, match="is no workflow class: give the class itself, which extends Workflow"
    ):
        Engine([given], store=MemoryStore())


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_lease_lasts_for_some_time(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^lease_seconds must be a number above zero, not "):
        Engine([Plain], store=MemoryStore(), lease_seconds=seconds)


def test_outside_of_a_step_nothing_is_current() -> None:
    with pytest.raises(LookupError, match=r"^no step runs here: call current\(\) in a step or handler"):
        current()


# --- numbers that JSON does not know -----------------------------------------------------------------------


@dataclass
class Number(Workflow):
    n: float = 0.0

    def definition(self) -> Section:
        return Section(Step("divide", self.divide, retry=ONCE))

    def divide(self) -> None:
        self.n = float("nan")


def test_what_is_no_number_is_not_stored() -> None:
    snapshot = LocalEngine(Number).start(Number())
    assert (snapshot.status, snapshot.state) == (Status.PARKED, Number())
    assert "field 'n'" in (snapshot.error or "")
    with pytest.raises(StateError, match="field 'n'"):
        LocalEngine(Number).start(Number(float("inf")))


# --- a fork ------------------------------------------------------------------------------------------------


def in_a_fork(work: Callable[[], object], said: Path) -> str:
    """What that raises in a forked process, which is ended if it hangs."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            work()
            said.write_text("nothing")
        except BaseException as error:  # noqa: BLE001 - whatever it is
            said.write_text(f"{type(error).__name__}: {error}")
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    return said.read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no forks")
def test_an_engine_of_before_a_fork_is_refused(tmp_path: Path) -> None:
    engine = Engine([Plain], store=SqliteStore(tmp_path / "workflows.db"))
    engine.start(Plain(), workflow_id="1")
    refused = "RuntimeError: this Engine was made before a fork: make store and engine in each process"
    for work in (
        lambda: engine.start(Plain(), workflow_id="2"),
        lambda: engine.resume("1"),
        lambda: engine.get("1"),
        lambda: engine.callback("1", "event"),
        lambda: run_worker(engine),
    ):
        assert in_a_fork(work, tmp_path / "said") == refused
    own = in_a_fork(
        lambda: Engine([Plain], store=SqliteStore(tmp_path / "workflows.db")).start(Plain(), workflow_id="3"),
        tmp_path / "said",
    )
    assert own == "nothing"
    assert [engine.get(name).status for name in ("1", "3")] == [Status.FINISHED, Status.FINISHED]
