"""What a sender's event meets in the store, decided without a store, a thread or a clock."""

import pytest
from stepmark import Status
from stepmark.core.delivery import Answered, Closed, JoinsCommit, Meeting, Posted, Sender, ToDeliver, meet
from stepmark.core.record import Event, Progress

STORED = Event("answer", "null", None, "click-1", 5.0)


def progress(*events: Event, output: object = None, ended: Status | None = None) -> Progress:
    made = Progress(events=list(events), ended=ended)
    if output is not None:
        made.remember("click-1", output)
    return made


@pytest.mark.parametrize("leased", [True, False])
@pytest.mark.parametrize("sender", list(Sender))
def test_a_repeat_meets_the_first_output_whatever_else_is_so(sender: Sender, leased: bool) -> None:
    over = progress(STORED, output="approved", ended=Status.FINISHED)
    assert meet(over, "click-1", sender, leased=leased) == Answered("approved")


@pytest.mark.parametrize("leased", [True, False])
@pytest.mark.parametrize("sender", list(Sender))
def test_what_is_over_takes_nothing(sender: Sender, leased: bool) -> None:
    over = progress(STORED, ended=Status.CANCELLED)
    assert meet(over, "click-1", sender, leased=leased) == Closed(Status.CANCELLED)


@pytest.mark.parametrize(
    ("kept", "sender", "leased", "meeting"),
    [
        ((), Sender.OUTSIDE, False, ToDeliver(None)),
        ((STORED,), Sender.OUTSIDE, False, ToDeliver(STORED)),
        ((), Sender.OUTSIDE, True, Posted(stored=False, awaited=True)),
        ((STORED,), Sender.OUTSIDE, True, Posted(stored=True, awaited=True)),
        ((), Sender.STEP, True, JoinsCommit(stored=False)),
        ((STORED,), Sender.STEP, True, JoinsCommit(stored=True)),
        ((), Sender.STEP, False, JoinsCommit(stored=False)),
        ((), Sender.STEP_ALONGSIDE, True, Posted(stored=False, awaited=False)),
        ((STORED,), Sender.STEP_ALONGSIDE, True, Posted(stored=True, awaited=False)),
        ((), Sender.STEP_ALONGSIDE, False, ToDeliver(None)),
    ],
)
def test_an_event_meets(kept: tuple[Event, ...], sender: Sender, leased: bool, meeting: Meeting) -> None:
    before = progress(*kept)
    found = meet(before, "click-1", sender, leased=leased)
    assert (type(found), found) == (type(meeting), meeting)
    assert before == progress(*kept), "it changes nothing"


def test_another_events_output_is_not_its_own() -> None:
    assert meet(progress(output="approved"), "click-2", Sender.OUTSIDE, leased=False) == ToDeliver(None)
