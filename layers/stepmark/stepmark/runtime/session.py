"""One workflow, run by one worker for as long as something can run.

A session picks one piece of work after the other, in a fair order over the threads, and ends each with one
conditional write that says both what was done and what comes next. The write after which nothing is left to
do gives the lease back. A sender's event comes before all other work, as far as it is waited for.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stepmark.core.record import Event, Progress, Record, Status, Teardown, Thread, Trouble
from stepmark.core.shape import Node, Tree, build
from stepmark.core.state import Codec, codec_of
from stepmark.core.values import settle
from stepmark.core.walk import Arrival, Started, after, arrive, first_of, holds
from stepmark.definition.retry import DEFAULT_RETRY, Retry
from stepmark.definition.statements import MAIN, Step, Wait, WaitFor
from stepmark.errors import (
    DefinitionError,
    EventsFull,
    RecordTooLarge,
    StateError,
    UnknownStatement,
    VersionConflict,
    text_of,
)
from stepmark.runtime import waiting
from stepmark.runtime.calls import begin, call
from stepmark.runtime.context import Activity, StepContext
from stepmark.runtime.ledger import Budget, Ledger, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepmark.definition.workflow import Workflow

    type Work = partial[None]

MAX_CUT_OFF = 20
# What is left to be torn down at a workflow's end is tried for that long: it must not keep the data for ever.
GIVE_UP_SECONDS = 3600.0
MAILBOX_SECONDS = 0.5  # how often a session that only waits for long steps looks for new events


@dataclass(slots=True)
class _Flight:
    """A step with `into` that runs alongside the others, on its own copy of the state."""

    since: int
    future: Future[Any]
    activity: Activity
    copy: Workflow
    before: str


class Session:
    """Runs one workflow; see the module's docstring."""

    def __init__(
        self, runtime: Runtime, cls: type[Workflow], record: Record, budget: Budget | None = None
    ) -> None:
        self.clock = runtime.clock
        self.codec: Codec = codec_of(cls)
        self.workflow_id = record.workflow_id
        self.progress = Progress.from_json(record.progress)
        self.ledger = Ledger(runtime, record, len(self.progress.events))
        if record.lease_owner is not None and not record.queued:
            self.ledger.doubt_timer(self.progress)  # of one who is dead, or is about to lose the workflow
        self.text = record.state
        self.event: Event | None = None  # the event whose sender waits in this very call
        self.fleeting = False  # nobody can ask for its output again
        self.kept = False  # an earlier sender was told that it is kept
        self.handled = False  # that event, by a commit
        self.output: Any = None
        self.refused: Exception | None = None
        self.outbox: list[Event] = []  # what the function that runs has sent to its own workflow
        self.contended = False  # somebody else was faster before: take the lease first
        self.not_begun: set[tuple[str, int, str]] = set()  # setups known to have never begun
        self.unsaved = False  # an event, or what a look has found, is not committed yet
        self._full = False
        self._flights: dict[str, _Flight] = {}
        self._budget = budget or runtime.budget
        self._planned: Work | None = None  # what the last commit has found to be next
        self._commits = 0
        self._served = MAIN
        self._began = self.clock.now()
        self.load()
        self._heed_posted_look()

    def receive(self, event: Event, *, fleeting: bool) -> None:
        """Take the event of a sender who waits in this very call."""
        self.event = event
        stored = any(event is other for other in self.progress.events)
        self.kept = stored and not event.sender
        event.sender = ""
        if not stored:
            self.fleeting = fleeting
            self._full = not self.progress.room_for(event.payload)
            self.progress.events.append(event)
            self.unsaved = True

    # -- the state and its tree -----------------------------------------------------------------------

    def load(self) -> None:
        """Read the committed state; a class or definition that does not work parks the workflow as it is."""
        self._state: Workflow | None = None
        self._tree: Tree | None = None
        self._broken: StateError | DefinitionError | None = None
        self.progress.error = self.progress.brief = None
        try:
            self._state = self.codec.load(self.text)
            self._tree = build(self._state)
        except (StateError, DefinitionError) as error:
            self._broken = error
            self.progress.error = text_of(error)
            self.progress.brief = error.brief

    @property
    def broken(self) -> bool:
        """Whether the committed state can't be read, or definition() fails on it."""
        return self._tree is None

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

    # -- choosing what to do --------------------------------------------------------------------------

    def plan(self, now: float) -> Work | None:
        """The next piece of work, or None. Steps that run alongside come first: they take nobody's turn."""
        if self.progress.ends_at is not None and self.over(now):
            return partial(self._end)
        if self._tree is None:
            return None
        for teardown in self.progress.teardowns:
            if teardown.trouble.ready(now):
                return partial(waiting.tear_down, self, teardown)
        if self.progress.ended is not None:
            return None
        chosen: Work | None = None
        for thread in self.progress.threads.values():
            if not thread.trouble.parked:
                alongside, work = self._plan_thread(thread, now)
                if alongside:
                    return work
                chosen = chosen or work
        return chosen

    def _plan_thread(self, thread: Thread, now: float) -> tuple[bool, Work | None]:
        """What a thread has to do next, and whether that runs alongside the others."""
        try:
            node = node_of(self.tree, thread)
            if thread.awaited:
                waiting.check_handlers(self.tree, thread, node)
        except UnknownStatement as error:
            return False, partial(self._park, thread, str(error), None)
        thread.at = node.name  # it may have been found by an alias
        if node.kind is Wait:
            return False, waiting.plan(self, thread, node, now)
        if not thread.trouble.ready(now):
            return False, None
        if node.kind is WaitFor:
            return False, self._plan_wait_for(thread, node)
        return self._plan_step(thread, node)

    def _plan_step(self, thread: Thread, node: Node) -> tuple[bool, Work | None]:
        if self.tree[node].into is None:
            return False, partial(self._step, thread, node)
        flight = self._flights.get(thread.key)
        if flight is None:
            return True, partial(self._launch, thread, node)
        return False, partial(self._land, thread, node) if flight.future.done() else None

    def _drop_stale_flights(self) -> None:
        """Forget the steps whose thread is no longer where it was when they began."""
        for key, flight in list(self._flights.items()):
            thread = self.progress.threads.get(key)
            if thread is None or not self._awaits(thread, flight):
                self._drop(self._flights.pop(key))

    def _awaits(self, thread: Thread, flight: _Flight) -> bool:
        if self._tree is None or thread.trouble.parked or thread.since != flight.since:
            return False
        try:
            node = node_of(self._tree, thread)
        except UnknownStatement:
            return False
        return node.kind is Step and self._tree[node].into is not None

    def _plan_wait_for(self, thread: Thread, node: Node) -> Work | None:
        try:
            ready = holds(self.tree[node].cond)
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            return partial(self._park, thread, node.name, error)
        return partial(self._pass, thread, node) if ready else None

    def _next(self, now: float) -> Work | None:
        """The next piece of work; beyond the budget, only what is under way is brought to its end.

        Under way are a step that has run alongside, the delivery of the event whose sender waits in this
        call, and the arrival of a thread where it has to wait.
        """
        if self.progress.ends_at is not None and self.over(now):
            return partial(self._end)
        if self._flights:
            self._drop_stale_flights()
        if self.event is not None:
            delivery = self._find(now, lambda work: waiting.delivers(work, self.event))
            if delivery is not None:
                return delivery
        work = self.plan(now)
        if work is None or not self._spent(now):
            return work
        return self._find(now, lambda work: work.func == self._land or waiting.arrives(work))

    def _find(self, now: float, wanted: Callable[[Work], bool]) -> Work | None:
        """What a thread has to do next, if it is of a certain kind."""
        if self._tree is None or self.progress.ended is not None:
            return None
        for thread in self.progress.threads.values():
            if not thread.trouble.parked:
                _, work = self._plan_thread(thread, now)
                if work is not None and wanted(work):
                    return work
        return None

    def _spent(self, now: float) -> bool:
        """Whether the budget is used up."""
        budget = self._budget
        return (budget.seconds is not None and now - self._began >= budget.seconds) or (
            budget.steps is not None and self._commits >= budget.steps
        )

    # -- running --------------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Write the first record of a new workflow; False when the id is taken."""
        self.arrive(self.progress.threads[MAIN], lambda tree: first_of(tree.shape.root))
        now = self.clock.now()
        if self.over(now):
            self.close(Status.CANCELLED, None)
        else:
            waiting.look_around(self)
        held, queued = self._hold(now)
        status, due_at = self._status(now, running=held), self._due(now)
        if not (held or queued):
            self.ledger.note_timer(self.progress, due_at)
        if not self.ledger.create(status, self.text, self.progress, due_at=due_at, held=held, queued=queued):
            return False
        self.unsaved = False
        self.ledger.set_noted_timer(self.progress)
        self.ledger.wake()
        return True

    def run(self) -> None:
        """Work until nothing is left or the budget is used up; EventsFull when the event can't be kept."""
        now = self.clock.now()
        self._planned = work = self._next(now)
        if self._full and not (work is not None and waiting.delivers(work, self.event)):
            raise EventsFull(self.workflow_id)
        if work is not None:
            self.drive()
            return
        record = self.ledger.record
        settled = (self._status(now, running=False), self.progress.to_json(), self._due(now), None)
        if settled != (record.status, record.progress, record.due_at, record.lease_owner):
            self.commit()

    def claim(self) -> None:
        """Become the one who runs the workflow, or raise VersionConflict."""
        if self.ledger.record.lease_owner is not None:  # who had it has never given it back
            self.progress.cut_off += 1
            if self.progress.cut_off > MAX_CUT_OFF:
                self._park_steps()
        self._write(self.clock.now(), held=True)
        self.unsaved = False

    def _park_steps(self) -> None:
        """A step that takes its process down each time would otherwise do so for ever."""
        for thread in self.progress.threads.values() if self._tree is not None else ():
            if not thread.trouble.parked and self._plan_thread(thread, self.clock.now())[1] is not None:
                message = f"{thread.at}: the process has died {self.progress.cut_off} times in a row"
                thread.trouble = Trouble(self.progress.cut_off, parked=True)
                thread.trouble.stopped_with(message)

    def drive(self) -> None:
        """Work until the lease is given back; it is taken before the first work that needs it."""
        while True:
            work, self._planned = self._planned or self._next(self.clock.now()), None
            if work is not None:
                if self.ledger.held or (self._needs_no_lease(work) and not self.contended):
                    work()
                else:
                    self.claim()
            elif self._flights:
                self._await_flights()
            elif self.ledger.held or self.unsaved:
                self.commit()
            if not (self.ledger.held or self.unsaved):
                return

    def _needs_no_lease(self, work: Work) -> bool:
        return work.func in waiting.NEED_NO_LEASE or work.func == self._end

    def look(self) -> None:
        """Look for what the threads wait for, and go on if something has happened."""
        if self._tree is not None and self.progress.ended is None:
            waiting.look_now(self)
            if self.unsaved:
                self.run()

    def _heed_posted_look(self) -> None:
        """Somebody asks to look again; what is found is committed together with the fact."""
        if self.progress.look and self._tree is not None:
            self.progress.look = False
            for *_, awaited in waiting.observed(self):
                awaited.done = awaited.data is not None

    def _await_flights(self) -> None:
        now = self.clock.now()
        seconds = min([MAILBOX_SECONDS, *(at - now for at in self._times(now))])
        landed, _ = wait([flight.future for flight in self._flights.values()], seconds, FIRST_COMPLETED)
        if not landed:
            self.ledger.catch_up(self.progress)
            self._heed_posted_look()
            self.ledger.renew()

    def drop_flights(self) -> None:
        """Forget the steps that run alongside; they may not stop at once, but change nothing."""
        for flight in self._flights.values():
            self._drop(flight)
        self._flights = {}

    def _drop(self, flight: _Flight) -> None:
        flight.activity.end()
        flight.future.cancel()

    def context(
        self, thread: Thread, name: str, trouble: Trouble, purpose: str = "", activity: Activity | None = None
    ) -> StepContext:
        """What a step or handler is told about itself.

        The idempotency key has no name of a statement in it: a deploy may change that between two attempts.
        """
        return StepContext(
            self.workflow_id,
            thread.key,
            thread.id,
            name,
            trouble.attempt + 1,
            f"{self.workflow_id}/{thread.key}/{thread.since}{purpose}",
            activity or Activity(self.ledger.runtime.store, self.outbox),
        )

    def call(self, function: Callable[[], Any], context: StepContext) -> Any:
        """Call what the user wrote; what it sends to its own workflow meanwhile waits for the commit."""
        try:
            return call(function, context)
        finally:
            if context.activity is not None:
                context.activity.end()

    def turn(self, thread: Thread) -> None:
        """The thread has had its turn: all others come before its next."""
        self.progress.threads[thread.key] = self.progress.threads.pop(thread.key)
        self._served = thread.key

    # -- steps ----------------------------------------------------------------------------------------

    def _step(self, thread: Thread, node: Node) -> None:
        step = self.tree[node]
        self._change(thread, node, step.action, step.retry)

    def _pass(self, thread: Thread, node: Node) -> None:
        handler = self.tree[node].handler
        self._change(thread, node, handler or (lambda: None), None)

    def _launch(self, thread: Thread, node: Node) -> None:
        try:
            copy = self.codec.load(self.text)
            tree = build(copy)
            step = tree[node_of(tree, thread)]
            before = self.codec.dump(copy)
        except (StateError, DefinitionError, UnknownStatement) as error:
            self.failed(thread.trouble, node.name, error, None)
            return
        runtime = self.ledger.runtime
        activity = Activity(runtime.store, None)
        context = self.context(thread, node.name, thread.trouble, activity=activity)
        future = begin(step.action, context, runtime.executor)
        self._flights[thread.key] = _Flight(thread.since, future, activity, copy, before)

    def _land(self, thread: Thread, node: Node) -> None:
        flight = self._flights.pop(thread.key)
        flight.activity.end()
        step = self.tree[node]
        self._change(thread, node, partial(self._store_result, flight, step.into), step.retry)

    def _store_result(self, flight: _Flight, into: str | Callable[[Any], object]) -> object:
        result = flight.future.result()
        changed = self.codec.changed(flight.before, self.codec.dump(flight.copy))
        if changed is not None:
            raise StateError(
                f"it changed field {changed!r}, but a step with `into` works on a copy of the state"
            )
        if callable(into):
            return into(result)  # an `async def` is awaited
        setattr(self.state, into, result)
        return None

    def _change(self, thread: Thread, node: Node, action: Callable[[], Any], retry: Retry | None) -> None:
        """Run what changes the state, and commit the change together with where the thread is now."""
        self.turn(thread)
        try:
            self.call(action, self.context(thread, node.name, thread.trouble))
            self.arrive(thread, lambda tree: after(self.again(thread, node, tree)))
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            self.failed(thread.trouble, node.name, error, retry)
        else:
            self.commit()

    def again(self, thread: Thread, node: Node, tree: Tree) -> Node:
        """The same statement in the tree of the changed state."""
        if tree.shape is self.tree.shape:
            return node
        try:
            return node_of(tree, thread)
        except UnknownStatement as error:
            raise DefinitionError(f"on the state that it left, {error}") from error

    def arrive(self, thread: Thread, start: Callable[[Tree], Node | None]) -> None:
        """Store the state, rebuild the tree, find where the thread goes; nothing is changed if that fails."""
        text, state = self.codec.store(self.state)
        tree = build(state)
        arrival, threads, result = self._settle(tree, start(tree))
        self.text, self._state, self._tree = text, state, tree
        since = self.ledger.record.version + 1
        for name, started in threads:
            if started.at is not None:
                several = len(tree.shape.roots(started.go)) > 1
                new = Thread(name, started.at.name, started.go, started.id, since, several)
                waiting.enter(self, new, started.at)
                self.progress.threads[name] = new
        if arrival.finished:
            self.close(Status.FINISHED, result)
        elif arrival.at is None:
            del self.progress.threads[thread.key]
            if not self.progress.threads:
                self.close(Status.FINISHED, None)
        else:
            thread.at = arrival.at.name
            thread.since = since
            thread.trouble = Trouble()
            waiting.enter(self, thread, arrival.at)

    def _settle(self, tree: Tree, node: Node | None) -> tuple[Arrival, list[tuple[str, Started]], Any]:
        """Where a walk from there ends, names for the threads it starts, the result as JSON holds it."""
        try:
            arrival = arrive(tree, node)
        except DefinitionError:
            raise
        except Exception as error:
            brief = f"a condition raised {type(error).__name__}"
            raise DefinitionError(f"{brief}: {text_of(error)}", brief=brief) from error
        result = settle(arrival.result, "the result of Finish", StateError) if arrival.finished else None
        taken = set(self.progress.threads) if arrival.started else set()
        threads: list[tuple[str, Started]] = []
        for started in arrival.started:
            name = _thread_name(started, taken)
            if started.at is not None:
                taken.add(name)
            threads.append((name, started))
        return arrival, threads, result

    # -- endings and failures -------------------------------------------------------------------------

    def close(self, status: Status, result: Any) -> None:
        """End the workflow: its threads are over, what they waited for is torn down."""
        for thread in self.progress.threads.values():
            waiting.leave(self, thread, None)
        self.progress.ended = status
        self.progress.threads = {}
        for event in self.progress.events:
            if not event.sender and (event is not self.event or self.kept):
                self.progress.remember(event.event_id, None)  # what its sender was told
        self.progress.events = []
        self.progress.result = result
        self.drop_flights()

    def cancel(self) -> None:
        """End the workflow now, whoever runs it."""
        now = self.clock.now()
        if self.over(now):
            self._close_for_good(now)
        else:
            self.close(Status.CANCELLED, None)
        if self.plan(now) is None:
            self._write(now, held=False)
            self.ledger.wake()
        else:
            self.claim()
            self.drive()

    def over(self, now: float) -> bool:
        """Whether the end of the workflow's life has come, and not all that was its own has ended."""
        ends_at = self.progress.ends_at
        if ends_at is None or now < ends_at:
            return False
        return self.progress.ended is None or bool(self._given_up(now))

    def _given_up(self, now: float) -> list[Teardown]:
        """What can't be torn down, or has failed for too long."""
        ends_at, teardowns = self.progress.ends_at, self.progress.teardowns
        if ends_at is None or now < ends_at + GIVE_UP_SECONDS:
            return []
        return [each for each in teardowns if each.trouble.attempt or self._tree is None]

    def _close_for_good(self, now: float) -> None:
        if self.progress.ended is None:
            self.close(Status.CANCELLED, None)
        given_up = self._given_up(now)
        self.progress.teardowns = [each for each in self.progress.teardowns if each not in given_up]

    def _end(self) -> None:
        """The end of the workflow's life has come, wherever it stands."""
        self._close_for_good(self.clock.now())
        self.commit()

    def retry(self) -> None:
        """Give everything that failed its attempts back."""
        for trouble in self.progress.troubles():
            trouble.attempt, trouble.retry_at, trouble.parked = 0, None, False
            trouble.error = trouble.brief = None
        self.run()

    def move(self, key: str, to: str) -> None:
        """Put a thread at another statement of its part of the definition, as if it had just come there."""
        thread = self.progress.threads[key]
        root = self.tree.root(thread.go, thread.id, several=thread.several)
        node = None if root is None else self.tree.shape.find(root, to)
        if root is None or node is None:
            names = ", ".join(map(repr, self.tree.shape.names(root))) if root is not None else "none"
            raise UnknownStatement(f"thread {key!r} has no statement {to!r}; it has: {names}")
        waiting.leave(self, thread, None)
        self.arrive(thread, lambda _: node)
        self.claim()
        self.drive()

    def _park(self, thread: Thread, what: str, error: Exception | None) -> None:
        """Park a thread for an exception, or for what is said in this library's own words."""
        thread.trouble.parked = True
        if error is None:
            thread.trouble.stopped_with(what)
        else:
            thread.trouble.failed_with(what, error, text_of(error))
        self.commit()

    def failed(self, trouble: Trouble, what: str, error: Exception, retry: Retry | None) -> None:
        """Note a failure and when to try again; what was changed since the last commit is dropped."""
        self.note(trouble, what, error, retry)
        self.undo()
        self.commit()

    def undo(self) -> None:
        """Drop what was changed and sent since the last commit."""
        self.outbox.clear()
        self.load()

    def note(self, trouble: Trouble, what: str, error: Exception, retry: Retry | None) -> None:
        """Note a failure and when to try again."""
        trouble.attempt += 1
        trouble.failed_with(what, error, text_of(error))
        delay = (retry or DEFAULT_RETRY).delay(trouble.attempt, error)
        trouble.parked = delay is None
        trouble.retry_at = None if delay is None else self.clock.now() + delay

    # -- committing -----------------------------------------------------------------------------------

    def commit(self) -> None:
        """Write state and progress in one go; with nothing left to do, give the lease back in that write."""
        self._commits += 1
        self.progress.cut_off = 0
        while True:
            if self.ledger.held and self._tree is not None:
                waiting.look_around(self)
            if self.outbox:
                self._post_outbox()
            now = self.clock.now()
            held, queued = self._hold(now)
            if not (held or queued):
                self.progress.keep_events()
            try:
                self._write(now, held=held, queued=queued)
            except VersionConflict:
                if not self.ledger.catch_up(self.progress):
                    self._heed_posted_look()
                    continue
            except RecordTooLarge as error:
                self._revert(error)
                continue
            break
        self.unsaved = False
        self.ledger.wake()

    def _write(self, now: float, *, held: bool, queued: bool = False) -> None:
        status = self._status(now, running=held)
        due_at = None
        if not held:
            due_at = self._due(now)
            if not queued:
                self.ledger.set_timer(self.progress, due_at, self._times(now))
        self.ledger.write(status, self.text, self.progress, due_at=due_at, held=held, queued=queued)

    def _post_outbox(self) -> None:
        if self.progress.ended is None:
            self.progress.events += self.outbox
        self.outbox.clear()

    def _hold(self, now: float) -> tuple[bool, bool]:
        """Whether to keep the lease; or else, with work left beyond the budget, to leave it in the queue."""
        self._planned = self._next(now)
        held = bool(self._flights) or self._planned is not None
        return held, not held and self.ledger.runtime.queued and self.plan(now) is not None

    def _revert(self, error: RecordTooLarge) -> None:
        """Drop what does not fit into the store, and park the thread that was about to commit it.

        If that was an event whose sender waits in this call, or its handling, it is refused instead.
        """
        record, event = self.ledger.record, self.event
        handling = event is not None and all(event is not other for other in self.progress.events)
        self.text, timer = record.state, self.progress.timer
        self.progress = Progress.from_json(record.progress)
        self.progress.timer = timer  # as it was moved for the commit that did not fit
        self.undo()
        if event is not None:
            stored = [other for other in self.progress.events if other.event_id == event.event_id]
            if handling or not stored:
                waiting.withdraw(self, error)
                return
            self.event = stored[0]
        thread = self.progress.threads.get(self._served)
        if thread is None:
            raise error
        thread.trouble = Trouble(1, parked=True)
        thread.trouble.failed_with(thread.at, error, text_of(error))

    def _status(self, now: float, *, running: bool) -> Status:
        ended = self.progress.ended
        if ended is not None and self.progress.ends_at is not None and now >= self.progress.ends_at:
            return ended  # what can't be torn down is given up by itself
        troubles = [trouble for trouble in self.progress.troubles() if trouble.attempt or trouble.parked]
        if any(trouble.parked for trouble in troubles):
            return Status.PARKED
        if ended is not None:
            # without a definition nobody can tear down what is left: somebody has to mend it first
            stuck = self.progress.teardowns and self.progress.error is not None
            return Status.PARKED if stuck else ended
        if self.progress.error is not None:
            return Status.PARKED
        if running or any(trouble.retry_at is not None for trouble in troubles) or self.plan(now) is not None:
            return Status.RUNNING
        return Status.WAITING

    def _due(self, now: float) -> float | None:
        """When a worker must look again: now if the budget has left work, else at a timer or retry."""
        return now if self.plan(now) is not None else min(self._times(now), default=None)

    def _times(self, now: float) -> list[float]:
        """The timers and retries ahead; what is due already, and can be done, is in the plan."""
        times = [trouble.retry_at for trouble in self.progress.troubles() if not trouble.parked]
        for thread in self.progress.threads.values():
            if not thread.trouble.parked:
                times += [awaited.fire_at for awaited in thread.awaited.values()]
        ends_at = self.progress.ends_at
        if ends_at is not None:
            if self.progress.ended is None:
                times.append(ends_at)
            elif self.progress.teardowns:
                times.append(ends_at + GIVE_UP_SECONDS)
        return [at for at in times if at is not None and at > now]


def node_of(tree: Tree, thread: Thread) -> Node:
    """The statement a thread is at; UnknownStatement names what the definition no longer has."""
    root = tree.root(thread.go, thread.id, several=thread.several)
    if root is None:
        ident = "" if thread.id is None else f" with id {thread.id!r}"
        raise UnknownStatement(
            f"the definition no longer has the thread Go {thread.go!r}{ident}, at {thread.at!r}"
        )
    node = tree.shape.find(root, thread.at)
    if node is None or node.kind not in {Step, Wait, WaitFor}:
        where = "" if thread.go is None else f" in thread {thread.go!r}"
        gone = "no longer has" if node is None else f"has {node.kind.__name__}, at which no thread can be, as"
        raise UnknownStatement(f"the definition {gone} statement {thread.at!r}{where}")
    return node


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
