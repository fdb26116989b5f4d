"""The workflow of the design, from start to end."""

from dataclasses import dataclass

import pytest
from stepmark import (
    Finish,
    Go,
    If,
    On,
    Retry,
    Scope,
    Section,
    Status,
    Step,
    Timeout,
    Wait,
    Workflow,
)
from stepmark.testing import LocalEngine


@dataclass
class Answer:
    approved: bool


@dataclass
class Approval(Workflow, name="approval"):
    user: str = ""
    approved: bool = False
    crm_id: str = ""
    archived: int = 0

    def definition(self) -> Section:
        return Section(
            Step("ask", self.ask, retry=Retry(attempts=5)),
            If(self.user == "", "nobody to ask", Finish("no user")),
            Wait(
                "for an answer",
                On("answer", self.on_answer),
                On("too late", Timeout(minutes=10), Finish("timed out")),
            ),
            Go("tell the CRM", Step("notify", self.notify, into="crm_id")),
            Scope("wrap up", Step("archive", self.archive)),
        )

    def ask(self) -> None:
        pass

    def on_answer(self, answer: Answer) -> str:
        self.approved = answer.approved
        return "thank you"

    async def notify(self) -> str:
        return "crm-1"

    def archive(self) -> None:
        self.archived += 1


@pytest.fixture
def engine() -> LocalEngine:
    return LocalEngine(Approval)


def test_approved(engine: LocalEngine) -> None:
    snapshot = engine.start(Approval(user="ada"), workflow_id="1")
    assert snapshot.status is Status.WAITING
    assert snapshot.waiting_for == ["answer", "too late"]
    assert engine.callback("1", "answer", {"approved": True}) == "thank you"
    snapshot = engine.get("1")
    assert snapshot.status is Status.FINISHED
    assert snapshot.state == Approval(user="ada", approved=True, crm_id="crm-1", archived=1)


def test_nobody_to_ask(engine: LocalEngine) -> None:
    assert engine.start(Approval(), workflow_id="1").result == "no user"


def test_timed_out(engine: LocalEngine) -> None:
    engine.start(Approval(user="ada"), workflow_id="1")
    engine.advance(minutes=9)
    assert engine.get("1").status is Status.WAITING
    engine.advance(minutes=1)
    assert engine.get("1").result == "timed out"
