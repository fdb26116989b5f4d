"""The `stepmark` command over a SQLite store."""

import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import stepmark
from stepmark import Engine, SqliteStore, Status, dynamodb
from stepmark.cli import main

V1 = """
from dataclasses import dataclass
from stepmark import Go, On, Retry, Section, Step, Timeout, Wait, Workflow

@dataclass
class Order(Workflow, name="order"):
    paid: bool = False
    broken: bool = False

    def definition(self) -> Section:
        return Section(
            Wait("for payment", On("payment", self.on_payment), On("late", Timeout(days=1))),
            Step("ship", self.ship, retry=Retry(attempts=1)),
            Step("bill", self.bill),
        )

    def on_payment(self, amount: int) -> int:
        self.paid = True
        self.broken = amount == 13
        return amount

    def ship(self) -> None:
        if self.broken:
            raise ConnectionError("no lorry")

    def bill(self) -> None:
        pass
"""
BROKEN = V1.replace("class Order", "class Broken").replace('"bill"', '"ship"')
V2 = V1.replace('Step("ship"', 'Step("send"').replace("self.ship", "self.ship")

type Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in an empty directory that has the modules `v1` and `v2`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, content in (("v1", V1), ("v2", V2), ("broken", BROKEN)):
        (tmp_path / f"{name}.py").write_text(content)
        monkeypatch.delitem(sys.modules, name, raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def engine(command: Command, tmp_path: Path) -> Engine:
    """Two orders: one waits, one is parked."""
    assert command("describe", "v1:Order")[0] == 0
    order = sys.modules["v1"].Order
    engine = Engine([order], store=SqliteStore(tmp_path / "w.db"))
    engine.start(order(), workflow_id="waits")
    engine.start(order(), workflow_id="parked")
    engine.callback("parked", "payment", 13)
    return engine


STORE = ("--store", "sqlite:w.db")


def loaded(said: str) -> Any:
    return json.loads(said)


@pytest.mark.usefixtures("engine")
def test_list_and_show(command: Command) -> None:
    code, said, _ = command("list", *STORE)
    assert code == 0
    assert said.splitlines() == [
        "parked\torder\tPARKED\tmain: ship",
        "waits\torder\tWAITING\tmain: for payment",
    ]
    assert command("list", *STORE, "--status", "PARKED")[1].count("\n") == 1
    assert command("list", *STORE, "--name", "nobody")[1] == ""
    shown = loaded(command("show", *STORE, "waits", "v1:Order")[1])
    assert shown["waitingFor"] == ["payment", "late"]
    assert shown["state"] == {"paid": False, "broken": False}
    unknown = loaded(command("show", *STORE, "parked")[1])
    assert unknown["error"] == "ship: ConnectionError: no lorry"
    assert (unknown["waitingFor"], unknown["threads"]["main"]["waitingFor"]) == (None, None)


@pytest.mark.usefixtures("engine")
def test_guarantee_10_the_command_says_which_live_workflows_a_deploy_would_park(command: Command) -> None:
    code, said, problems = command("check", *STORE, "v2:Order")
    assert code == 1
    assert said == "parked\tmain\tthe definition no longer has statement 'ship'\n"
    assert problems.startswith("1 ")
    assert command("check", *STORE, "v1:Order")[:2] == (0, "")


def test_retry_leaves_the_work_to_a_worker_unless_told(command: Command, engine: Engine) -> None:
    code, said, _ = command("retry", *STORE, "parked", "v1:Order")
    assert code == 0
    assert loaded(said)["status"] == "RUNNING"
    assert engine.resume("parked").status is Status.PARKED
    assert loaded(command("retry", *STORE, "parked", "v1:Order", "--here")[1])["status"] == "PARKED"


def test_move_and_cancel(command: Command, engine: Engine) -> None:
    said = loaded(command("move", *STORE, "parked", "main", "bill", "v1:Order")[1])
    assert said["threads"]["main"]["at"] == "bill"
    assert engine.resume("parked").status is Status.FINISHED
    assert loaded(command("cancel", *STORE, "waits", "v1:Order")[1])["status"] == "CANCELLED"
    assert command("list", *STORE)[1] == ""


@pytest.mark.usefixtures("engine")
def test_the_diagram_marks_a_workflow(command: Command) -> None:
    assert " live\n" not in command("diagram", "v1:Order")[1]
    assert " live\n" in command("diagram", "v1:Order", *STORE, "--workflow-id", "waits")[1]
    assert " parked\n" in command("diagram", "v1:Order", *STORE, "--workflow-id", "parked")[1]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "--store", "postgres:x"), "no store"),
        (("list", "--store", "sqlite:nothing.db"), "no file nothing.db"),
        (("describe", "nothing:Order"), "can't be imported"),
        (("describe", "v1:Nothing"), "can't be imported"),
        (("describe", "v1:dataclass"), "no Workflow class"),
        (("describe", "v1"), "no Workflow class"),
        (("describe", "torn:Order"), "SyntaxError"),
        (("describe", "leaves:Order"), "SystemExit"),
        (("check", *STORE, "empty:Empty"), "no definition()"),
        (("list", "--store", "sqlite:other.db"), "other.db is no store"),
        (("show", *STORE, "nobody"), "no workflow 'nobody'"),
        (("move", *STORE, "waits", "main", "nowhere", "v1:Order"), "it has: 'bill', 'for payment', 'ship'"),
        (("move", *STORE, "waits", "nobody", "bill", "v1:Order"), "no thread 'nobody'"),
        (("diagram", "v1:Order", "--workflow-id", "waits"), "--store"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_trace(
    command: Command, arguments: tuple[str, ...], message: str
) -> None:
    Path("torn.py").write_text("x = (")
    Path("leaves.py").write_text("raise SystemExit(7)")
    Path("empty.py").write_text("from stepmark import Workflow\nclass Empty(Workflow, name='empty'): pass\n")
    with closing(sqlite3.connect("other.db")) as other:
        other.execute("CREATE TABLE other (id)")
    before = Path("other.db").read_bytes()
    code, said, problem = command(*arguments)
    assert (code, said) == (2, "")
    assert Path("other.db").read_bytes() == before
    assert problem.startswith("stepmark: ")
    assert message in problem
    assert "Traceback" not in problem


def test_check_refuses_a_definition_that_is_not_valid_though_no_workflow_is_live(command: Command) -> None:
    SqliteStore("empty.db")
    assert command("check", "--store", "sqlite:empty.db", "v1:Order")[0] == 0
    code, said, problem = command("check", "--store", "sqlite:empty.db", "broken:Broken")
    assert (code, said) == (2, "")
    assert problem.splitlines() == [
        "0 threads or workflows would be parked",
        "stepmark: Broken: duplicate name 'ship': two statements of the definition have it",
    ]


@pytest.mark.usefixtures("engine")
def test_check_lists_what_a_definition_that_is_not_valid_would_park(command: Command) -> None:
    code, said, problem = command("check", *STORE, "broken:Broken")
    assert code == 2
    assert sorted(line.split("\t")[0] for line in said.splitlines()) == ["parked", "waits"]
    assert "stepmark: Broken: duplicate name 'ship'" in problem


@pytest.mark.parametrize("status", ["FINISHED", "CANCELLED", "nothing"])
def test_list_refuses_a_status_that_it_can_never_show(
    command: Command, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    with pytest.raises(SystemExit) as left:
        command("list", *STORE, "--status", status)
    assert left.value.code == 2
    assert "RUNNING, WAITING, PARKED)" in capsys.readouterr().err.replace("'", "")


def test_the_command_says_which_version_it_is(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command("--version")
    assert left.value.code == 0
    assert capsys.readouterr().out == f"stepmark {stepmark.__version__}\n"


def test_a_worker_makes_the_file_that_others_will_write_to(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Engine] = []
    monkeypatch.setattr("stepmark.cli.run_worker", ran.append)
    assert command("worker", "--store", "sqlite:new.db", "v1:Order") == (0, "", "")
    assert Path("new.db").exists()
    assert len(ran) == 1


def test_a_worker_takes_its_two_values(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, float]] = []
    monkeypatch.setattr("stepmark.cli.run_worker", lambda _engine, **options: given.append(options))
    worker = ("worker", "--store", "sqlite:new.db", "v1:Order")
    assert command(*worker, "--concurrency", "3", "--poll-seconds", "0.5") == (0, "", "")
    assert given == [{"concurrency": 3, "poll_seconds": 0.5}]
    for wrong in (("--concurrency", "0"), ("--concurrency", "x"), ("--poll-seconds", "inf")):
        with pytest.raises(SystemExit):
            command(*worker, *wrong)
    assert len(given) == 1


def test_a_table_needs_a_region_and_botocore(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    dynamodb._client.cache_clear()
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    code, said, problem = command("list", "--store", "dynamodb:Workflows")
    assert (code, said) == (2, "")
    assert problem.startswith("stepmark: DynamoDB can't be asked: You must specify a region.")
    monkeypatch.setitem(sys.modules, "stepmark.dynamodb", None)
    assert command("list", "--store", "dynamodb:Workflows") == (
        *(2, ""),
        "stepmark: DynamoDBStore needs botocore: pip install 'stepmark[aws]'\n",
    )
