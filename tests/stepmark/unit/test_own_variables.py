"""The context variables of what users wrote are its own."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

from stepmark import Go, Handler, Happened, Observation, On, Request, Section, Step, Wait, WaitFor, Workflow
from stepmark.testing import LocalEngine

USER = ContextVar("user", default="nobody")
SEEN: list[str] = []


def impersonate(name: str) -> None:
    SEEN.append(f"{name} after {USER.get()}")
    USER.set(name)


class Task(Handler[str, None]):
    def setup(self, request: Request[None]) -> None:  # noqa: ARG002
        impersonate("setup")

    def handle(self, request: Request[None], payload: str) -> None:  # noqa: ARG002
        impersonate("handle")

    def teardown(self, request: Request[None], handled: bool) -> None:  # noqa: ARG002
        impersonate("teardown")


class Looked(Observation[None]):
    def look(self, request: Request[None]) -> Happened:  # noqa: ARG002
        impersonate("look")
        return Happened()

    def handle(self, request: Request[None], payload: None) -> None: ...


@dataclass
class Everything(Workflow):
    done: bool = False

    def definition(self) -> Section:
        return Section(
            Step("step", partial(impersonate, "step")),
            Step("another", partial(impersonate, "another")),
            Step("awaited", self.awaited),
            Go("alongside", Step("into", partial(impersonate, "into"), into=lambda _: impersonate("taken"))),
            Wait("look", On("looked", Looked())),
            WaitFor("gate", True, partial(impersonate, "gate")),
            Wait("wait", On("task", Task())),
            Wait("event", On("event", partial(impersonate, "event"))),
        )

    async def awaited(self) -> None:
        impersonate("awaited")


def test_what_a_step_or_handler_sets_is_not_seen_by_the_caller_or_the_next() -> None:
    SEEN.clear()
    token = USER.set("caller")
    try:
        engine = LocalEngine(Everything)
        engine.start(Everything(), "w")
        engine.callback("w", "task", "x")
        engine.callback("w", "event")
        assert USER.get() == "caller"
    finally:
        USER.reset(token)
    names = [
        "step",
        "another",
        "awaited",
        "into",
        "taken",
        "look",
        "gate",
        "setup",
        "handle",
        "teardown",
        "event",
    ]
    assert sorted(SEEN) == sorted(f"{name} after caller" for name in names)
