"""The statements that a definition is made of.

They only hold what they were given: a definition is built again after every change of the state, so building
it must cost next to nothing. `shape.py` checks and indexes them, once per shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from stepmark.definition.retry import check_errors
from stepmark.definition.workflow import Statement, check_seconds, keys_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from stepmark.definition.retry import Errors, Retry
    from stepmark.definition.workflow import Aliases, EventSource

    type Condition = bool | Callable[[], bool]


class Step(Statement):
    """Runs an action of the user's.

        Step("reserve", self.reserve, retry=Retry(attempts=3))     # changes fields of self
        Step("look up", self.look_up, into="customer")             # returns what goes into self.customer
        Step("look up", self.look_up, into=self.add_customer)      # or what self.add_customer() takes

    action: a `def` or `async def` without arguments. Its effect happens at least once, its commit exactly
    once; `current().idempotency_key` is the same on every attempt.
    into: without it steps run one at a time and may change the state. With it the action runs alongside other
    such steps, on a copy of the state that it must not change.
    retry: five attempts with growing delays unless given. When they are over, or the action raises
    DoNotRetry, its thread goes on in the branch that `or_else` has for that error; without one it is parked.
    timeout: how many seconds an attempt may take; after them it has failed with StepTimedOut, and is tried
    again as after any error. They are real seconds, with a LocalEngine too. An `async def` is cancelled,
    which it can't be while it blocks its event loop. A function can't be stopped: it runs in a thread of its
    own, which is left to itself then; what it changes in the state later is dropped. What either has done
    elsewhere stays done, and so does what it has told an engine, but for events to its own workflow. None: it
    may take for ever. Raises ValueError for what is no number above zero.
    """

    __slots__ = ("action", "into", "retry", "timeout")

    @overload
    def __init__(
        self,
        name: str,
        action: Callable[[], None] | Callable[[], Awaitable[None]],
        into: None = None,
        retry: Retry | None = None,
        *,
        timeout: float | None = None,
        aliases: Aliases = (),
    ) -> None: ...
    @overload
    def __init__[R](
        self,
        name: str,
        action: Callable[[], Awaitable[R]],
        into: str | Callable[[R], object],
        retry: Retry | None = None,
        *,
        timeout: float | None = None,
        aliases: Aliases = (),
    ) -> None: ...
    @overload
    def __init__[R](
        self,
        name: str,
        action: Callable[[], R],
        into: str | Callable[[R], object],
        retry: Retry | None = None,
        *,
        timeout: float | None = None,
        aliases: Aliases = (),
    ) -> None: ...
    def __init__(
        self,
        name: str,
        action: Callable[[], Any],
        into: str | Callable[[Any], object] | None = None,
        retry: Retry | None = None,
        *,
        timeout: float | None = None,
        aliases: Aliases = (),
    ) -> None:
        self.name = name
        self.action = action
        self.into = into
        self.retry = retry
        self.timeout = None if timeout is None else check_seconds(timeout, f"Step {name!r}")
        self.aliases = aliases
        self.body = ()
        self.key = name  # of by far the most: the shorter, the faster
        if aliases or into is not None or retry is not None or not callable(action):
            target = into if into is None or isinstance(into, str) else callable(into)
            self.key = (Step, name, aliases, callable(action), target, type(retry))

    def or_else(self, name: str, *statements: Statement, on: Errors = Exception) -> Step:
        """The same Step with a branch for when it gives up: its retries are over, or it raises DoNotRetry.

            Step("book", self.book).or_else("sold out", Finish("sold out"), on=SoldOut).or_else(
                "can't be booked", Step("apologize", self.apologize))

        What the step has changed is dropped; all that runs in the branch finds the error in
        `current().failure`. After it the thread goes on behind the step, unless it ends in a Return, Finish,
        Break or Continue. A step in the branch that gives up itself needs one of its own.

        on: the error, or a tuple of those, that this branch is for; the first that fits is taken, and an
        error that fits none parks the thread. Of a group of errors, each must fit.
        Raises TypeError when `on` is something else, and ValueError after a branch for every error.
        """
        check_errors(on, "or_else")
        branches = tuple(each for each in self.body if isinstance(each, OrElse))
        if any(issubclass(Exception, branch.on) for branch in branches):
            raise ValueError(f"{name!r} comes after a branch for every error: it would never run")
        step = Step.__new__(Step)
        step.name, step.action, step.into, step.retry = self.name, self.action, self.into, self.retry
        step.timeout, step.aliases = self.timeout, self.aliases
        branch = OrElse(name, statements, on)
        step.body = (*branches, branch)
        step.key = (Step, self.key, branch.key)
        return step


class Branch(Statement):
    """One way of an If or a Switch; made by If, .elif_(), .else_(), Case and Default."""

    __slots__ = ("cond",)

    def __init__(
        self, cond: Condition, name: str, statements: tuple[Statement, ...], aliases: Aliases = ()
    ) -> None:
        self.cond = cond
        self.name = name
        self.body = statements
        self.aliases = aliases
        self.key = (Branch, name, aliases, keys_of(statements, f"branch {name!r}"))


class OrElse(Branch):
    """What a Step leaves to others when it gives up; made by Step.or_else()."""

    __slots__ = ("on",)

    def __init__(self, name: str, statements: tuple[Statement, ...], on: Errors) -> None:
        super().__init__(True, name, statements)
        self.on = on


class If(Statement):
    """Runs the statements of the first branch whose condition is true.

    If(self.age < 18, "too young", Finish("refused")).elif_(
        self.age > 99, "too old", Step("ask", self.ask)).else_("fits", Step("go", self.go))
    """

    __slots__ = ("closed",)

    def __init__(self, cond: Condition, name: str, *statements: Statement, aliases: Aliases = ()) -> None:
        self._set((Branch(cond, name, statements, aliases),), closed=False)

    def _set(self, branches: tuple[Branch, ...], *, closed: bool) -> If:
        self.name = ""
        self.aliases = ()
        self.body = branches
        self.closed = closed
        self.key = (If, tuple([branch.key for branch in branches]))
        return self

    def _add(self, branch: Branch, *, closed: bool) -> If:
        if self.closed:
            raise ValueError(f"{branch.name!r} comes after .else_(): it would never run")
        branches = tuple(each for each in self.body if isinstance(each, Branch))
        return If.__new__(If)._set((*branches, branch), closed=closed)  # noqa: SLF001 - its own class

    def elif_(self, cond: Condition, name: str, *statements: Statement, aliases: Aliases = ()) -> If:
        """The same If with one more branch, tried when the ones before were false."""
        return self._add(Branch(cond, name, statements, aliases), closed=False)

    def else_(self, name: str, *statements: Statement, aliases: Aliases = ()) -> If:
        """The same If with the branch that runs when all others were false."""
        return self._add(Branch(True, name, statements, aliases), closed=True)


class Case(Branch):
    """One case of a Switch.

    Case(self.segment == "vip", "very important", Step("greet", self.greet))
    """

    __slots__ = ()

    def __init__(self, cond: Condition, name: str, *statements: Statement, aliases: Aliases = ()) -> None:
        super().__init__(cond, name, statements, aliases)


class Default(Branch):
    """The case of a Switch that is taken when no other is true.

    Default("all others", Step("queue", self.queue))
    """

    __slots__ = ()

    def __init__(self, name: str, *statements: Statement, aliases: Aliases = ()) -> None:
        super().__init__(True, name, statements, aliases)


class Switch(Statement):
    """Runs the first case whose condition is true, or none.

    Switch(Case(self.n == 1, "one", Step("a", self.a)), Default("more", Step("b", self.b)))
    """

    __slots__ = ()

    def __init__(self, *cases: Case | Default) -> None:
        self.name = ""
        self.aliases = ()
        self.body = cases
        self.key = (Switch, tuple(map(type, cases)), keys_of(cases, "Switch"))


class For(Statement):
    """Runs its statements again and again while the condition is true, as Python's `while`.

    For("until nothing is left", self.left > 0, Step("take one", self.take_one))
    """

    __slots__ = ("cond",)

    def __init__(self, name: str, cond: Condition, *statements: Statement, aliases: Aliases = ()) -> None:
        self.name = name
        self.cond = cond
        self.body = statements
        self.aliases = aliases
        self.key = (For, name, aliases, keys_of(statements, f"For {name!r}"))


class _Bare(Statement):
    __slots__ = ()
    body = ()
    aliases = ()

    def __init__(self) -> None:
        self.name = ""
        self.key = type(self)


class Break(_Bare):
    """Leaves the loop around it."""

    __slots__ = ()


class Continue(_Bare):
    """Goes back to the condition of the loop around it."""

    __slots__ = ()


class Return(_Bare):
    """Ends this thread."""

    __slots__ = ()


class Finish(_Bare):
    """Ends the whole workflow, cancels its other threads and tears down what they wait for.

        Finish("no user")

    result: anything JSON can hold; read from `Snapshot.result`.
    """

    __slots__ = ("result",)

    def __init__(self, result: object = None) -> None:
        super().__init__()
        self.result = result


class On(Statement):
    """An event that a Wait waits for, and the statements that run when it wins.

        On("answer", self.on_answer, Step("thank", self.thank))

    handler: a function of the payload (`def` or `async def`; the parameter's annotation is what the
    payload must fit, its return value goes to the sender), a function without parameters for an event
    without payload, a Timeout, a Handler, or None.
    """

    __slots__ = ("handler",)

    def __init__(
        self,
        event: str,
        handler: Callable[[Any], object] | Callable[[], object] | EventSource | None = None,
        *statements: Statement,
        aliases: Aliases = (),
    ) -> None:
        self.name = event
        self.handler = handler
        self.body = statements
        self.aliases = aliases
        self.key = (On, event, aliases, keys_of(statements, f"On {event!r}"))


class Wait(Statement):
    """Waits until one of its events comes: exactly one wins, the others are torn down.

        Wait("for an answer", On("answer", self.on_answer), On("too late", Timeout(minutes=10)))
        Wait("for the parcel", On("delivered", self.on_delivered), refuse=("cancel",))

    refuse: the names of events that are not kept for a later Wait while a thread is at this one, unless
    another thread waits for them: whoever sends one is told so by EventRefused. One that was kept before
    stays.
    """

    __slots__ = ("refuse",)

    def __init__(self, name: str, *events: On, refuse: Collection[str] = (), aliases: Aliases = ()) -> None:
        self.name = name
        self.body = events
        self.aliases = aliases
        self.refuse = tuple(refuse) if isinstance(refuse, list | set | frozenset) else refuse
        self.key = (Wait, name, aliases, self.refuse, keys_of(events, f"Wait {name!r}"))


class WaitFor(Statement):
    """Waits until the state makes the condition true, for example by a step of another thread.

        WaitFor("a free slot", self.busy < 3, self.take_slot)

    handler: a function without parameters that changes the state in the same commit in which the
    condition was seen to be true.
    """

    __slots__ = ("cond", "handler")
    body = ()

    def __init__(
        self,
        name: str,
        cond: Condition,
        handler: Callable[[], None] | Callable[[], Awaitable[None]] | None = None,
        *,
        aliases: Aliases = (),
    ) -> None:
        self.name = name
        self.cond = cond
        self.handler = handler
        self.aliases = aliases
        self.key = (WaitFor, name, aliases, handler is None or callable(handler))


class Go(Statement):
    """Starts a thread that runs the statements; this thread goes on at once.

        Go("tell the CRM", Step("notify", self.notify, into="crm_id"))

    id: tells apart threads that one Go starts in a loop; inside, `current().thread_id` has it as a string.
    Without an id, a second thread of the same name that runs at the same time is numbered.
    """

    __slots__ = ("id",)

    def __init__(
        self,
        name: str,
        *statements: Statement,
        id: str | int | None = None,  # noqa: A002 - the contract's name
        aliases: Aliases = (),
    ) -> None:
        self.name = name
        self.body = statements
        self.id = id
        self.aliases = aliases
        self.key = (Go, name, aliases, id is None, keys_of(statements, f"Go {name!r}"))


class Scope(Statement):
    """A reusable sub-workflow: names and events inside get the prefix, so it can be used twice.

        Scope("legal", *self.review()), Scope("finance", *self.review())

    A step "read" inside is then called "legal.read", an event "approve" "legal.approve".
    """

    __slots__ = ()

    def __init__(self, prefix: str, *statements: Statement, aliases: Aliases = ()) -> None:
        self.name = prefix
        self.body = statements
        self.aliases = aliases
        self.key = (Scope, prefix, aliases, keys_of(statements, f"Scope {prefix!r}"))
