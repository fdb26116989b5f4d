"""Whatever call to AWS a function dies at: every journey ends right, and no commit counts twice."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.cloud import Cloud, deployed
from tests.support.journeys import APPROVAL, Calls, World, calls, new_id, repeat, running

WHOLE_SECONDS = 2  # by which delays and schedules may be rounded up, so that nothing is left to the sweep


def live_through(world: World, conversation_id: str) -> None:
    """One call from its start to the supervisor's answer."""
    world.begin(conversation_id)
    world.give_reason(conversation_id)
    assert repeat(lambda: world.start(conversation_id)).status in {200, 202}
    world.settle()
    world.identify(conversation_id)
    world.recover(lambda: "approve" in world.get(conversation_id)["waitingFor"])
    answer = repeat(lambda: world.send(conversation_id, "approve", APPROVAL, key="click"))
    if answer.status == 503:  # the workflow belongs to a function that has died, until its lease is over
        assert answer.headers["Retry-After"]
        world.recover(lambda: world.get(conversation_id)["status"] == "FINISHED")
        answer = world.send(conversation_id, "approve", APPROVAL, key="click")
    assert (answer.status, answer.body) == (200, {"output": "approved"})
    world.recover(lambda: world.get(conversation_id)["status"] == "FINISHED")


def check(world: World, conversation_id: str) -> None:
    ended = world.get(conversation_id)
    assert (ended["result"], ended["state"]["decided"], ended["error"]) == ("approved", APPROVAL, None)
    assert world.attributes(conversation_id)["retention"] == "approved"


# What dies after a call has done what nobody has heard of: the harder case.
@pytest.fixture(params=["crash_after", pytest.param("crash_before", marks=pytest.mark.long)])
def where(request: pytest.FixtureRequest) -> str:
    """On which side of each call the function dies."""
    side: str = request.param
    return side


def crash_everywhere(where: str, seen: Calls, scenario: Callable[[], None], needed: set[str]) -> None:
    """Play a scenario once as it is, and once for each of its calls with a crash before it, or after it."""
    seen.clear()
    scenario()
    whole = list(seen.made)
    assert needed <= set(whole)
    missed = 0
    for number in range(len(whole)):
        seen.clear()
        seen.crash_before = seen.crash_after = None  # one that never came must not come now
        setattr(seen, where, number)
        try:
            scenario()
        except AssertionError as error:
            raise AssertionError(f"{where} call {number}, {whole[number]}: {seen.made}") from error
        missed += not seen.crashed
        doubled = [commit for commit, count in Counter(seen.commits).items() if count > 1]
        assert doubled == []
    # A timer that comes a fraction of a second early is set once more, and so may be that of the end: some
    # runs are a call or two shorter.
    assert missed <= 3, f"{missed} of {len(whole)} crashes never came"


@pytest.mark.timeout(900)
def test_a_crash_at_any_call_changes_nothing_in_the_end(where: str, cloud: Cloud) -> None:
    with running(cloud) as world, calls() as seen:

        def scenario() -> None:
            conversation_id = new_id()
            live_through(world, conversation_id)
            check(world, conversation_id)

        crash_everywhere(where, seen, scenario, {"PutItem Workflows", "GetItem Workflows", "SendMessage"})


def sweep_and_deny(world: World) -> None:
    """One call whose first wake-up gets lost, and whose supervisor says no."""
    conversation_id = new_id()
    world.begin(conversation_id, {"reason": "cancel"})
    world.identify(conversation_id)
    repeat(lambda: world.start(conversation_id))
    world.messages()  # whoever takes them dies
    world.clock.pass_by(100)
    world.changes()
    assert world.sweep() <= 1, "the journeys before have ended"
    world.recover(lambda: "deny" in world.get(conversation_id)["waitingFor"])
    answer = repeat(lambda: world.send(conversation_id, "deny", APPROVAL, key="click"))
    if answer.status == 503:
        world.recover(lambda: world.get(conversation_id)["status"] == "FINISHED")
        answer = world.send(conversation_id, "deny", APPROVAL, key="click")
    assert (answer.status, answer.body) == (200, {"output": "denied"})
    world.recover(lambda: world.get(conversation_id)["status"] == "FINISHED")
    assert world.get(conversation_id)["result"] == "denied"
    assert world.attributes(conversation_id)["retention"] == "denied"


@pytest.mark.timeout(900)
def test_a_crash_of_the_sweep_or_of_a_denial_changes_nothing_in_the_end(where: str, cloud: Cloud) -> None:
    with running(cloud) as world, calls() as seen:
        crash_everywhere(where, seen, lambda: sweep_and_deny(world), {"Query Workflows", "SendMessage"})


def look_again_and_cancel(world: World) -> None:
    """One call whose reason the stream has lost, so that an operator has every journey look again."""
    conversation_id = new_id()
    world.begin(conversation_id)
    world.identify(conversation_id)
    repeat(lambda: world.start(conversation_id))
    world.recover(lambda: "reason" in world.get(conversation_id)["waitingFor"])
    world.give_reason(conversation_id)
    world.changes()  # lost
    assert repeat(world.look_at_all) == 1
    world.recover(lambda: "approve" in world.get(conversation_id)["waitingFor"])
    repeat(lambda: world.cancel(conversation_id))
    world.recover(lambda: world.get(conversation_id)["status"] == "CANCELLED")
    world.settle(700)
    assert world.get(conversation_id)["status"] == "CANCELLED"
    assert world.attributes(conversation_id)["retention"] == "asked"
    assert "openShard" not in world.item(conversation_id)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_crash_of_looking_at_all_or_of_a_cancel_changes_nothing_in_the_end(
    where: str, cloud: Cloud
) -> None:
    with running(cloud) as world, calls() as seen:
        crash_everywhere(
            where, seen, lambda: look_again_and_cancel(world), {"Query Workflows", "SendMessage"}
        )


def time_out(world: World, seconds: int) -> None:
    """One call whose supervisor has that long, and never answers."""
    conversation_id = new_id()
    world.begin(conversation_id, {"reason": "cancel"})
    world.identify(conversation_id)
    began = world.clock.now()
    repeat(lambda: world.start(conversation_id, {"answer_within_seconds": seconds}))

    def waits_or_is_over() -> bool:
        seen = world.get(conversation_id)
        return "too late" in seen["waitingFor"] or seen["status"] == "FINISHED"

    world.recover(waits_or_is_over)
    world.settle(seconds + WHOLE_SECONDS)
    world.recover(lambda: world.get(conversation_id)["status"] == "FINISHED")
    assert world.get(conversation_id)["result"] == "timed out"
    assert world.clock.now() - began >= seconds, "the timer fired too early"


# SQS delays up to 900 seconds, and EventBridge Scheduler takes over from there, 300 seconds early.
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "seconds",
    [1, 1_201, *(pytest.param(seconds, marks=pytest.mark.long) for seconds in (899, 901, 31_000_000))],
)
def test_a_crash_while_a_timer_is_set_or_fires_loses_no_timer(where: str, seconds: int) -> None:
    """In a deployment whose journeys may outlive their conversations by a year, the longest that there is."""
    with deployed({"JourneyHours": "8760"}) as cloud, running(cloud) as world, calls() as seen:
        needed = {"CreateSchedule"} if seconds > 900 else {"SendMessage"}
        crash_everywhere(where, seen, lambda: time_out(world, seconds), needed)


def answer_or_cancel(world: World, *, cancels: bool) -> None:
    """One call whose supervisor has a day: the schedule for that goes, whoever dies over it."""
    conversation_id = new_id()
    world.begin(conversation_id, {"reason": "cancel"})
    world.identify(conversation_id)
    repeat(lambda: world.start(conversation_id, {"answer_within_seconds": 86_400}))
    world.recover(lambda: "too late" in world.get(conversation_id)["waitingFor"])
    if cancels:
        repeat(lambda: world.cancel(conversation_id))
        world.recover(lambda: world.get(conversation_id)["status"] == "CANCELLED")
    else:
        answer = repeat(lambda: world.send(conversation_id, "deny", APPROVAL, key="click"))
        if answer.status == 503:
            world.recover(lambda: world.get(conversation_id)["status"] == "FINISHED")
        world.recover(lambda: world.get(conversation_id)["status"] == "FINISHED")
    assert world.timers() == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cancels", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_crash_at_any_call_leaves_no_schedule_of_what_is_over(
    where: str, cloud: Cloud, *, cancels: bool
) -> None:
    with running(cloud) as world, calls() as seen:
        needed = {"CreateSchedule", "DeleteSchedule"}
        crash_everywhere(where, seen, lambda: answer_or_cancel(world, cancels=cancels), needed)
