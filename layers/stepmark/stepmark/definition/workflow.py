"""What every definition has: statements, a section of them, and the workflow whose state they change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from math import inf, isfinite
from typing import Any, ClassVar

MAIN = "main"  # the name of the thread that a workflow starts with

type Aliases = tuple[str, ...]


class Statement:
    """The base of all statements, for annotations.

    `key` tells two shapes of a definition apart (kinds, names and nesting, but no condition), and what is
    wrong from what is right; `body` holds the direct children.
    """

    __slots__ = ("aliases", "body", "key", "name")
    name: str
    aliases: Aliases
    key: Any
    body: tuple[Statement, ...]


def keys_of(statements: tuple[Statement, ...], owner: str) -> tuple[Any, ...]:
    try:
        return tuple([statement.key for statement in statements])
    except AttributeError:
        wrong: Any = next(each for each in statements if not hasattr(each, "key"))
        hint = ""
        if isinstance(wrong, list | tuple | Iterator):
            hint = f": put a * before it, as in {owner.partition(' ')[0]}(*statements)"
        elif callable(wrong):
            hint = f": Step({getattr(wrong, '__name__', 'name')!r}, ...) makes a statement of it"
        raise TypeError(f"{owner} takes statements, not {wrong!r}{hint}") from None


class EventSource:
    """The base of what an On can take besides a function: a Handler or a Timeout."""

    __slots__ = ()


class Section(Statement):
    """Statements that run in order; sections nest.

    Section(Step("first", self.first), Step("second", self.second))
    """

    __slots__ = ()

    def __init__(self, *statements: Statement) -> None:
        self.name = ""
        self.aliases = ()
        self.body = statements
        self.key = (Section, keys_of(statements, "Section"))


class Workflow(ABC):
    """A workflow: its fields are the state, its definition() the statements.

        @dataclass
        class Approval(Workflow, name="approval"):
            user: str = ""

            def definition(self) -> Section:
                return Section(Step("ask", self.ask))

    The class is a dataclass or a pydantic model. `name` is what is stored with each running workflow
    (the class's own name unless given): keep it when the class is renamed.
    `timeout`: seconds after its start at which its life ends, as by `Engine.start(ends_at=...)`: those of the
    class it was started with, unless that call gives an earlier end.
    """

    __workflow_name__: ClassVar[str]
    __workflow_timeout__: ClassVar[float | None] = None

    def __init_subclass__(
        cls, *, name: str | None = None, timeout: float | None = None, **settings: Any
    ) -> None:
        super().__init_subclass__(**settings)
        # @dataclass(slots=True) makes the class a second time, without the keyword: keep the first name
        if name is not None or "__workflow_name__" not in cls.__dict__:
            cls.__workflow_name__ = name if name is not None else cls.__name__
        if timeout is not None:
            cls.__workflow_timeout__ = check_seconds(timeout, f"workflow {cls.__name__!r}")

    @abstractmethod
    def definition(self) -> Section:
        """The statements, built from the current state; called again after every change of it."""


def classes_by_name(workflows: Iterable[type[Workflow]]) -> dict[str, type[Workflow]]:
    """The classes by what is stored with each workflow; TypeError or ValueError says what is none."""
    if isinstance(workflows, type) or not isinstance(workflows, Iterable):
        raise TypeError(f"give workflow classes in a list, such as [Approval], not {workflows!r}")
    classes: dict[str, type[Workflow]] = {}
    for cls in workflows:
        if not _is_workflow_class(cls):
            raise TypeError(f"{cls!r} is no workflow class: give the class itself, which extends Workflow")
        name = cls.__workflow_name__
        if classes.setdefault(name, cls) is not cls:
            raise ValueError(f"two workflow classes are called {name!r}: give one of them another name")
    return classes


def _is_workflow_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Workflow)


def check_start(workflow: object, workflow_id: object) -> None:
    """Refuse what can't be started: a class, or an id that no store can hold."""
    if not isinstance(workflow, Workflow):
        what = f"the class {workflow.__qualname__}" if isinstance(workflow, type) else repr(type(workflow))
        raise TypeError(f"start() takes a workflow with its state, such as Approval(user='ada'), not {what}")
    if workflow_id is None:
        return
    if not isinstance(workflow_id, str):
        raise TypeError(f"workflow_id must be a string, not {type(workflow_id).__name__}")
    if not workflow_id or not is_text(workflow_id):
        raise ValueError(f"workflow_id must be some text, not {workflow_id!r}")


def end_of_life(workflow: Workflow, ends_at: float | None, now: float) -> float | None:
    """When a workflow's life ends that is started now, in seconds since the epoch."""
    if ends_at is not None and not isfinite(ends_at):
        raise ValueError(f"ends_at must be a time in seconds since the epoch, not {ends_at!r}")
    timeout = type(workflow).__workflow_timeout__
    ends = [ends_at, None if timeout is None else now + timeout]
    return min((float(end) for end in ends if end is not None), default=None)


def check_seconds(given: object, where: str) -> float:
    """A length of time, or ValueError."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < inf:
        raise ValueError(f"{where}: timeout must be a number of seconds above zero, not {given!r}")
    return given


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8: one with half of a surrogate pair can't."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
