"""What happens at a Wait: events and timers, and the setup and teardown of Handlers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from stepmark.core.record import (
    MAX_EVENTS,
    MAX_REFUSAL,
    Awaited,
    Event,
    Teardown,
    Thread,
    Trouble,
)
from stepmark.core.values import encode, settle
from stepmark.core.walk import first_of
from stepmark.definition.handlers import (
    Handler,
    Happened,
    LookAgain,
    Observation,
    Request,
    decode_payload,
)
from stepmark.definition.statements import Timeout, Wait
from stepmark.errors import (
    DefinitionError,
    HandlerFailed,
    PayloadRefused,
    StateError,
    UnknownStatement,
    text_of,
)

_BRIEF = "brief"  # for the release before it is as good as True
MAX_TEARDOWNS = 20  # that wait to be done, before anything else is set up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepmark.core.shape import Node, Tree
    from stepmark.definition.retry import Retry
    from stepmark.runtime.context import StepContext
    from stepmark.runtime.session import Session

    # when it came, its place among equals (timers last), what to do
    type _Win = tuple[float, int, partial[None]]


def enter(session: Session, thread: Thread, node: Node) -> None:
    """Note what a thread has to wait for at the statement it has come to."""
    thread.awaited = {}
    if node.kind is Wait:
        for on in node.body:
            _expect(session, thread, on)


def _expect(session: Session, thread: Thread, on: Node) -> None:
    handler = session.tree[on].handler
    if isinstance(handler, Timeout):
        thread.awaited[on.name] = Awaited(fire_at=session.clock.now() + handler.seconds)
    elif isinstance(handler, Observation):
        thread.awaited[on.name] = Awaited()
    elif isinstance(handler, Handler):
        thread.awaited[on.name] = Awaited(setup=True)
        session.not_begun.add((thread.key, thread.since, on.name))


def leave(session: Session, thread: Thread, winner: str | None) -> None:
    """A thread's Wait is over: whatever may have been set up has to be torn down."""
    for name, awaited in thread.awaited.items():
        if awaited.setup and (thread.key, thread.since, name) not in session.not_begun:
            session.progress.teardowns.append(
                Teardown(
                    thread=thread.key,
                    go=thread.go,
                    id=thread.id,
                    wait=thread.at,
                    event=name,
                    since=thread.since,
                    several=thread.several,
                    handled=name == winner,
                    data=awaited.data,
                )
            )
    thread.awaited = {}


def plan(session: Session, thread: Thread, node: Node, now: float) -> partial[None] | None:
    """What a waiting thread has to do next.

    First come setups and looks that were never tried, then the earliest event or timer, then setups and looks
    that failed before. Nothing more is set up while too much has to be torn down.
    """
    if len(session.progress.teardowns) >= MAX_TEARDOWNS and _sets_up(session.tree, thread, node):
        return None
    best: _Win | None = None
    retry: partial[None] | None = None
    for on in node.body:
        preparation, first = _prepare(session, thread, on, now)
        if first:
            return preparation
        retry = preparation or retry
        win = _win(session, thread, node, on, now)
        best = best if win is None else _earlier(best, win)
    return best[2] if best is not None else retry


def _sets_up(tree: Tree, thread: Thread, node: Node) -> bool:
    """Whether there is still something to set up."""
    for on in node.body:
        handler, awaited = tree[on].handler, thread.awaited.get(on.name)
        is_set_up = awaited is not None and awaited.done
        if isinstance(handler, Handler) and not isinstance(handler, Observation) and not is_set_up:
            return True
    return False


def _prepare(session: Session, thread: Thread, on: Node, now: float) -> tuple[partial[None] | None, bool]:
    """What an event needs before it can come, and whether that was never tried."""
    handler = session.tree[on].handler
    if not isinstance(handler, Handler | Timeout):
        return None, False
    awaited = thread.awaited.get(on.name)
    if awaited is None or awaited.setup is isinstance(handler, Timeout | Observation):
        return partial(_expect_now, session, thread, on), True
    if isinstance(handler, Timeout) or not awaited.trouble.ready(now):
        return None, False
    work = partial(_set_up, session, thread, on)
    if isinstance(handler, Observation):
        work = partial(_look_again, session, thread, on)
    if awaited.done and (awaited.fire_at is None or awaited.fire_at > now):
        return None, False
    return work, not awaited.trouble.attempt


def _win(session: Session, thread: Thread, node: Node, on: Node, now: float) -> _Win | None:
    """How an event wins, once it has come."""
    handler = session.tree[on].handler
    if isinstance(handler, Timeout):
        fire_at = thread.awaited[on.name].fire_at
        if fire_at is None or fire_at > now:
            return None
        return fire_at, MAX_EVENTS, partial(_deliver, session, thread, node, on, None)
    if isinstance(handler, Observation):
        event = _seen(thread.awaited[on.name], on)
        found = None if event is None or not event.trouble.ready(now) else (0, event)
    else:
        found = _event_for(session, thread.key, on, now)
    if found is None:
        return None
    place, event = found
    return event.received_at, place, partial(_deliver, session, thread, node, on, event)


def _earlier(one: _Win | None, other: _Win) -> _Win:
    return other if one is None or other[:2] < one[:2] else one


def _event_for(session: Session, key: str, on: Node, now: float) -> tuple[int, Event] | None:
    """The first stored event of that name, with its place in the queue."""
    names = {on.name, *on.aliases}
    for place, event in enumerate(session.progress.events):
        if event.event in names and event.thread in {None, key} and event.trouble.ready(now):
            return place, event
    return None


def check_handlers(tree: Tree, thread: Thread, node: Node) -> None:
    """Refuse a position where something was set up that the definition can no longer tear down."""
    handlers: set[str] = set()
    if node.kind is Wait:
        for on in node.body:
            for alias in on.aliases:
                if alias in thread.awaited:
                    awaited = thread.awaited[on.name] = thread.awaited.pop(alias)
                    awaited.named = awaited.named or alias
            if isinstance(tree[on].handler, Handler):
                handlers.add(on.name)
    for name, awaited in thread.awaited.items():
        if awaited.setup and name not in handlers:
            raise UnknownStatement(f"{_gone(name, thread)}, which has been set up")


def _expect_now(session: Session, thread: Thread, on: Node) -> None:
    """A deploy has added this event to the Wait a thread is at."""
    _expect(session, thread, on)
    session.commit()


# -- looking for what happens elsewhere ---------------------------------------------------------------


def observed(session: Session) -> Iterator[tuple[Thread, Node, Observation, Awaited]]:
    """What the threads look for where they are now."""
    for thread in session.progress.threads.values():
        tree = session.tree
        root = tree.root(thread.go, thread.id, several=thread.several) if thread.awaited else None
        node = None if root is None else session.tree.shape.find(root, thread.at)
        for on in () if node is None or node.kind is not Wait else node.body:
            handler, awaited = session.tree[on].handler, thread.awaited.get(on.name)
            if isinstance(handler, Observation) and awaited is not None:
                yield thread, on, handler, awaited


def look_around(session: Session) -> None:
    """Look for the first time, within the commit that brings a thread to its Wait.

    Only for the holder of the lease: others who may have missed it leave word with the holder.
    """
    for thread, on, handler, awaited in list(observed(session)):
        if not awaited.done and not awaited.trouble.attempt:
            try:
                _look(session, thread, on, handler, awaited)
            except Exception as error:  # noqa: BLE001 - the user's function may raise anything
                session.note(awaited.trouble, f"look for event {on.name!r}", error, handler.retry)


def look_now(session: Session) -> None:
    """Look for everything once more; an error is the caller's."""
    for thread, on, handler, awaited in list(observed(session)):
        if awaited.data is None:
            _look(session, thread, on, handler, awaited)


def _look_again(session: Session, thread: Thread, on: Node) -> None:
    handler, awaited = session.tree[on].handler, thread.awaited[on.name]
    session.turn(thread)
    try:
        _look(session, thread, on, handler, awaited)
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything
        awaited.fire_at, awaited.done = None, False
        session.failed(awaited.trouble, f"look for event {on.name!r}", error, handler.retry)
        return
    if awaited.data is None:
        session.commit()


def _look(session: Session, thread: Thread, on: Node, handler: Observation, awaited: Awaited) -> None:
    context = session.context(thread, on.name, awaited.trouble, f"/{awaited.named or on.name}/look")
    found = _aside(session, partial(handler.look, _request(session, context, None)), context)
    before = (awaited.fire_at, awaited.done)
    awaited.fire_at = found.at if isinstance(found, LookAgain) else None
    awaited.done, awaited.trouble = True, Trouble()
    if isinstance(found, Happened):
        payload = encode(found.payload, f"the payload of event {on.name!r}", StateError)
        awaited.data = [session.clock.now(), payload]
    session.unsaved = session.unsaved or awaited.data is not None or before != (awaited.fire_at, True)


def _seen(awaited: Awaited, on: Node) -> Event | None:
    """What a look has found, as the event that it stands for; a handler's failures stay with the look."""
    if awaited.data is None:
        return None
    at, payload = awaited.data
    return Event(awaited.named or on.name, payload, None, "", at, awaited.trouble)


# -- setup and teardown -------------------------------------------------------------------------------


def _set_up(session: Session, thread: Thread, on: Node) -> None:
    handler: Handler = session.tree[on].handler
    awaited = thread.awaited[on.name]
    session.not_begun.discard((thread.key, thread.since, on.name))
    session.turn(thread)
    context = session.context(thread, on.name, awaited.trouble, f"/{awaited.named or on.name}/setup")
    try:
        awaited.data = _apart(session, partial(handler.setup, _request(session, context, None)), context)
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything
        session.failed(awaited.trouble, f"setup of event {on.name!r}", error, handler.retry)
        return
    awaited.done, awaited.trouble = True, Trouble()
    session.commit()


def tear_down(session: Session, teardown: Teardown) -> None:
    """Run one teardown; it has left its thread behind and is retried on its own."""
    thread = Thread(
        teardown.thread, teardown.wait, teardown.go, teardown.id, teardown.since, teardown.several
    )
    retry: Retry | None = None
    try:
        handler = _handler_of(session.tree, thread, teardown.event)
        retry = handler.retry
        context = session.context(thread, teardown.event, teardown.trouble, f"/{teardown.event}/teardown")
        request = _request(session, context, teardown.data)
        _apart(session, partial(handler.teardown, request, teardown.handled), context)
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything
        session.failed(teardown.trouble, f"teardown of event {teardown.event!r}", error, retry)
        return
    session.progress.teardowns.remove(teardown)
    session.commit()


def _handler_of(tree: Tree, thread: Thread, event: str) -> Handler:
    root = tree.root(thread.go, thread.id, several=thread.several)
    node = None if root is None else tree.shape.find(root, thread.at)
    for on in () if node is None else node.body:
        handler = getattr(tree[on], "handler", None)
        if event in {on.name, *on.aliases} and isinstance(handler, Handler):
            return handler
    raise UnknownStatement(_gone(event, thread))


def _gone(event: str, thread: Thread) -> str:
    return f"the definition no longer has the handler of event {event!r} at {thread.at!r}"


def _apart(session: Session, function: Callable[[], Any], context: StepContext) -> Any:
    """Run what may not change the state; its result as JSON holds it."""
    return settle(_aside(session, function, context), "what it returned", StateError)


def _aside(session: Session, function: Callable[[], Any], context: StepContext) -> Any:
    before = session.codec.dump(session.state)
    result = session.call(function, context)
    changed = session.codec.changed(before, session.codec.dump(session.state))
    if changed is not None:
        raise StateError(f"it changed field {changed!r}, which only handle() may do")
    return result


def _request(session: Session, context: StepContext, data: Any) -> Request:
    return Request(
        workflow_id=context.workflow_id,
        thread=context.thread,
        event=context.statement,
        idempotency_key=context.idempotency_key,
        state=session.state,
        setup_data=data,
    )


# -- events -------------------------------------------------------------------------------------------


def _deliver(session: Session, thread: Thread, node: Node, on: Node, event: Event | None) -> None:
    """The event (or timer, when it is None) wins: its handler runs, the thread goes on."""
    handler = session.tree[on].handler
    teardowns, awaited = list(session.progress.teardowns), thread.awaited
    session.turn(thread)
    try:
        output = None if event is None else _handle(session, thread, on, event)
        leave(session, thread, on.name)
        session.arrive(thread, lambda tree: first_of(_again(session, thread, node, on, tree)))
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything
        session.progress.teardowns, thread.awaited = teardowns, awaited
        if event is not None and event is session.event:
            withdraw(session, _refusal(event.event, error))
        elif event is not None and event.sender and session.clock.now() < event.until:
            _turn_down(session, event, event.sender, error)
        else:
            trouble = thread.trouble if event is None else event.trouble
            session.failed(trouble, on.name, error, getattr(handler, "retry", None))
        return
    if event is not None:
        if event in session.progress.events:
            session.progress.events.remove(event)
        # whoever has the lease has stored the event: its sender may come to look for what has become of it
        if not session.fleeting or event is not session.event or session.ledger.held:
            session.progress.remember(event.event_id, output)
    session.commit()
    if event is not None and event is session.event:
        session.output, session.event, session.handled = output, None, True


def _handle(session: Session, thread: Thread, on: Node, event: Event) -> Any:
    handler = session.tree[on].handler
    payload = decode_payload(handler, event.payload, on.name)  # none, or one
    if handler is None:
        return None
    purpose = f"/{event.event_id}" if event.event_id else ""
    context = session.context(thread, on.name, event.trouble, f"/{event.event}{purpose}")
    if isinstance(handler, Handler):
        awaited = thread.awaited.get(on.name)
        request = _request(session, context, awaited.data if awaited and awaited.setup else None)
        output = session.call(partial(handler.handle, request, *payload), context)
    else:
        output = session.call(partial(handler, *payload), context)
    return settle(output, f"the output of event {on.name!r}", StateError)


def _again(session: Session, thread: Thread, node: Node, on: Node, tree: Tree) -> Node:
    """The same event in the tree of the changed state."""
    for child in session.again(thread, node, tree).body:
        if child.name == on.name:
            return child
    raise DefinitionError(
        f"on the state that it left, the definition has no event {on.name!r} at {node.name!r}"
    )


def withdraw(session: Session, error: Exception) -> None:
    """The sender waits in this call: nothing has changed, and the sender is told."""
    progress, event = session.progress, session.event
    progress.events = [other for other in progress.events if event and other.event_id != event.event_id]
    session.event, session.refused, session.unsaved = None, error, False
    session.undo()


def _turn_down(session: Session, event: Event, sender: str, error: Exception) -> None:
    """The same when the sender looks into the store for an answer."""
    refusal = _refusal(event.event, error)
    session.progress.events.remove(event)
    session.progress.remember(sender, refusal_as_stored(refusal))
    session.undo()
    session.commit()


def _refusal(event: str, error: Exception) -> Exception:
    if isinstance(error, PayloadRefused):
        return error
    refusal = HandlerFailed(
        f"event {event!r} changed nothing: its handler raised {type(error).__name__}: {text_of(error)}"
    )
    refusal.__cause__ = error
    return refusal


def refusal_as_stored(refusal: Exception) -> list[Any]:
    """A refusal for a sender who looks into the store: of what kind it is, and its text."""
    if not isinstance(refusal, PayloadRefused):
        return [False, text_of(refusal)[:MAX_REFUSAL]]
    if refusal.brief is None:
        return [True, text_of(refusal)[:MAX_REFUSAL]]
    return [_BRIEF, refusal.brief[:MAX_REFUSAL]]


def refusal_from(stored: list[Any]) -> Exception:
    """A refusal as the sender finds it in the store."""
    kind, text = stored
    if not kind:
        return HandlerFailed(text)
    return PayloadRefused(text, brief=text if kind == _BRIEF else None)


# They only deliver what has happened: two that do it at once do no harm, one of them commits.
NEED_NO_LEASE = frozenset({_deliver, _expect_now, _look_again})


def arrives(work: partial[None]) -> bool:
    """Whether a piece of work only notes what to wait for, or looks for it for the first time."""
    if work.func is _look_again:
        _, thread, on = work.args
        return not thread.awaited[on.name].done
    return work.func is _expect_now


def delivers(work: partial[None], event: Event | None) -> bool:
    """Whether a piece of work is the delivery of that event."""
    return event is not None and work.func is _deliver and work.args[-1] is event
