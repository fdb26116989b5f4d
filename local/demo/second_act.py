"""The demo's second act: the retention journey, once approved, once denied, once with nobody to answer."""

from dataclasses import dataclass
from typing import Any

from stepmark import describe

from journeys.retention import Retention
from local.companies import SOURCES, Behaviour, Companies, Customer
from local.console import heading
from local.demo.scene import Document, Scene
from local.demo.story import expect
from local.errors import StoryError
from local.ivr import Ivr
from local.system import System
from local.waiting import wait_until

_CALLER = Customer(customer_id="G-1042", first_name="Jean", last_name="Dupont", segment="vip")
_DEADLINE_SECONDS = 60
_SHORT_SECONDS = 5
_STOPS = {"Step", "Wait", "WaitFor"}


@dataclass
class _Play:
    """One call with its journey; prints the journey's position whenever that has changed.

    Each dot stands for a statement of the definition, in its order: ○○◉○ for the third of four.
    """

    scene: Scene
    ivr: Ivr
    workflow_id: str = ""
    shown: str = ""

    def start(self, **fields: object) -> None:
        self.scene.left("POST …/journeys/retention")
        reply = self.ivr.start_journey(self.scene.conversation_id, "retention", fields)
        self.scene.left(f"  {reply.status} waiting for {', '.join(reply.document['waitingFor'])}")
        self.workflow_id = reply.document["workflowId"]

    def follow(self, event: str) -> Document:
        """Show where the journey goes until it waits for that event, or has ended."""

        def arrived() -> Document | None:
            document = self.ivr.workflow(self.workflow_id).document
            self._show(document)
            there = event in document["waitingFor"] or document["status"] == "FINISHED"
            return document if there else None

        def late() -> StoryError:
            return StoryError(f"the journey stands at {self.shown} after {_DEADLINE_SECONDS} s")

        return wait_until(arrived, seconds=_DEADLINE_SECONDS, late=late)

    def _show(self, document: Document) -> None:
        live = {thread["at"] for thread in document["threads"].values()}
        shown = " ".join(sorted(live))
        if shown == self.shown:
            return
        self.shown = shown
        ended = document["status"] == "FINISHED"
        dots = "".join("◉" if name in live else "○" for name in _stops(describe(Retention)["statements"]))
        where = f"ended: {document['result']}" if ended else ", ".join(sorted(live))
        self.scene.right(f"{dots}{'◉' if ended else '○'} {where}", "")

    def listen(self) -> dict[str, str]:
        """What the IVR reads, and says."""
        attributes: dict[str, str] = self.scene.get()["attributes"]
        self.scene.say(attributes.get("say", "…"))
        return attributes


def tell(system: System, ivr: Ivr) -> None:
    """Play the three endings. Raises `StoryError` when one goes another way than it should."""
    _warm_up(system.companies, ivr)
    for index, (title, event) in enumerate(
        {
            "A vip wants to cancel, and a supervisor approves an offer": "approve",
            "The supervisor denies it": "deny",
            f"Nobody answers in time ({_SHORT_SECONDS} s here, ten minutes by default)": "",
        }.items()
    ):
        heading(title)
        _play(system, ivr, f"+3363998{600 + index:04}", event)


def _play(system: System, ivr: Ivr, number: str, event: str) -> None:
    system.companies.know("gamma", {number: _CALLER})
    for source in SOURCES:
        system.companies.behave(source, by_number={number: Behaviour(latency=0.2)})
    play = _Play(Scene(ivr, number), ivr)
    play.scene.post()
    play.start(offer="two months free", answer_within_seconds=600 if event else _SHORT_SECONDS)
    play.scene.say("Welcome. What are you calling about?")
    play.follow("reason")
    play.scene.patch({"reason": "cancel"})
    waiting = play.follow("approve")
    play.listen()
    if event:
        play.scene.right(f"supervisor: {event}", "")
        answer = ivr.send_event(play.workflow_id, event, {"by": "Ada", "reason": "demo"}, key="demo")
        expect(answer.document["output"] in {"approved", "denied"}, "the supervisor's answer counts", waiting)
    ended = play.follow("")
    said = play.listen()
    expected = {"approve": "approved", "deny": "denied", "": "timed out"}[event]
    expect(ended["result"] == expected, f"the journey ended: {expected}", ended)
    expect(said["retention"] == expected, "the IVR knows what to say", ended)
    expect(ended["state"]["crm_note"].startswith("N-"), "meanwhile the CRM was told, once", ended)


def _warm_up(companies: Companies, ivr: Ivr) -> None:
    """Run one journey to its end before anything is shown."""
    number = "+33639980699"
    companies.know("gamma", {number: _CALLER})
    scene = Scene(ivr, number)
    ivr.start(scene.conversation_id, number)
    ivr.set_attributes(scene.conversation_id, {"reason": "cancel"})
    fields = {"answer_within_seconds": 1}
    workflow_id = ivr.start_journey(scene.conversation_id, "retention", fields).document["workflowId"]

    def over() -> bool:
        return bool(ivr.workflow(workflow_id).document["status"] == "FINISHED")

    wait_until(over, seconds=_DEADLINE_SECONDS, late=lambda: StoryError("the first journey has not ended"))


def _stops(statements: list[dict[str, Any]]) -> list[str]:
    """The names of the statements at which a thread can be, in the order of the definition."""
    found: list[str] = []
    for statement in statements:
        if statement["kind"] in _STOPS:
            found.append(statement["name"])
        for inner in ("statements", "branches", "events"):
            found += _stops(statement.get(inner, []))
    return found
