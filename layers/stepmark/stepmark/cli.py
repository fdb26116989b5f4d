"""The `stepmark` command: look at workflows, check a deploy, repair what is stuck."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sqlite3
import sys
from contextlib import closing
from inspect import isabstract, isclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NoReturn

from stepmark.core.check import Problem, check
from stepmark.core.describe import describe
from stepmark.core.diagram import to_mermaid
from stepmark.core.record import Progress, Status
from stepmark.definition.workflow import Workflow
from stepmark.errors import (
    DefinitionError,
    StateError,
    StepmarkError,
    UnknownWorkflow,
    WorkflowNotFound,
    printable,
)
from stepmark.runtime.engine import Engine, run_worker
from stepmark.runtime.ledger import Budget
from stepmark.runtime.live import check_store
from stepmark.stores.sqlite import SqliteStore
from stepmark.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepmark.core.record import Record
    from stepmark.stores.protocol import Store

INTERRUPTED = 130  # what shells say of a command that Ctrl-C has ended
NOTHING_HERE = Budget(steps=0)  # change the record, leave the work to the workers


class _UsageError(Exception):
    """What the person who typed the command can mend."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when done, 1 when `check` has found problems, 2 when it could not be done.

    `check` ends with 2 when a definition is not valid at all.
    """
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    # The program's own modules are found there, and none of them in the place of an installed one.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        return run(given)
    except (StepmarkError, _UsageError) as error:
        print(f"stepmark: {printable(str(error))}", file=sys.stderr)
        return 2


def open_store(url: str, *, new: bool = False) -> Store:
    """The store of a URL: `sqlite:workflows.db`, `sqlite:///relative.db`, `sqlite:////absolute.db`.

    Or `dynamodb:TABLE`, with region and credentials as for the AWS command line. new: whether a file that is
    not there is made.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "dynamodb" and rest:
        try:
            from stepmark.dynamodb import DynamoDBStore  # noqa: PLC0415 - botocore comes with stepmark[aws]
        except ImportError as error:
            raise _UsageError("DynamoDBStore needs botocore: pip install 'stepmark[aws]'") from error
        return DynamoDBStore(rest)
    if scheme != "sqlite" or not rest:
        raise _UsageError(f"{url!r} is no store: give sqlite:PATH or dynamodb:TABLE")
    path = Path(rest.removeprefix("///") if rest.startswith("///") else rest)
    if not new:
        _check_file(path)
    return SqliteStore(path)


def _check_file(path: Path) -> None:
    """Refuse what would become a store, empty, by being opened as one."""
    if not path.exists():
        raise _UsageError(f"there is no file {path}")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("SELECT 1 FROM workflows LIMIT 1")
    except sqlite3.Error as error:
        raise _UsageError(f"{path} is no store of stepmark's: {error}") from error


def load_class(target: str) -> type[Workflow]:
    """The workflow class of `module:Class`."""
    found = _load(target)
    if not (isclass(found) and issubclass(found, Workflow)):
        raise _UsageError(f"{target!r} is no Workflow class")
    if isabstract(found):
        raise _UsageError(f"{target!r} has no definition()")
    return found


def load_classes(targets: Sequence[str]) -> list[type[Workflow]]:
    """The workflow classes of all `module:Class`, and of `module:NAME` for a tuple or list of classes."""
    classes: list[type[Workflow]] = []
    for target in targets:
        found = _load(target)
        several = found if isinstance(found, tuple | list) else [load_class(target)]
        if not all(isclass(each) and issubclass(each, Workflow) for each in several):
            raise _UsageError(f"{target!r} holds something that is no Workflow class")
        classes += several
    return classes


def _load(target: str) -> Any:
    try:
        found: Any = resolve_name(target)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        why = f"{type(error).__name__}: {error}"
        raise _UsageError(f"{target!r} can't be imported (give module:Class): {why}") from error
    return found


def _engine(given: argparse.Namespace) -> tuple[Engine, str]:
    """An engine for the class of the workflow that is meant."""
    store = open_store(given.store)
    record = store.load(given.workflow_id)
    if record is None:
        raise WorkflowNotFound(f"there is no workflow {given.workflow_id!r}")
    classes = load_classes(given.workflow)
    if record.workflow not in {cls.__workflow_name__ for cls in classes}:
        raise UnknownWorkflow(
            f"workflow {given.workflow_id!r} is a {record.workflow!r}: give its class as module:Class"
        )
    return Engine(classes, store=store, budget=None if given.here else NOTHING_HERE), given.workflow_id


def _describe(given: argparse.Namespace) -> int:
    _print(describe(load_class(given.workflow)))
    return 0


def _diagram(given: argparse.Namespace) -> int:
    cls = load_class(given.workflow)
    if given.workflow_id is None:
        _print_lines(to_mermaid(cls))
        return 0
    if given.store is None:
        raise _UsageError("--workflow-id needs --store")
    snapshot = Engine([cls], store=open_store(given.store)).get(given.workflow_id)
    _print_lines(to_mermaid(cls, snapshot))
    return 0


def _list(given: argparse.Namespace) -> int:
    for record in open_store(given.store).live(given.name):
        if given.status in {None, record.status}:
            _print_row(record.workflow_id, record.workflow, record.status, _where(record))
    return 0


def _where(record: Record) -> str:
    try:
        threads = Progress.from_json(record.progress).threads.values()
    except StateError as error:
        return f"({error})"
    return ", ".join(f"{thread.key}: {thread.at}" for thread in threads)


def _show(given: argparse.Namespace) -> int:
    classes = load_classes(given.workflow)
    shown = Engine(classes, store=open_store(given.store)).get(given.workflow_id).to_dict()
    if shown["workflow"] not in {cls.__workflow_name__ for cls in classes}:
        for waiting in (shown, *shown["threads"].values()):
            waiting["waitingFor"] = None  # only its class would say
    _print(shown)
    return 0


def _check(given: argparse.Namespace) -> int:
    store = open_store(given.store)
    classes = load_classes(given.workflow)
    problems = [problem for cls in classes for problem in check_store(cls, store)]
    if given.all:
        problems += _of_no_class(store, {cls.__workflow_name__ for cls in classes})
    for problem in problems:
        _print_row(problem.workflow_id, problem.thread or "-", problem.message)
    parked = sum(problem.parks for problem in problems)
    print(f"{parked} threads or workflows would be parked", file=sys.stderr)
    if hidden := len(problems) - parked:
        print(f"{hidden} workflows have data that nothing would see any more", file=sys.stderr)
    for cls in classes:
        try:
            check(cls, [])  # one that no workflow could even start with
        except DefinitionError as error:
            raise DefinitionError(f"{cls.__qualname__}: {error}") from error
    return 1 if parked else 0


def _of_no_class(store: Store, names: set[str]) -> list[Problem]:
    return [
        Problem(record.workflow_id, f"there is no workflow class {record.workflow!r} any more")
        for record in store.live()
        if record.workflow not in names
    ]


def _retry(given: argparse.Namespace) -> int:
    engine, workflow_id = _engine(given)
    _print(engine.retry(workflow_id).to_dict())
    return 0


def _cancel(given: argparse.Namespace) -> int:
    engine, workflow_id = _engine(given)
    _print(engine.cancel(workflow_id).to_dict())
    return 0


def _move(given: argparse.Namespace) -> int:
    engine, workflow_id = _engine(given)
    _print(engine.move(workflow_id, given.thread, given.to).to_dict())
    return 0


def _worker(given: argparse.Namespace) -> int:
    engine = Engine(load_classes(given.workflow), store=open_store(given.store, new=True))
    wanted = {"poll_seconds": given.poll_seconds, "concurrency": given.concurrency}
    try:
        run_worker(engine, **{name: value for name, value in wanted.items() if value is not None})
    except KeyboardInterrupt:  # a second one: Python would wait for the threads of steps that go on
        logging.shutdown()
        os._exit(INTERRUPTED)
    return 0


# What moves a terminal's cursor or turns its writing round never leaves this program as it is: it may come
# from whoever has named a workflow, sent an event or made a step fail.


def _print(value: Any) -> None:
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    print("\n".join(line if _can_print(line) else _escaped(line) for line in lines))


def _can_print(text: str) -> bool:
    """Whether the terminal, or what stands for it, has all these letters, and none that moves its cursor."""
    if not text.isprintable():
        return False
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _escaped(json_text: str) -> str:
    """The same JSON: what can't be printed as it is stands in a string, and may be escaped there."""
    return "".join(c if _can_print(c) else json.dumps(c)[1:-1] for c in json_text)


def _row(text: str) -> str:
    if _can_print(text):
        return text
    return "".join(c if _can_print(c) else c.encode("unicode_escape").decode() for c in text)


def _print_row(*columns: str) -> None:
    print(*map(_row, columns), sep="\t")


def _print_lines(text: str) -> None:
    print(*map(_row, text.split("\n")), sep="\n", end="")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="stepmark", description="Look at durable workflows and repair them.")
    parser.add_argument("--version", action="version", version=f"stepmark {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_views(commands)
    _add_repairs(commands)
    one = _add(commands, "worker", _worker, "run what is due until stopped", store=True)
    one.add_argument("workflow", nargs="+", metavar="MODULE:CLASS")
    one.add_argument("--concurrency", type=_above_zero(int), metavar="N", help="how many run at once (8)")
    seconds = "how often the store is asked when nothing was due (0.2)"
    one.add_argument("--poll-seconds", type=_above_zero(float), metavar="SECONDS", help=seconds)
    return parser


def _above_zero[N: (int, float)](number: Callable[[str], N]) -> Callable[[str], N]:
    def read(text: str) -> N:
        value = number(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return value

    read.__name__ = number.__name__  # as argparse's message calls what is no number at all
    return read


def _add(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, *, store: bool
) -> Any:
    added = commands.add_parser(name, help=text, description=text)
    added.set_defaults(run=run)
    url = "for example sqlite:workflows.db, or dynamodb:TABLE"
    added.add_argument("--store", required=store, metavar="URL", help=url)
    return added


def _add_views(commands: Any) -> None:
    one = _add(commands, "describe", _describe, "print a workflow class as JSON", store=False)
    one.add_argument("workflow", metavar="MODULE:CLASS")

    one = _add(commands, "diagram", _diagram, "print a workflow class as a Mermaid flowchart", store=False)
    one.add_argument("workflow", metavar="MODULE:CLASS")
    one.add_argument("--workflow-id", metavar="ID", help="mark where this workflow is")

    one = _add(commands, "list", _list, "list the workflows that are not over", store=True)
    one.add_argument("--name", help="only workflows of this name")
    opened = [str(status) for status in Status if not status.closed]
    one.add_argument("--status", choices=opened, help="only those")

    one = _add(commands, "show", _show, "print one workflow as JSON", store=True)
    one.add_argument("workflow_id", metavar="ID")
    one.add_argument("workflow", nargs="*", metavar="MODULE:CLASS", help="to see the events it waits for")

    text = "list the live workflows that these definitions would park"
    one = _add(commands, "check", _check, text, store=True)
    one.add_argument("workflow", nargs="+", metavar="MODULE:CLASS")
    one.add_argument("--all", action="store_true", help="list the live workflows of all other classes too")


def _add_repairs(commands: Any) -> None:
    repairs = (
        ("retry", _retry, "give a workflow that is parked its attempts back"),
        ("move", _move, "put a thread at another statement"),
        ("cancel", _cancel, "end a workflow and tear down what it waits for"),
    )
    for name, run, text in repairs:
        one = _add(commands, name, run, text, store=True)
        one.add_argument("workflow_id", metavar="ID")
        if name == "move":
            one.add_argument("thread", metavar="THREAD", help='"main", or what `show` says')
            one.add_argument("to", metavar="STATEMENT")
        one.add_argument("workflow", nargs="+", metavar="MODULE:CLASS")
        one.add_argument("--here", action="store_true", help="go on in this process, not in a worker")


if __name__ == "__main__":
    sys.exit(main())
