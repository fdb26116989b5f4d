"""One workflow, run by one worker for as long as something can run.

A session holds the workflow's lease. It picks one piece of work after the other, in a fair order over the
threads, and ends each with one conditional write that says both what was done and what comes next. The
write after which nothing is left to do gives the lease back.
"""

from __future__ import annotations

import random
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from stepmark.context import StepContext
from stepmark.errors import (
    DefinitionError,
    HandlerFailed,
    PayloadRefused,
    StateError,
    UnknownStatement,
    VersionConflict,
)
from stepmark.handlers import Handler, Request, call_with_payload, decode_payload, encode
from stepmark.record import Awaited, Event, Progress, Record, Status, Teardown, Thread, Trouble
from stepmark.retry import DEFAULT_RETRY, Retry
from stepmark.running import begin, call
from stepmark.shape import Node, Tree, build
from stepmark.state import Codec, codec_of
from stepmark.statements import MAIN, Step, Timeout, Wait, WaitFor
from stepmark.walk import Arrival, Started, after, arrive, first_of, holds

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepmark.clock import Clock
    from stepmark.scheduler import Scheduler
    from stepmark.store import Store
    from stepmark.workflow import Workflow

MAILBOX_SECONDS = 1.0  # how often a session that only waits for long steps looks for new events


class LeaseLost(Exception):
    """Somebody else has taken the workflow over: what this session had not committed is dropped."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one resume may do before it stops cleanly and leaves the rest to the next.

        engine.resume(workflow_id, budget=Budget(seconds=20))

    seconds: no step begins later than that. steps: how many commits at most. None: no limit.
    """

    seconds: float | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Machinery:
    """What every session of an engine works with."""

    store: Store
    scheduler: Scheduler | None
    clock: Clock
    executor: Executor
    lease_seconds: float
    budget: Budget


@dataclass(slots=True)
class _Flight:
    """A step with `into` that runs alongside the others, on its own copy of the state."""

    since: int
    future: Future[Any]
    copy: Workflow
    before: str


class Session:
    """Runs one workflow; see the module's docstring."""

    def __init__(
        self, machinery: Machinery, cls: type[Workflow], record: Record, budget: Budget | None = None
    ) -> None:
        self.machinery = machinery
        self.codec: Codec = codec_of(cls)
        self.record = record
        self.progress = Progress.from_json(record.progress)
        self.status = record.status
        self.text = record.state
        self.owner = f"{random.getrandbits(64):016x}"  # tells sessions apart, guards no secret
        self.event: Event | None = None  # the event whose sender waits in this very call
        self.output: Any = None
        self.refused: Exception | None = None
        self._state: Workflow | None = None
        self._tree: Tree | None = None
        self._flights: dict[str, _Flight] = {}
        self._not_begun: set[tuple[str, int, str]] = set()  # setups that this session knows were never called
        self._stored_events = len(self.progress.events)
        self._attempted = record
        self._lock = Lock()  # one commit at a time: the worker's heartbeat commits too
        self._budget = budget or machinery.budget
        self._steps = 0
        self._began = machinery.clock.now()
        self.load()

    # -- the state and its tree -----------------------------------------------------------------------

    def load(self) -> None:
        """Read the committed state; a class or definition that does not work parks the workflow as it is."""
        try:
            self._state = self.codec.load(self.text)
            self._tree = build(self._state)
        except (StateError, DefinitionError) as error:
            self._state = self._tree = None
            self._broken: StateError | DefinitionError | None = error
            self.progress.error = str(error)
        else:
            self._broken = None
            self.progress.error = None

    @property
    def tree(self) -> Tree:
        """The definition on the current state."""
        if self._tree is None:
            raise self._broken or DefinitionError("the workflow has no definition")
        return self._tree

    @property
    def state(self) -> Workflow:
        """The current state."""
        if self._state is None:
            raise self._broken or StateError("the workflow has no state")
        return self._state

    def node_of(self, thread: Thread, tree: Tree | None = None) -> Node:
        """The statement a thread is at; UnknownStatement names what the definition no longer has."""
        tree = tree or self.tree
        root = tree.root(thread.go, thread.id)
        if root is None:
            ident = "" if thread.id is None else f" with id {thread.id!r}"
            raise UnknownStatement(
                f"the definition no longer has the thread Go {thread.go!r}{ident}, at {thread.at!r}"
            )
        node = tree.shape.find(root, thread.at)
        if node is None or node.kind not in {Step, Wait, WaitFor}:
            where = "" if thread.go is None else f" in thread {thread.go!r}"
            gone = "has no" if node is None else f"has {node.kind.__name__}, at which no thread can be, as"
            raise UnknownStatement(f"the definition {gone} statement {thread.at!r}{where}")
        return node

    # -- choosing -------------------------------------------------------------------------------------

    def plan(self, now: float | None = None) -> Callable[[], None] | None:
        """The next piece of work, or None. Steps that run alongside come first: they take nobody's turn."""
        now = self.machinery.clock.now() if now is None else now
        if self._tree is None:
            return None
        for teardown in self.progress.teardowns:
            if teardown.trouble.ready(now):
                return partial(self._tear_down, teardown)
        if self.status.closed:
            return None
        chosen: Callable[[], None] | None = None
        for key, thread in self.progress.threads.items():
            if thread.trouble.parked:
                continue
            work = self._plan_thread(key, thread, now)
            if work is not None:
                if work.func == self._launch:
                    return work
                chosen = chosen or work
        return chosen

    def _plan_thread(self, key: str, thread: Thread, now: float) -> partial[None] | None:
        try:
            node = self.node_of(thread)
        except UnknownStatement as error:
            return partial(self._park, thread, str(error))
        if node.name != thread.at:
            thread.at = node.name  # found by an alias
        kind = node.kind
        if thread.awaited:
            orphan = self._orphan(thread, node)
            if orphan is not None:
                return partial(self._park, thread, orphan)
        if kind is Wait:
            return self._plan_wait(key, thread, node, now)
        if not thread.trouble.ready(now):
            return None
        statement = self.tree[node]
        if kind is WaitFor:
            return self._plan_wait_for(key, thread, node)
        if statement.into is None:
            return partial(self._step, key, thread, node)
        flight = self._flights.get(key)
        if flight is None:
            return partial(self._launch, key, thread, node)
        return partial(self._land, key, thread, node) if flight.future.done() else None

    def _plan_wait_for(self, key: str, thread: Thread, node: Node) -> partial[None] | None:
        try:
            ready = holds(self.tree[node].cond)
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            return partial(self._park, thread, _told(node.name, error))
        return partial(self._pass, key, thread, node) if ready else None

    def _plan_wait(self, key: str, thread: Thread, node: Node, now: float) -> partial[None] | None:
        retries: partial[None] | None = None
        best: tuple[float, int, partial[None]] | None = None
        for on in node.body:
            handler = self.tree[on].handler
            awaited = thread.awaited.get(on.name)
            if isinstance(handler, Handler):
                if awaited is None or not awaited.setup:  # a deploy has added it
                    awaited = thread.awaited[on.name] = Awaited(setup=True)
                if not awaited.done and awaited.trouble.ready(now):
                    work = partial(self._set_up, key, thread, on)
                    if not awaited.trouble.attempt:
                        return work
                    retries = retries or work
            elif isinstance(handler, Timeout):
                if awaited is None or awaited.fire_at is None:
                    return partial(self._arm, thread, on)
                if awaited.fire_at <= now and (best is None or (awaited.fire_at, 1) < best[:2]):
                    best = (awaited.fire_at, 1, partial(self._deliver, key, thread, node, on, None))
                continue
            event = self._event_for(key, on, now)
            if event is not None and (best is None or (event.received_at, 0) < best[:2]):
                best = (event.received_at, 0, partial(self._deliver, key, thread, node, on, event))
        return best[2] if best is not None else retries

    def _event_for(self, key: str, on: Node, now: float) -> Event | None:
        names = {on.name, *on.aliases}
        return next(
            (
                event
                for event in self.progress.events
                if event.event in names and event.thread in {None, key} and event.trouble.ready(now)
            ),
            None,
        )

    def _orphan(self, thread: Thread, node: Node) -> str | None:
        """What to say when a Handler that was set up is no longer in the definition: nobody could tear it down."""
        handlers: set[str] = set()
        if node.kind is Wait:
            for on in node.body:
                for alias in on.aliases:
                    if alias in thread.awaited:
                        thread.awaited[on.name] = thread.awaited.pop(alias)
                if isinstance(self.tree[on].handler, Handler):
                    handlers.add(on.name)
        gone = next(
            (name for name, awaited in thread.awaited.items() if awaited.setup and name not in handlers), None
        )
        if gone is None:
            return None
        message = f"the definition no longer has the handler of event {gone!r} at {thread.at!r}"
        return f"{message}, which has been set up"

    # -- running --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Take the lease if there is work, do it until nothing is left or the budget is used up."""
        if self.plan() is not None:
            self.claim()
            self.drive()
        elif self._unsettled():
            self.commit()

    def _unsettled(self) -> bool:
        now = self.machinery.clock.now()
        record = self.record
        wanted = (self._status(running=False), self.progress.to_json(), self._due(now), None)
        return wanted != (record.status, record.progress, record.due_at, record.lease_owner)

    def begin(self) -> bool:
        """Write the first record of a new workflow; False when the id is taken."""
        main = self.progress.threads[MAIN]
        self._arrive(MAIN, main, lambda tree: first_of(tree.shape.root))
        now = self.machinery.clock.now()
        record = self._record(running=self._next_work(now) is not None, now=now)
        if not self.machinery.store.create(record):
            return False
        self._committed(record)
        self._wake()
        return True

    def claim(self) -> None:
        """Become the one who runs the workflow, or raise VersionConflict."""
        self._write(running=True, now=self.machinery.clock.now())

    def drive(self) -> None:
        """Work until the lease is given back."""
        while self.record.lease_owner == self.owner:
            work = self._next_work(self.machinery.clock.now())
            if work is not None:
                work()
            elif self._flights:
                self._await_flights()
            else:
                self.commit()

    def _next_work(self, now: float) -> Callable[[], None] | None:
        if not self._exhausted(now):
            return self.plan(now)
        for key, flight in self._flights.items():
            thread = self.progress.threads.get(key)
            if flight.future.done() and thread is not None:
                return partial(self._land, key, thread, self.node_of(thread))
        return None

    def _exhausted(self, now: float) -> bool:
        budget = self._budget
        return (budget.steps is not None and self._steps >= budget.steps) or (
            budget.seconds is not None and now - self._began >= budget.seconds
        )

    def _await_flights(self) -> None:
        landed, _ = wait(
            [flight.future for flight in self._flights.values()], MAILBOX_SECONDS, FIRST_COMPLETED
        )
        if landed:
            return
        theirs = self.machinery.store.load(self.record.workflow_id)
        with self._lock:
            if theirs is None or theirs.version > self.record.version:
                self._merge(theirs)
        self.renew()

    def _context(
        self, key: str, thread: Thread, name: str, trouble: Trouble, purpose: str = ""
    ) -> StepContext:
        idempotency_key = f"{self.record.workflow_id}/{key}/{thread.since}/{name}{purpose}"
        return StepContext(
            self.record.workflow_id, key, thread.id, name, trouble.attempt + 1, idempotency_key
        )

    def _turn(self, key: str) -> None:
        """The thread has had its turn: all others come before its next."""
        self.progress.threads[key] = self.progress.threads.pop(key)

    # -- steps ----------------------------------------------------------------------------------------

    def _step(self, key: str, thread: Thread, node: Node) -> None:
        step = self.tree[node]
        self._turn(key)
        try:
            call(step.action, self._context(key, thread, node.name, thread.trouble))
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            self._failed(thread.trouble, node.name, error, step.retry)
            return
        self._advance(key, thread, node)

    def _pass(self, key: str, thread: Thread, node: Node) -> None:
        handler = self.tree[node].handler
        self._turn(key)
        if handler is not None:
            try:
                call(handler, self._context(key, thread, node.name, thread.trouble))
            except Exception as error:  # noqa: BLE001 - the user's function may raise anything
                self._failed(thread.trouble, node.name, error, None)
                return
        self._advance(key, thread, node)

    def _launch(self, key: str, thread: Thread, node: Node) -> None:
        try:
            copy = self.codec.load(self.text)
            tree = build(copy)
            step = tree[self.node_of(thread, tree)]
            before = self.codec.dump(copy)
        except (StateError, DefinitionError, UnknownStatement) as error:
            self._failed(thread.trouble, node.name, error, None)
            return
        context = self._context(key, thread, node.name, thread.trouble)
        future = begin(step.action, context, self.machinery.executor)
        self._flights[key] = _Flight(thread.since, future, copy, before)

    def drop_flights(self) -> None:
        """Forget the steps that run alongside: somebody else has taken the workflow over."""
        for flight in self._flights.values():
            flight.future.cancel()
        self._flights = {}

    def _land(self, key: str, thread: Thread, node: Node) -> None:
        flight = self._flights.pop(key)
        if flight.since != thread.since:
            return  # a person has moved the thread elsewhere
        step = self.tree[node]
        self._turn(key)
        try:
            result = flight.future.result()
            changed = self.codec.changed(flight.before, self.codec.dump(flight.copy))
            if changed is not None:
                raise StateError(
                    f"it changed field {changed!r}, but a step with `into` works on a copy of the state"
                )
            if callable(step.into):
                step.into(result)
            else:
                setattr(self.state, step.into, result)
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            self._failed(thread.trouble, node.name, error, step.retry)
            return
        self._advance(key, thread, node)

    def _advance(self, key: str, thread: Thread, node: Node) -> None:
        """Commit what a step has changed together with where its thread is now."""
        try:
            self._arrive(key, thread, lambda tree: after(self._again(thread, node, tree)))
        except (StateError, DefinitionError) as error:
            self._failed(thread.trouble, node.name, error, None)
        else:
            self.commit()

    def _again(self, thread: Thread, node: Node, tree: Tree) -> Node:
        """The same statement in the tree of the changed state."""
        if tree.shape is self.tree.shape:
            return node
        try:
            return self.node_of(thread, tree)
        except UnknownStatement as error:
            raise DefinitionError(f"on the state it left, {error}") from error

    def _arrive(self, key: str, thread: Thread, start: Callable[[Tree], Node | None]) -> None:
        """Store the state, rebuild the tree, find where the thread goes; nothing is changed if that fails."""
        text, state = self.codec.store(self.state)
        tree = build(state)
        arrival, threads, result = self._settle(tree, start(tree))
        self.text, self._state, self._tree = text, state, tree
        since = self.record.version + 1
        for name, started in threads:
            if started.at is not None:
                new = Thread(started.at.name, started.go, started.id, since)
                self._enter(name, new, started.at)
                self.progress.threads[name] = new
        if arrival.finished:
            self.close(Status.FINISHED, result)
        elif arrival.at is None:
            del self.progress.threads[key]
            if not self.progress.threads:
                self.close(Status.FINISHED, None)
        else:
            thread.at = arrival.at.name
            thread.since = since
            thread.trouble = Trouble()
            self._enter(key, thread, arrival.at)

    def _settle(self, tree: Tree, node: Node | None) -> tuple[Arrival, list[tuple[str, Started]], Any]:
        """Where a walk from that statement ends, with names for the threads it starts and a result JSON can hold."""
        try:
            arrival = arrive(tree, node)
        except DefinitionError:
            raise
        except Exception as error:
            raise DefinitionError(f"a condition raised {type(error).__name__}: {error}") from error
        result = (
            from_json(encode(arrival.result, "the result of Finish", StateError))
            if arrival.finished
            else None
        )
        taken = set(self.progress.threads)
        threads: list[tuple[str, Started]] = []
        for started in arrival.started:
            name = _thread_name(started, taken)
            if started.at is not None:
                taken.add(name)
            threads.append((name, started))
        return arrival, threads, result

    def _enter(self, key: str, thread: Thread, node: Node) -> None:
        """Note what a thread has to wait for at the statement it has come to."""
        thread.awaited = {}
        if node.kind is Wait:
            now = self.machinery.clock.now()
            for on in node.body:
                handler = self.tree[on].handler
                if isinstance(handler, Timeout):
                    thread.awaited[on.name] = Awaited(fire_at=now + handler.seconds)
                elif isinstance(handler, Handler):
                    thread.awaited[on.name] = Awaited(setup=True)
                    self._not_begun.add((key, thread.since, on.name))

    # -- events ---------------------------------------------------------------------------------------

    def _arm(self, thread: Thread, on: Node) -> None:
        fire_at = self.machinery.clock.now() + self.tree[on].handler.seconds
        thread.awaited[on.name] = Awaited(fire_at=fire_at)
        self.commit()

    def _set_up(self, key: str, thread: Thread, on: Node) -> None:
        handler: Handler = self.tree[on].handler
        awaited = thread.awaited[on.name]
        self._not_begun.discard((key, thread.since, on.name))
        self._turn(key)
        context = self._context(key, thread, on.name, awaited.trouble, "/setup")
        request = self._request(context, awaited.data)
        try:
            data = self._apart(lambda: handler.setup(request), context)
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            self._failed(awaited.trouble, f"setup of event {on.name!r}", error, handler.retry)
            return
        awaited.data, awaited.done, awaited.trouble = data, True, Trouble()
        self.commit()

    def _tear_down(self, teardown: Teardown) -> None:
        thread = Thread(teardown.wait, teardown.go, teardown.id, teardown.since)
        what = f"teardown of event {teardown.event!r}"
        retry = None
        try:
            handler = self._handler_of(thread, teardown.event)
            retry = handler.retry
            context = self._context(teardown.thread, thread, teardown.event, teardown.trouble, "/teardown")
            request = self._request(context, teardown.data)
            self._apart(lambda: handler.teardown(request, teardown.handled), context)
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            self._failed(teardown.trouble, what, error, retry)
            return
        self.progress.teardowns.remove(teardown)
        self.commit()

    def _handler_of(self, thread: Thread, event: str) -> Handler:
        node = self.node_of(thread)
        for on in node.body:
            if event == on.name or event in on.aliases:
                handler = self.tree[on].handler
                if isinstance(handler, Handler):
                    return handler
        raise UnknownStatement(
            f"the definition no longer has the handler of event {event!r} at {thread.at!r}"
        )

    def _apart(self, function: Callable[[], Any], context: StepContext) -> Any:
        """Run a setup or a teardown, which may not change the state; its result as JSON holds it."""
        before = self.codec.dump(self.state)
        result = from_json(encode(call(function, context), "what it returned", StateError))
        changed = self.codec.changed(before, self.codec.dump(self.state))
        if changed is not None:
            raise StateError(f"it changed field {changed!r}, which only handle() may do")
        return result

    def _request(self, context: StepContext, data: Any) -> Request:
        return Request(
            context.workflow_id, context.thread, context.statement, context.idempotency_key, self.state, data
        )

    def _deliver(self, key: str, thread: Thread, node: Node, on: Node, event: Event | None) -> None:
        """The event (or the timer, when it is None) wins: its handler runs, the thread goes on, the rest goes down."""
        handler = self.tree[on].handler
        trouble = thread.trouble if event is None else event.trouble
        self._turn(key)
        before = list(self.progress.teardowns)
        try:
            output = None if event is None else self._handle(key, thread, on, handler, event)
            over = self._teardowns(key, thread, on.name)
            self.progress.teardowns += over
            self._arrive(key, thread, lambda tree: first_of(self._on_again(thread, node, on, tree)))
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            self.progress.teardowns = before
            if event is not None and event is self.event:
                self._refuse(event, error)
            else:
                self._failed(trouble, on.name, error, getattr(handler, "retry", None))
            return
        if event is not None:
            self.progress.events.remove(event)
            self.progress.remember(event.event_id, output)
            if event is self.event:
                self.output = output
                self.event = None
        self.commit()

    def _handle(self, key: str, thread: Thread, on: Node, handler: Any, event: Event) -> Any:
        payload = decode_payload(handler, event.payload, on.name)
        if handler is None:
            return None
        context = self._context(
            key, thread, on.name, event.trouble, f"/{event.event_id}" if event.event_id else ""
        )
        if isinstance(handler, Handler):
            awaited = thread.awaited.get(on.name)
            request = self._request(context, awaited.data if awaited else None)
            output = call(lambda: handler.handle(request, payload), context)
        else:
            output = call(lambda: call_with_payload(handler, payload), context)
        return from_json(encode(output, f"the output of event {on.name!r}", StateError))

    def _on_again(self, thread: Thread, node: Node, on: Node, tree: Tree) -> Node:
        wait_node = self._again(thread, node, tree)
        for child in wait_node.body:
            if child.name == on.name:
                return child
        raise DefinitionError(
            f"on the state it left, the definition has no event {on.name!r} at {node.name!r}"
        )

    def _refuse(self, event: Event, error: Exception) -> None:
        """The sender waits in this call: nothing has changed, and the sender is told."""
        self.progress.events.remove(event)
        self.event = None
        if isinstance(error, PayloadRefused):
            self.refused = error
        else:
            self.refused = HandlerFailed(_told(f"the handler of event {event.event!r}", error))
            self.refused.__cause__ = error
        self.load()

    def _teardowns(self, key: str, thread: Thread, winner: str | None) -> list[Teardown]:
        """What has to be torn down when a thread leaves its Wait: all that may have been set up."""
        return [
            Teardown(key, thread.go, thread.id, thread.at, name, thread.since, name == winner, awaited.data)
            for name, awaited in thread.awaited.items()
            if awaited.setup and (key, thread.since, name) not in self._not_begun
        ]

    # -- endings and failures -------------------------------------------------------------------------

    def close(self, status: Status, result: Any) -> None:
        """End the workflow: its threads are over, what they waited for is torn down."""
        for key, thread in self.progress.threads.items():
            known = {(t.thread, t.since, t.event) for t in self.progress.teardowns}
            over = self._teardowns(key, thread, None)
            self.progress.teardowns += [t for t in over if (t.thread, t.since, t.event) not in known]
        self.status = status
        self.progress.threads = {}
        self.progress.events = []
        self.progress.result = result
        self.drop_flights()

    def cancel(self) -> None:
        """End the workflow now, whoever runs it."""
        self.close(Status.CANCELLED, None)
        self.claim()
        self.drive()

    def retry(self) -> None:
        """Give everything that failed its attempts back."""
        for _, trouble in self.progress.troubles():
            trouble.attempt, trouble.retry_at, trouble.error, trouble.parked = 0, None, None, False
        self.run()

    def move(self, key: str, to: str) -> None:
        """Put a thread at another statement of its part of the definition, as if it had just come there."""
        thread = self.progress.threads[key]
        root = self.tree.root(thread.go, thread.id)
        node = None if root is None else self.tree.shape.find(root, to)
        if root is None or node is None:
            names = ", ".join(map(repr, self.tree.shape.names(root))) if root is not None else "none"
            raise UnknownStatement(f"thread {key!r} has no statement {to!r}; it has: {names}")
        self.progress.teardowns += self._teardowns(key, thread, None)
        thread.awaited = {}
        self._arrive(key, thread, lambda _: node)
        self.claim()
        self.drive()

    def _park(self, thread: Thread, message: str) -> None:
        thread.trouble.parked = True
        thread.trouble.error = message
        self.commit()

    def _failed(self, trouble: Trouble, what: str, error: Exception, retry: Retry | None) -> None:
        """Note a failure and when to try again; what was changed since the last commit is dropped."""
        trouble.attempt += 1
        trouble.error = _told(what, error)
        delay = (retry or DEFAULT_RETRY).delay(trouble.attempt, error)
        if delay is None:
            trouble.parked = True
            trouble.retry_at = None
        else:
            trouble.retry_at = self.machinery.clock.now() + delay
        self.load()
        self.commit()

    # -- committing -----------------------------------------------------------------------------------

    def commit(self) -> None:
        """Write state and progress in one go; with nothing left to do, give the lease back in the same write."""
        self._steps += 1
        with self._lock:
            while True:
                now = self.machinery.clock.now()
                running = bool(self._flights) or self._next_work(now) is not None
                try:
                    self._write(running=running, now=now)
                except VersionConflict:
                    if self._merge(self.machinery.store.load(self.record.workflow_id)):
                        break
                else:
                    break
        self._wake()

    def _wake(self) -> None:
        """Once the lease is given back, have the workflow resumed when it is due."""
        record = self.record
        if record.lease_owner is None and record.due_at is not None and self.machinery.scheduler is not None:
            self.machinery.scheduler.wake(record.workflow_id, record.due_at)

    def _record(self, *, running: bool, now: float) -> Record:
        old = self.record
        until = old.lease_until if old.lease_owner == self.owner else None
        if until is None or until - now < self.machinery.lease_seconds / 2:
            # the index on due_at is written only when the lease is prolonged, not with every step
            until = now + self.machinery.lease_seconds
        return Record(
            old.workflow_id,
            old.workflow,
            old.version + 1,
            self._status(running=running),
            self.text,
            self.progress.to_json(),
            until if running else self._due(now),
            self.owner if running else None,
            until if running else None,
        )

    def _write(self, *, running: bool, now: float) -> None:
        record = self._attempted = self._record(running=running, now=now)
        self.machinery.store.commit(record, self.record.version)
        self._committed(record)

    def _committed(self, record: Record) -> None:
        self.record = record
        self._stored_events = len(self.progress.events)

    def _merge(self, theirs: Record | None) -> bool:
        """After a conflict: take over new events; True when it was our own write that had been lost track of."""
        if theirs is not None and theirs == self._attempted:
            self._committed(theirs)
            return True
        if theirs is None or theirs.lease_owner != self.owner:
            raise LeaseLost(self.record.workflow_id)
        self.progress.events += Progress.from_json(theirs.progress).events[self._stored_events :]
        self._stored_events = len(Progress.from_json(theirs.progress).events)
        self.record = theirs
        return False

    def renew(self) -> None:
        """Prolong the lease when half of it is over; called while a long step runs."""
        with self._lock:
            now = self.machinery.clock.now()
            old = self.record
            if old.lease_owner != self.owner or old.lease_until is None:
                return
            if old.lease_until - now >= self.machinery.lease_seconds / 2:
                return
            until = now + self.machinery.lease_seconds
            record = replace(old, version=old.version + 1, lease_until=until, due_at=until)
            try:
                self.machinery.store.commit(record, old.version)
            except VersionConflict:
                return  # the next commit finds out what has happened
            self.record = record

    def _status(self, *, running: bool) -> Status:
        if self.status.closed:
            return self.status
        troubles = [trouble for _, trouble in self.progress.troubles()]
        if self.progress.error is not None or any(trouble.parked for trouble in troubles):
            return Status.PARKED
        if running or any(trouble.retry_at is not None for trouble in troubles) or self.plan() is not None:
            return Status.RUNNING
        return Status.WAITING

    def _due(self, now: float) -> float | None:
        """When a worker must look again. What is due already would have been done, unless the budget was used up."""
        if self.plan(now) is not None:
            return now
        times = [trouble.retry_at for _, trouble in self.progress.troubles() if not trouble.parked]
        for thread in self.progress.threads.values():
            if not thread.trouble.parked:
                times += [awaited.fire_at for awaited in thread.awaited.values()]
        return min((at for at in times if at is not None and at > now), default=None)


def _thread_name(started: Started, taken: set[str]) -> str:
    if started.id is not None:
        name = f"{started.go}[{started.id}]"
        if name in taken:
            raise DefinitionError(f"thread {name!r} is still running: give its Go another id")
        return name
    name, number = started.go, 1
    while name in taken:
        number += 1
        name = f"{started.go}#{number}"
    return name


def _told(what: str, error: Exception) -> str:
    return f"{what}: {type(error).__name__}: {error}"
