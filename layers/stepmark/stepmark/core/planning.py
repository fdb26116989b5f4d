"""What comes next for a workflow: functions of what is committed, and of which steps alongside have landed.

Nothing here changes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepmark.core.record import MAX_EVENTS, Event, Progress, Status, Teardown, Thread
from stepmark.core.tree import holds
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
from stepmark.definition.handlers import Handler, Observation, Timeout
from stepmark.definition.statements import Wait, WaitFor
from stepmark.errors import UnknownStatement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stepmark.core.tree import Node, Tree
    from stepmark.core.work import Work

    # when it came, its place among equals (timers last), what to do
    type _Win = tuple[float, int, Deliver]

MAX_TEARDOWNS = 20  # that wait to be done, before anything else is set up
# What is left to be torn down at a workflow's end is tried for that long: it must not keep the data for ever.
GIVE_UP_SECONDS = 3600.0


def next_work(progress: Progress, tree: Tree | None, landed: Mapping[str, bool], now: float) -> Work | None:
    """The next piece of work, or None. Steps that run alongside come first: they take nobody's turn.

    tree: None when the state can't be read, or definition() fails on it. landed: for each thread whose step
    runs alongside, whether that step has returned.
    """
    if is_over(progress, now, broken=tree is None):
        return End()
    if tree is None:
        return None
    for teardown in progress.teardowns:
        if teardown.trouble.ready(now):
            return TearDown(teardown.thread, teardown.since, teardown.event)
    if progress.ended is not None:
        return None
    return _next_of_threads(progress, tree, landed, now)


def _next_of_threads(progress: Progress, tree: Tree, landed: Mapping[str, bool], now: float) -> Work | None:
    """The next Launch, or else the first of works_of_threads(); few of many threads are looked at closely."""
    chosen: Work | None = None
    alongside = tree.shape.alongside
    for key, thread in progress.threads.items():
        has_landed = landed.get(key)
        if thread.trouble.parked or has_landed is False:
            continue
        if chosen is not None and (has_landed or thread.place.at not in alongside):
            continue  # no Launch
        work = _of_thread(progress, tree, thread, landed, now)
        if isinstance(work, Launch) or (work is not None and not alongside):
            return work
        chosen = chosen or work
    return chosen


def works_of_threads(
    progress: Progress, tree: Tree | None, landed: Mapping[str, bool], now: float
) -> Iterator[Work]:
    """What each thread has to do next, in the order of their turns."""
    if tree is None or progress.ended is not None:
        return
    for key, thread in progress.threads.items():
        if not thread.trouble.parked and landed.get(key) is not False:
            work = _of_thread(progress, tree, thread, landed, now)
            if work is not None:
                yield work


def _of_thread(
    progress: Progress, tree: Tree, thread: Thread, landed: Mapping[str, bool], now: float
) -> Work | None:
    try:
        node = tree.stop(thread.place)
        if thread.awaited:
            check_handlers(tree, thread, node)
    except UnknownStatement as error:
        return Block(thread.key, str(error))
    if node.kind is Wait:
        return _at_wait(progress, tree, thread, node, now)
    if not thread.trouble.ready(now):
        return None
    if node.kind is WaitFor:
        return _at_gate(tree, thread, node)
    return _at_step(tree, thread, node, landed)


def _at_step(tree: Tree, thread: Thread, node: Node, landed: Mapping[str, bool]) -> Work | None:
    if tree[node].into is None:
        return RunStep(thread.key)
    has_landed = landed.get(thread.key)
    if has_landed is None:
        return Launch(thread.key)
    return StoreResult(thread.key) if has_landed else None


def _at_gate(tree: Tree, thread: Thread, node: Node) -> Work | None:
    try:
        ready = holds(tree[node].cond)
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything
        return Block(thread.key, node.name, error)
    return PassGate(thread.key) if ready else None


def check_handlers(tree: Tree, thread: Thread, node: Node) -> None:
    """Refuse a position where something was set up that the definition can no longer tear down."""
    for name, awaited in thread.awaited.items():
        if awaited.setup and not _has_handler(tree, node, name):
            raise UnknownStatement(f"{_handler_gone(name, thread.at)}, which has been set up")


def _has_handler(tree: Tree, node: Node, name: str) -> bool:
    if node.kind is not Wait:
        return False
    return any(name in {on.name, *on.aliases} and isinstance(tree[on].handler, Handler) for on in node.body)


def handler_of(tree: Tree, teardown: Teardown) -> Handler:
    """The Handler that a teardown needs; UnknownStatement when the definition no longer has it."""
    node = tree.find(teardown.place)
    for on in () if node is None else node.body:
        handler = getattr(tree[on], "handler", None)
        if teardown.event in {on.name, *on.aliases} and isinstance(handler, Handler):
            return handler
    raise UnknownStatement(_handler_gone(teardown.event, teardown.place.at))


def _handler_gone(event: str, at: str) -> str:
    return f"the definition no longer has the handler of event {event!r} at {at!r}"


# -- at a Wait ----------------------------------------------------------------------------------------


def _at_wait(progress: Progress, tree: Tree, thread: Thread, node: Node, now: float) -> Work | None:
    """What a waiting thread has to do next.

    First come setups and looks that were never tried, then the earliest event or timer, then setups and looks
    that failed before. Nothing more is set up while too much has to be torn down.
    """
    if len(progress.teardowns) >= MAX_TEARDOWNS and _sets_up(tree, thread, node):
        return None
    best: _Win | None = None
    retry: Work | None = None
    for on in node.body:
        preparation, first = _preparation(tree, thread, on, now)
        if first:
            return preparation
        retry = preparation or retry
        win = _win(progress, tree, thread, on, now)
        if win is not None and (best is None or win[:2] < best[:2]):
            best = win
    return best[2] if best is not None else retry


def _sets_up(tree: Tree, thread: Thread, node: Node) -> bool:
    """Whether there is still something to set up."""
    for on in node.body:
        handler, awaited = tree[on].handler, thread.awaited.get(on.name)
        is_set_up = awaited is not None and awaited.done
        if isinstance(handler, Handler) and not isinstance(handler, Observation) and not is_set_up:
            return True
    return False


def _preparation(tree: Tree, thread: Thread, on: Node, now: float) -> tuple[Work | None, bool]:
    """What an event needs before it can come, and whether that was never tried."""
    handler = tree[on].handler
    if not isinstance(handler, Handler | Timeout):
        return None, False
    awaited = thread.awaited.get(on.name)
    if awaited is None or awaited.setup is isinstance(handler, Timeout | Observation):
        return Expect(thread.key, on.name), True
    if isinstance(handler, Timeout) or not awaited.trouble.ready(now):
        return None, False
    if awaited.done and (awaited.fire_at is None or awaited.fire_at > now):
        return None, False
    first = not awaited.trouble.attempt
    if isinstance(handler, Observation):
        return Look(thread.key, on.name, first=not awaited.done), first
    return SetUp(thread.key, on.name), first


def _win(progress: Progress, tree: Tree, thread: Thread, on: Node, now: float) -> _Win | None:
    """How an event wins, once it has come."""
    handler = tree[on].handler
    if isinstance(handler, Timeout):
        fire_at = thread.awaited[on.name].fire_at
        if fire_at is None or fire_at > now:
            return None
        return fire_at, MAX_EVENTS, Deliver(thread.key, on.name, None)
    if isinstance(handler, Observation):
        awaited = thread.awaited[on.name]
        if awaited.data is None or not awaited.trouble.ready(now):
            return None
        return awaited.data[0], 0, Deliver(thread.key, on.name, None)
    found = _event_for(progress, thread.key, on, now)
    if found is None:
        return None
    place, event = found
    return event.received_at, place, Deliver(thread.key, on.name, event.event_id)


def _event_for(progress: Progress, key: str, on: Node, now: float) -> tuple[int, Event] | None:
    """The first stored event of that name, with its place in the queue."""
    names = {on.name, *on.aliases}
    for place, event in enumerate(progress.events):
        if event.event in names and event.thread in {None, key} and event.trouble.ready(now):
            return place, event
    return None


# -- how a workflow stands ----------------------------------------------------------------------------


def is_over(progress: Progress, now: float, *, broken: bool) -> bool:
    """Whether the end of the workflow's life has come, and not all that was its own has ended."""
    if progress.ends_at is None or now < progress.ends_at:
        return False
    return progress.ended is None or bool(given_up(progress, now, broken=broken))


def given_up(progress: Progress, now: float, *, broken: bool) -> list[Teardown]:
    """What can't be torn down, or has failed for too long."""
    if progress.ends_at is None or now < progress.ends_at + GIVE_UP_SECONDS:
        return []
    return failed_teardowns(progress, broken=broken)


def left_behind(progress: Progress) -> bool:
    """Whether a workflow is over, and something is left that nobody will tear down without being told to."""
    if progress.ended is None or not progress.teardowns:
        return False
    # without a definition nobody can: somebody has to mend it first
    return progress.error is not None or any(each.trouble.parked for each in progress.teardowns)


def failed_teardowns(progress: Progress, *, broken: bool) -> list[Teardown]:
    """What is left of a workflow that is over, and has failed or can't be tried."""
    return [each for each in progress.teardowns if broken or each.trouble.attempt or each.trouble.parked]


def is_settled(progress: Progress, *, broken: bool) -> bool:
    """Whether a workflow is over, and nothing of it has failed to be torn down."""
    return progress.ended is not None and not failed_teardowns(progress, broken=broken)


def status_of(progress: Progress, now: float, before: Status, *, work_left: bool) -> Status:
    """Where a workflow stands that has, or has not, something to do now; before: where it stood.

    What has once been FINISHED or CANCELLED stays so, whatever becomes of what is still to be torn down.
    """
    ended = progress.ended
    if ended is not None and (before.closed or (progress.ends_at is not None and now >= progress.ends_at)):
        return ended  # past its end, what can't be torn down is given up by itself
    troubles = [trouble for trouble in progress.troubles() if trouble.attempt or trouble.parked]
    if any(trouble.parked for trouble in troubles):
        return Status.PARKED
    if ended is not None:
        # without a definition nobody can tear down what is left: somebody has to mend it first
        stuck = progress.teardowns and progress.error is not None
        return Status.PARKED if stuck else ended
    if progress.error is not None:
        return Status.PARKED
    if work_left or any(trouble.retry_at is not None for trouble in troubles):
        return Status.RUNNING
    return Status.WAITING


def times_ahead(progress: Progress, now: float) -> list[float]:
    """The timers and retries ahead; what is due already, and can be done, is planned as work."""
    times = [trouble.retry_at for trouble in progress.troubles() if not trouble.parked]
    for thread in progress.threads.values():
        if thread.awaited and not thread.trouble.parked:
            times += [awaited.fire_at for awaited in thread.awaited.values()]
    if progress.ends_at is not None:
        if progress.ended is None:
            times.append(progress.ends_at)
        elif progress.teardowns:
            times.append(progress.ends_at + GIVE_UP_SECONDS)
    return [at for at in times if at is not None and at > now]


def due_at(progress: Progress, now: float, *, work_left: bool) -> float | None:
    """When a worker must look again: now if the budget has left work, else at a timer or retry."""
    return now if work_left else min(times_ahead(progress, now), default=None)
