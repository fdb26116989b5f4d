"""What each kind of work does: it calls what the user wrote, and changes the draft by what comes of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from stepmark.core.delivery import Output
from stepmark.core.draft import give_up, refuse_change
from stepmark.core.failures import note_failure
from stepmark.core.keys import key_of
from stepmark.core.payloads import decode_payload, payload_of
from stepmark.core.planning import handler_of
from stepmark.core.record import Event, Failure, Thread, Trouble
from stepmark.core.shape import build
from stepmark.core.values import encode, settle
from stepmark.core.work import (
    Block,
    Deliver,
    End,
    Expect,
    Launch,
    Look,
    PassGate,
    RunStep,
    SetUp,
    StoreResult,
    TearDown,
)
from stepmark.definition.handlers import Handler, Happened, LookAgain, Observation, Request
from stepmark.errors import StateError, UnknownStatement, text_of
from stepmark.runtime.calls import begin, call
from stepmark.runtime.context import Activity, StepContext
from stepmark.runtime.flights import Flight
from stepmark.runtime.logs import log_failure
from stepmark.runtime.timeouts import limited

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepmark.core.draft import Draft
    from stepmark.core.record import Awaited, Progress, Teardown
    from stepmark.core.tree import Node
    from stepmark.core.work import AtThread, Work
    from stepmark.definition.retry import Retry
    from stepmark.definition.statements import Step
    from stepmark.definition.workflow import Workflow
    from stepmark.runtime.flights import Flights
    from stepmark.runtime.ledger import Ledger, Runtime


class Actions:
    """Calls what the user wrote, for each kind of work, and changes the draft by what comes of it."""

    def __init__(self, runtime: Runtime, ledger: Ledger, draft: Draft, flights: Flights) -> None:
        self._runtime = runtime
        self._ledger = ledger
        self._draft = draft
        self._flights = flights

    def perform(self, work: Work) -> bool:  # noqa: C901, PLR0912 - one case a kind of work
        """Do one piece of work; whether there is something to commit. Raises what a user's function does."""
        draft = self._draft
        if isinstance(work, RunStep | StoreResult | PassGate | Deliver):
            refuse_change(draft)
        match work:
            case RunStep():  # first, as there are most of them
                thread, node = self._at(work)
                self._change(thread, node, self._limited(draft.tree[node]))
            case Deliver():
                self._deliver(*self._at(work), work)
            case StoreResult():
                thread, node = self._at(work)
                flight, into = self._flights.take(thread.key), draft.tree[node].into
                self._change(thread, node, partial(self._store_result, flight, into))
            case PassGate():
                thread, node = self._at(work)
                self._change(thread, node, draft.tree[node].handler or _nothing)
            case Launch():
                self._launch(*self._at(work))
                return False
            case Look():
                return self._look_again(work)
            case SetUp():
                self._set_up(*self._event_at(work))
            case TearDown():
                self._tear_down(_teardown(draft.progress, work))
            case Expect():
                draft.expect(*self._event_at(work), self._runtime.clock.now())
            case Block():
                _block(draft.progress.threads[work.thread], work)
            case End():
                draft.close_for_good(self._runtime.clock.now())
            case _:
                assert_never(work)
        return True

    def _at(self, work: AtThread) -> tuple[Thread, Node]:
        """The thread that a piece of work is about, and the statement that it is at."""
        thread = self._draft.progress.threads[work.thread]
        return thread, self._draft.tree.stop(thread.place)

    def _event_at(self, work: Expect | SetUp | Look) -> tuple[Thread, Node]:
        """The thread, and the event that it waits for."""
        thread, node = self._at(work)
        return thread, _on(node, work.event)

    # -- what a piece of work is about ----------------------------------------------------------------

    def about(self, work: Work) -> tuple[str, Retry | None]:
        """How a failure of it is called, and how it is tried again."""
        tree, progress = self._draft.tree, self._draft.progress
        if isinstance(work, TearDown):
            try:
                retry = handler_of(tree, _teardown(progress, work)).retry
            except UnknownStatement:
                retry = None
            return f"teardown of event {work.event!r}", retry
        if isinstance(work, End | Block):
            return "", None
        node = tree.stop(progress.threads[work.thread].place)
        if isinstance(work, Deliver | SetUp | Look | Expect):
            retry = getattr(tree[_on(node, work.event)].handler, "retry", None)
            before = {SetUp: "setup of event ", Look: "look for event "}.get(type(work))
            return (work.event if before is None else f"{before}{work.event!r}"), retry
        return node.name, getattr(tree[node], "retry", None)

    def event_of(self, work: Deliver) -> Event | None:
        """The event that is delivered, or None for a timer. What a look has found is one without an id."""
        if work.event_id is not None:
            return self._draft.progress.event(work.event_id)
        awaited = self._draft.progress.threads[work.thread].awaited[work.event]
        if awaited.data is None or awaited.setup:
            return None
        at, payload = awaited.data
        return Event(awaited.named or work.event, payload, None, "", at, awaited.trouble)

    def note(self, work: Work, what: str, error: BaseException, retry: Retry | None) -> None:
        """Note a failure of it, and when to try again."""
        trouble, now = _trouble_of(self._draft.progress, work, self.event_of), self._runtime.clock.now()
        note_failure(trouble, what, error, retry, now)
        if trouble.parked and isinstance(work, RunStep | Launch | StoreResult):
            thread = self._draft.progress.threads[work.thread]
            failure = Failure(thread.at, type(error).__name__, text_of(error), self._key_of(thread))
            since = self._ledger.next_version
            trouble.parked = not give_up(self._draft, thread, error, failure, since=since, now=now)
        log_failure(self._ledger.record.workflow_id, what, error, trouble)
        if isinstance(work, Look):
            awaited = self._draft.progress.threads[work.thread].awaited[work.event]
            awaited.fire_at, awaited.done = None, False

    # -- calling the user's functions -----------------------------------------------------------------

    def _context(
        self,
        thread: Thread | Teardown,
        name: str,
        trouble: Trouble,
        purpose: tuple[str, ...] = (),
        activity: Activity | None = None,
    ) -> StepContext:
        """What a step or handler is told about itself.

        The idempotency key has no name of a statement in it: a deploy may change that between two attempts.
        """
        failures = thread.failures if isinstance(thread, Thread) else []
        return StepContext(
            self._ledger.record.workflow_id,
            thread.key if isinstance(thread, Thread) else thread.thread,
            thread.place.id,
            name,
            trouble.attempt + 1,
            self._key_of(thread, *purpose),
            activity or Activity(self._runtime.store, self._draft.outbox, self._draft.progress.life),
            failures[-1] if failures else None,
        )

    def _key_of(self, thread: Thread | Teardown, *purpose: str) -> str:
        key = thread.key if isinstance(thread, Thread) else thread.thread
        return key_of(self._ledger.record.workflow_id, key, thread.since, *purpose)

    def _call(self, function: Callable[[], Any], context: StepContext) -> Any:
        """Call what the user wrote; what it sends to its own workflow meanwhile waits for the commit."""
        try:
            return call(function, context)
        finally:
            if context.activity is not None:
                context.activity.end()

    def _call_read_only(self, function: Callable[[], Any], context: StepContext) -> Any:
        """The same for what may not change the state."""
        codec, state = self._draft.codec, self._draft.state
        before = codec.dump(state)
        result = self._call(function, context)
        changed = codec.changed(before, codec.dump(state))
        if changed is not None:
            raise StateError(f"it changed field {changed!r}, which only handle() may do")
        return result

    def _call_read_only_as_json(self, function: Callable[[], Any], context: StepContext) -> Any:
        """The same, with its result as JSON holds it."""
        return settle(self._call_read_only(function, context), "what it returned", StateError)

    # -- steps ----------------------------------------------------------------------------------------

    def _change(self, thread: Thread, node: Node, action: Callable[[], Any]) -> None:
        """Run what changes the state, and find where the thread goes from there."""
        draft = self._draft
        draft.turn(thread.key)
        self._call(action, self._context(thread, node.name, thread.trouble))
        draft.pass_statement(thread, node, self._ledger.next_version, self._runtime.clock.now())

    def _limited(self, step: Step) -> Callable[[], Any]:
        end = self._draft.progress.ends_at
        return limited(step, None if end is None else end - self._runtime.clock.now())

    def _launch(self, thread: Thread, node: Node) -> None:
        draft, store = self._draft, self._runtime.store
        copy = draft.codec.load(draft.text)
        tree = build(copy)
        action = self._limited(tree[tree.stop(thread.place)])
        before = draft.codec.dump(copy)
        activity = Activity(store, None, draft.progress.life)
        context = self._context(thread, node.name, thread.trouble, activity=activity)
        future = begin(action, context, self._runtime.executor)
        self._flights.add(thread.key, Flight(thread.since, future, activity, copy, before))

    def _store_result(self, flight: Flight, into: str | Callable[[Any], object]) -> object:
        codec = self._draft.codec
        result = flight.future.result()
        changed = codec.changed(flight.before, codec.dump(flight.copy))
        if changed is not None:
            raise StateError(
                f"it changed field {changed!r}, but a step with `into` works on a copy of the state"
            )
        if callable(into):
            return into(result)  # an `async def` is awaited
        setattr(self._draft.state, into, result)
        return None

    # -- events ---------------------------------------------------------------------------------------

    def _deliver(self, thread: Thread, node: Node, work: Deliver) -> None:
        """The event (or timer) wins: its handler runs, the thread goes on."""
        draft, event, on = self._draft, self.event_of(work), _on(node, work.event)
        draft.turn(thread.key)
        output = None if event is None else self._handle(thread, on, event)
        draft.leave(thread, on.name)
        draft.enter_event(thread, node, on, self._ledger.next_version, self._runtime.clock.now())
        if event is None:
            return
        if event.event_id:
            draft.progress.drop_event(event.event_id)
        own = draft.delivery if draft.delivery is not None and draft.delivery.is_of(event.event_id) else None
        # whoever has the lease has stored the event: its sender may come to look for what has become of it
        if own is None or own.repeatable or self._ledger.held:
            draft.progress.remember(event.event_id, output)
        if own is not None:
            draft.reply = Output(output)

    def _handle(self, thread: Thread, on: Node, event: Event) -> Any:
        handler = self._draft.tree[on].handler
        payload = self._decoded(handler, event, on.name)
        if handler is None:
            return None
        context = self._context(thread, on.name, event.trouble, (event.event, event.event_id))
        function = partial(handler, *payload) if not isinstance(handler, Handler) else None
        if function is None:
            awaited = thread.awaited.get(on.name)
            request = _request(
                context, self._draft.state, awaited.data if awaited and awaited.setup else None
            )
            function = partial(handler.handle, request, *payload)
        return settle(self._call(function, context), f"the output of event {on.name!r}", StateError)

    def _decoded(self, handler: object, event: Event, name: str) -> tuple[Any, ...]:
        """The payload as the handler wants it; as it was decoded when it was checked, if it was."""
        delivery, wanted = self._draft.delivery, payload_of(handler)
        if delivery is not None and delivery.is_of(event.event_id):
            for each in delivery.decoded:
                if each.wanted is wanted:
                    return each.values
        return decode_payload(handler, event.payload, name).values

    # -- setup, teardown and look ---------------------------------------------------------------------

    def _set_up(self, thread: Thread, on: Node) -> None:
        draft, awaited = self._draft, thread.awaited[on.name]
        handler: Handler = draft.tree[on].handler
        draft.begin_setup(thread, on.name)
        draft.turn(thread.key)
        purpose = (awaited.named or on.name, "", "setup")
        context = self._context(thread, on.name, awaited.trouble, purpose)
        function = partial(handler.setup, _request(context, self._draft.state, None))
        awaited.data = self._call_read_only_as_json(function, context)
        awaited.done, awaited.trouble = True, Trouble()

    def _tear_down(self, teardown: Teardown) -> None:
        """Run one teardown; it has left its thread behind and is retried on its own."""
        handler, what = handler_of(self._draft.tree, teardown), teardown.event
        context = self._context(teardown, what, teardown.trouble, (what, "", "teardown"))
        request = _request(context, self._draft.state, teardown.data)
        self._call_read_only_as_json(partial(handler.teardown, request, teardown.handled), context)
        self._draft.progress.teardowns.remove(teardown)

    def look_on_arrival(self) -> None:
        """Look for the first time, within the commit that brings a thread to its Wait.

        Only for the holder of the lease: others who may have missed it leave word with the holder.
        """
        for thread, on, handler, awaited in list(self._draft.observed()):
            if not (awaited.done or awaited.trouble.attempt or thread.trouble.parked):
                try:
                    self._look(thread, on, handler, awaited)
                except Exception as error:  # noqa: BLE001 - the user's function may raise anything
                    what = f"look for event {on.name!r}"
                    note_failure(awaited.trouble, what, error, handler.retry, self._runtime.clock.now())
                    log_failure(self._ledger.record.workflow_id, what, error, awaited.trouble)
                    self._draft.load()

    def _look_again(self, work: Look) -> bool:
        """Look; whether that is to be committed now, and not with the delivery of what was found."""
        thread, on = self._event_at(work)
        self._draft.turn(thread.key)
        awaited = thread.awaited[on.name]
        self._look(thread, on, self._draft.tree[on].handler, awaited)
        return awaited.data is None

    def look_now(self) -> None:
        """Look for everything once more; an error is the caller's."""
        for thread, on, handler, awaited in list(self._draft.observed()):
            if awaited.data is None:
                self._look(thread, on, handler, awaited)

    def _look(self, thread: Thread, on: Node, handler: Observation, awaited: Awaited) -> None:
        purpose = (awaited.named or on.name, "", "look")
        context = self._context(thread, on.name, awaited.trouble, purpose)
        found = self._call_read_only(
            partial(handler.look, _request(context, self._draft.state, None)), context
        )
        payload = None
        if isinstance(found, Happened):
            payload = encode(found.payload, f"the payload of event {on.name!r}", StateError)
        before = (awaited.fire_at, awaited.done)
        awaited.fire_at = found.at if isinstance(found, LookAgain) else None
        awaited.done, awaited.trouble = True, Trouble()
        if payload is not None:
            awaited.data = [self._runtime.clock.now(), payload]
        if awaited.data is not None or before != (awaited.fire_at, True):
            self._draft.looked(thread, on.name)


def _request(context: StepContext, state: Workflow, data: Any) -> Request:
    return Request(
        workflow_id=context.workflow_id,
        thread=context.thread,
        event=context.statement,
        idempotency_key=context.idempotency_key,
        state=state,
        setup_data=data,
    )


def _teardown(progress: Progress, work: TearDown) -> Teardown:
    return progress.teardown(work.thread, work.since, work.event)


def _trouble_of(progress: Progress, work: Work, event_of: Callable[[Deliver], Event | None]) -> Trouble:
    if isinstance(work, TearDown):
        return _teardown(progress, work).trouble
    if isinstance(work, End):
        return Trouble()
    thread = progress.threads[work.thread]
    if isinstance(work, SetUp | Look):
        return thread.awaited[work.event].trouble
    event = event_of(work) if isinstance(work, Deliver) else None
    return thread.trouble if event is None else event.trouble


def _nothing() -> None:
    """What a WaitFor without a handler does."""


def _block(thread: Thread, work: Block) -> None:
    thread.trouble.parked = True
    if work.error is None:
        thread.trouble.stopped_with(work.what)
    else:
        thread.trouble.failed_with(work.what, work.error, text_of(work.error))


def _on(node: Node, event: str) -> Node:
    """The event of that name at a Wait."""
    return next(on for on in node.body if on.name == event)
