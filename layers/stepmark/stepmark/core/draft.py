"""What the next commit writes, whole or not at all."""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, Any

from stepmark.core.arriving import fire_at, resolve_aliases, same_event, thread_key
from stepmark.core.delivery import refusal_as_stored, refusal_at_rest
from stepmark.core.failures import branch_for, failures_around
from stepmark.core.planning import failed_teardowns, given_up
from stepmark.core.record import Awaited, Place, Progress, Status, Teardown, Thread, Trouble
from stepmark.core.shape import build
from stepmark.core.tree import Arrival, Started, after, arrive, first_of
from stepmark.core.values import settle
from stepmark.core.work import Deliver, End, TearDown
from stepmark.definition.handlers import Handler, Observation, Timeout
from stepmark.definition.statements import Wait
from stepmark.errors import DefinitionError, EventsFull, StateError, UnknownStatement, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from stepmark.core.delivery import Delivery, Output
    from stepmark.core.record import Event, Failure, Record
    from stepmark.core.state import Codec, Stored
    from stepmark.core.tree import Node, Tree
    from stepmark.core.work import Work
    from stepmark.definition.workflow import Workflow


class Draft:
    """The state and its tree, where the threads are, and what was sent, as the next commit writes them.

    outbox: what the function that runs has sent to its own workflow. unsaved: something has come from outside
    (an event, what a look has found, the default of a new field) that is not committed yet.
    """

    def __init__(self, codec: Codec, record: Record) -> None:
        self.codec = codec
        self.outbox: list[Event] = []
        self.delivery: Delivery | None = None
        self.reply: Output | None = None  # to that sender, once it is committed
        self.unsaved = False
        self._not_begun: set[tuple[str, int, str]] = set()  # setups that have certainly not begun
        self._looked: set[tuple[str, str]] = set()  # (thread, event) of looks that are not committed yet
        self._restorer = _Restorer(codec)
        self._take(record)

    def restart(self, record: Record) -> None:
        """Draft the committed record again: what was changed and sent since then is dropped.

        What has come from outside stays: the event of a sender who waits, what was looked for, and what was
        done about the timer.
        """
        before = self.progress
        self._take(record)
        self.progress.timer = before.timer
        for key, event in self._looked:
            thread, was = self.progress.threads.get(key), before.threads.get(key)
            if thread is not None and was is not None and thread.since == was.since and event in was.awaited:
                thread.awaited[event] = was.awaited[event]
        if self.delivery is not None and self.delivery.open:
            stored = self.progress.event(self.delivery.event.event_id)
            self.delivery.stored = stored is not None
            if stored is None:
                self.progress.events.append(self.delivery.event)
            else:
                stored.sender = ""
                self.delivery.event = stored

    def committed(self) -> None:
        """The store has it all."""
        self.unsaved = False
        self._looked.clear()
        if self.delivery is not None and self.reply is not None:
            self.delivery.reply = self.reply

    def forget_looks(self) -> None:
        """What was looked for and not committed is to be looked for again."""
        self._looked.clear()

    def _take(self, record: Record) -> None:
        self.text = record.state
        self.progress = Progress.from_json(record.progress)
        self.outbox.clear()
        self.reply = None
        self.load()

    # -- the state and its tree -----------------------------------------------------------------------

    def load(self) -> None:
        """Read the state; a class or definition that does not work parks the workflow as it is."""
        self.stored: Stored | None = None
        self._tree: Tree | None = None
        self._broken: StateError | DefinitionError | None = None
        self.progress.error = self.progress.brief = None
        try:
            self.stored = self._restorer.restore(self.text)
            self.text, self.unsaved = self.stored.text, self.unsaved or self.stored.new
            self._tree = build(self.stored.state)
        except (StateError, DefinitionError) as error:
            self._broken = error
            self.progress.error = text_of(error)
            self.progress.brief = error.brief
        else:
            resolve_aliases(self.progress, self._tree)
            self.apply_look_request()

    @property
    def tree_if_any(self) -> Tree | None:
        """The tree, or None when the state can't be read, or definition() fails on it."""
        return self._tree

    @property
    def tree(self) -> Tree:
        """The definition on the current state."""
        if self._tree is None:
            raise self._broken or DefinitionError("the workflow has no definition")
        return self._tree

    @property
    def state_if_any(self) -> Workflow | None:
        """The state, or None when it can't be read."""
        return None if self.stored is None else self.stored.state

    @property
    def state(self) -> Workflow:
        """The current state."""
        if self.stored is None:
            raise self._broken or StateError("the workflow has no state")
        return self.stored.state

    # -- where the threads are ------------------------------------------------------------------------

    def turn(self, key: str) -> None:
        """A thread has its turn: all others come before its next."""
        self.progress.threads[key] = self.progress.threads.pop(key)

    def pass_statement(self, thread: Thread, node: Node, since: int, now: float) -> None:
        """Take the changed state, and go on after the statement that a thread is at."""
        self.arrive(thread, lambda tree: after(self.again(thread, node, tree)), since, now)

    def enter_event(self, thread: Thread, node: Node, on: Node, since: int, now: float) -> None:
        """The same, with what stands inside the event that has won."""
        self.arrive(thread, lambda tree: first_of(same_event(self.again(thread, node, tree), on)), since, now)

    def again(self, thread: Thread, node: Node, tree: Tree) -> Node:
        """The statement that a thread is at in the tree of the changed state."""
        if tree.shape is self.tree.shape:
            return node
        try:
            return tree.stop(thread.place)
        except UnknownStatement as error:
            raise DefinitionError(f"on the state that it left, {error}") from error

    def arrive(self, thread: Thread, start: Callable[[Tree], Node | None], since: int, now: float) -> None:
        """Take the changed state, and find where the thread goes; since: the version of the next commit."""
        stored = self.codec.store(self.state, self.stored)
        tree = build(stored.state)
        arrival, started, result = self._walk(tree, start(tree))
        if tree.shape is not self.tree.shape:
            resolve_aliases(self.progress, tree)
        self.text, self.stored, self._tree = stored.text, stored, tree
        for key, each in started:
            if each.at is not None:
                several = len(tree.shape.threads.get(each.go, ())) > 1
                place = Place(each.at.name, each.go, each.id, several)
                new = self.progress.threads[key] = Thread(key, place, since)
                new.failures = failures_around(thread.failures, each.at)
                self._enter(new, each.at, now)
        if arrival.finished:
            self.close(Status.FINISHED, result)
        elif arrival.at is None:
            del self.progress.threads[thread.key]
            if not self.progress.threads:
                self.close(Status.FINISHED, None)
        else:
            thread.place = thread.place.moved_to(arrival.at.name)
            thread.since = since
            thread.trouble = Trouble()
            thread.failures = failures_around(thread.failures, arrival.at)
            self._enter(thread, arrival.at, now)

    def _walk(self, tree: Tree, node: Node | None) -> tuple[Arrival, list[tuple[str, Started]], Any]:
        """Where a walk from there ends, names for the threads it starts, the result as JSON holds it."""
        try:
            arrival = arrive(tree, node)
        except DefinitionError:
            raise
        except Exception as error:
            brief = f"a condition raised {type(error).__name__}"
            raise DefinitionError(f"{brief}: {text_of(error)}", brief=brief) from error
        result = settle(arrival.result, "the result of Finish", StateError) if arrival.finished else None
        taken = ChainMap[str, Any]({}, self.progress.threads)
        started: list[tuple[str, Started]] = []
        for each in arrival.started:
            key = thread_key(each, taken)
            if each.at is not None:
                taken[key] = each
            started.append((key, each))
        return arrival, started, result

    # -- what they wait for ---------------------------------------------------------------------------

    def _enter(self, thread: Thread, node: Node, now: float) -> None:
        """Note what a thread has to wait for at the statement it has come to."""
        thread.awaited = {}
        if node.kind is Wait:
            for on in node.body:
                self.expect(thread, on, now)

    def expect(self, thread: Thread, on: Node, now: float) -> None:
        """Note one event that a thread has to wait for."""
        handler = self.tree[on].handler
        if isinstance(handler, Timeout):
            thread.awaited[on.name] = Awaited(fire_at=fire_at(handler, on, now))
        elif isinstance(handler, Observation):
            thread.awaited[on.name] = Awaited()
        elif isinstance(handler, Handler):
            thread.awaited[on.name] = Awaited(setup=True)
            self._not_begun.add((thread.key, thread.since, on.name))

    def begin_setup(self, thread: Thread, event: str) -> None:
        """From now on the event may have been set up, whatever becomes of this process."""
        self._not_begun.discard((thread.key, thread.since, event))

    def leave(self, thread: Thread, winner: str | None) -> None:
        """A thread's Wait is over: whatever may have been set up has to be torn down."""
        for event, awaited in thread.awaited.items():
            if awaited.setup and (thread.key, thread.since, event) not in self._not_begun:
                handled = event == winner
                self.progress.teardowns.append(
                    Teardown(thread.key, thread.place, event, thread.since, handled, awaited.data)
                )
        thread.awaited = {}

    def observed(self) -> Iterator[tuple[Thread, Node, Observation, Awaited]]:
        """What the threads look for where they are now."""
        if not self.tree.shape.handled:
            return
        for thread in self.progress.threads.values():
            node = self.tree.find(thread.place) if thread.awaited else None
            for on in () if node is None or node.kind is not Wait else node.body:
                handler, awaited = self.tree[on].handler, thread.awaited.get(on.name)
                if isinstance(handler, Observation) and awaited is not None:
                    yield thread, on, handler, awaited

    def looked(self, thread: Thread, event: str) -> None:
        """Something has come of a look, which is to be committed."""
        self._looked.add((thread.key, event))
        self.unsaved = True

    def apply_look_request(self) -> None:
        """Somebody asks to look again; what is found is committed together with the fact."""
        if self.progress.look and self._tree is not None:
            self.progress.look = False
            for *_, awaited in self.observed():
                awaited.done = awaited.data is not None

    # -- endings and failures -------------------------------------------------------------------------

    def close(self, status: Status, result: Any) -> None:
        """End the workflow: its threads are over, what they waited for is torn down."""
        for thread in self.progress.threads.values():
            self.leave(thread, None)
        self.progress.ended = status
        self.progress.threads = {}
        for event in self.progress.events:
            waits = self.delivery is not None and self.delivery.is_of(event.event_id)
            if not event.sender and (not waits or (self.delivery is not None and self.delivery.promised)):
                self.progress.remember(event.event_id, None)  # what its sender was told
        self.progress.events = []
        self.progress.result = result

    def close_for_good(self, now: float) -> None:
        """The end of the workflow's life has come: what could not be torn down for long is given up."""
        if self.progress.ended is None:
            self.close(Status.CANCELLED, None)
        self.drop_teardowns(given_up(self.progress, now, broken=self._tree is None))

    def drop_teardowns(self, lost: Collection[Teardown]) -> None:
        """That is not to be torn down any more."""
        self.progress.teardowns = [each for each in self.progress.teardowns if each not in lost]

    def forgive(self) -> None:
        """Have what failed tried again, and look again for what may have happened since."""
        for trouble in self.progress.troubles():
            trouble.forgive()
        self.progress.look = True
        self.apply_look_request()

    def park_spinning(self, works: Iterable[Work], version: int) -> None:
        """The workflow has gone on and on without a pause: park the threads that have something to do."""
        commits = version - self.progress.rested
        for work in list(works):
            if not isinstance(work, End):
                thread = self.progress.threads[work.thread]
                thread.trouble = Trouble(1, parked=True)
                thread.trouble.stopped_with(
                    f"{thread.at}: {commits} commits without a pause; if it doesn't loop for ever, raise "
                    "max_commits_without_pause, then retry"
                )

    def post_outbox(self) -> None:
        """What was sent becomes one of the events that are kept."""
        if self.outbox:
            if self.progress.ended is None:
                self.progress.events += self.outbox
            self.outbox.clear()

    def delivers(self, work: Work | None) -> bool:
        """Whether a piece of work is the delivery of the event whose sender waits in this call."""
        delivery = self.delivery
        return isinstance(work, Deliver) and delivery is not None and delivery.is_of(work.event_id)

    def refuse(self, error: Exception) -> None:
        """The sender waits in this call: nothing has changed, and the sender is told why."""
        if self.delivery is not None:
            self.progress.drop_event(self.delivery.event.event_id)
            self.delivery.reply = error
        self.unsaved = False


class _Restorer:
    """Reads the states of a draft; the defaults of new fields are made once, whatever becomes of a commit."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._committed = self._completed = ""

    def restore(self, text: str) -> Stored:
        stored = self._codec.restore(self._completed if text == self._committed else text)
        if stored.text != text:
            self._committed, self._completed = text, stored.text
        return stored


def refuse_change(draft: Draft) -> None:
    """Refuse a state that something else than a step or handler has changed; DefinitionError names the field.

    To be called before those are, and costs one dump of the state.
    """
    codec, now = draft.codec, draft.codec.dump(draft.state)
    if draft.stored is None or now == draft.stored.fields:
        return
    # sets have no order: what counts is what the stored state is read as
    field = codec.changed(codec.dump(codec.load(draft.text)), now)
    if field is not None:
        what = "definition(), or a condition in it, has changed"
        raise DefinitionError(
            f"{what} field {field!r}, which only steps and handlers may: compute it in a step"
        )


def cancel(draft: Draft, now: float, *, over: bool) -> None:
    """End the workflow; of one that has ended, give up what has failed to be torn down, or can't be tried.

    over: the end of its life has come.
    """
    progress = draft.progress
    if over:
        draft.close_for_good(now)
    elif progress.ended is None:
        draft.close(Status.CANCELLED, None)
    else:
        draft.drop_teardowns(failed_teardowns(progress, broken=draft.tree_if_any is None))
        if not progress.teardowns:
            progress.error = progress.brief = None


def park_crashing(draft: Draft, work: Work | None, works: Iterable[Work]) -> None:
    """Whoever runs the workflow has died again and again: park the threads that have something to do.

    work: what comes next. If that is a teardown, it alone is parked.
    """
    progress, crashes = draft.progress, draft.progress.crashes
    if isinstance(work, TearDown):
        teardown = progress.teardown(work.thread, work.since, work.event)
        teardown.trouble = _died(f"teardown of event {work.event!r}", crashes)
        return
    for each in list(works):
        if not isinstance(each, End):
            thread = progress.threads[each.thread]
            thread.trouble = _died(thread.at, crashes)


def check_kept(draft: Draft, workflow_id: str, *, at_rest: bool) -> None:
    """Raise EventsFull or EventRefused when a sender's event can't be kept, or must not be.

    at_rest: nothing is left to be done now that could bring a thread to another Wait.
    """
    delivery = draft.delivery
    if delivery is None:
        return
    if not delivery.room:
        raise EventsFull(workflow_id)
    refusal = refusal_at_rest(draft.tree_if_any, draft.progress, delivery.event) if at_rest else None
    if refusal is not None and not delivery.stored:
        raise refusal


def settle_events(draft: Draft, *, at_rest: bool) -> None:
    """The lease is given back: each event that is still there is kept, or refused, and its sender told."""
    progress, delivery = draft.progress, draft.delivery
    tree = draft.tree_if_any if at_rest else None
    for event in list(progress.events):
        own = delivery is not None and delivery.is_of(event.event_id) and not delivery.stored
        refusal = refusal_at_rest(tree, progress, event) if own or event.sender else None
        if refusal is not None and own:
            draft.refuse(refusal)
        elif refusal is not None:
            progress.drop_event(event.event_id)
            progress.remember(event.sender, refusal_as_stored(refusal))
        event.sender = ""


def _died(place: str, crashes: int) -> Trouble:
    trouble = Trouble(crashes, parked=True)
    trouble.stopped_with(f"{place}: the process has died {crashes} times in a row")
    return trouble


def give_up(
    draft: Draft, thread: Thread, error: BaseException, failure: Failure, *, since: int, now: float
) -> bool:
    """Go on in the branch that a thread's step has for such an error; False when there is none."""
    node = draft.tree.stop(thread.place)
    if branch_for(draft.tree, node, error) is None:
        return False

    def enter(tree: Tree) -> Node | None:
        branch = branch_for(tree, draft.again(thread, node, tree), error)
        if branch is None:
            raise DefinitionError(f"the definition no longer has a branch for what {thread.at!r} failed with")
        return first_of(branch)

    thread.failures.append(failure)
    try:
        draft.arrive(thread, enter, since, now)
    except (DefinitionError, StateError) as problem:
        thread.failures.pop()
        thread.trouble.failed_with(thread.at, problem, text_of(problem))
        return False
    return True
