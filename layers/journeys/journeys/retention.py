"""Keep a very important caller who wants to cancel: a supervisor may approve an offer during the call."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field
from stepmark import Finish, Go, If, On, Scope, Section, Statement, Step, Timeout, Wait, WaitFor

from conversation.errors import InvalidRequest
from journeys import crm
from journeys.events import Attribute, Identification, Identified
from journeys.journey import Journey
from journeys.settings import RetentionSettings

_WORDS = {
    "approved": "Good news: {offer}, if you stay with us.",
    "denied": "I am sorry, there is no offer that I could make you today.",
    "timed out": "I am sorry, nobody could answer in time. We will call you back.",
}
YEAR_SECONDS = 31_536_000


@dataclass(frozen=True)
class Decision:
    """What a supervisor sends with `approve` or `deny`."""

    by: str
    reason: str


@dataclass
class Retention(Journey, name="retention"):
    """Attributes it reads: `reason`. Attributes it writes: `retention` (asked, then approved, denied or timed
    out; or no offer, at once), `retention_offer`, and `say`, the IVR's next words, which the IVR may delete.

    `offer` is one of the deployment's own (RetentionOffers), as it is spoken to the caller and kept in the
    CRM; the first of them when the client names none.
    """

    own_attributes = frozenset({"retention", "retention_offer", "say"})
    deletable_attributes = frozenset({"say"})

    offer: str = ""
    answer_within_seconds: Annotated[int, Field(ge=1, le=YEAR_SECONDS)] = 600
    segment: str = field(default="", init=False)
    customer_id: str = field(default="", init=False)
    reason: str = field(default="", init=False)
    decision: str = field(default="", init=False)
    decided: Decision | None = field(default=None, init=False)
    crm_note: str = field(default="", init=False)

    def on_start(self) -> None:
        offers = RetentionSettings.from_environment().offers
        self.offer = self.offer or offers[0]
        if self.offer not in offers:
            raise InvalidRequest(
                "offer: must be one of the offers that this deployment lists (RetentionOffers)"
            )

    def definition(self) -> Section:
        return Section(
            Wait("for the identity", On("identified", Identified(into=self.on_identified))),
            If(self.segment != "vip", "not very important", Scope("not very important", *self.no_offer())),
            Wait(
                "for the reason of the call",
                On("reason", Attribute("reason", into="reason")),
                On("no reason", Timeout(minutes=15), Scope("no reason", *self.no_offer())),
            ),
            If(
                _word(self.reason) != "cancel",
                "another reason",
                Scope("another reason", *self.no_offer()),
            ),
            Go("tell the CRM", Step("note in the CRM", self.note_in_crm, into="crm_note")),
            Step("ask the supervisor", self.ask),
            Wait(
                "for the supervisor",
                On("approve", self.on_approve),
                On("deny", self.on_deny),
                On("too late", Timeout(seconds=self.answer_within_seconds)),
            ),
            Step("tell the IVR", self.tell),
            WaitFor("the CRM to know", self.crm_note != ""),
            Finish(self.decision or "timed out"),
        )

    def no_offer(self) -> tuple[Statement, ...]:
        """The end for all other callers, told to an IVR that reads nothing but attributes."""
        return Step("tell the IVR", self.tell_no_offer), Finish("no offer")

    def on_identified(self, identification: Identification) -> None:
        # Of several customers with this number none may be offered, or noted, what is another's.
        identity = (identification.identity or {}) if identification.candidates == 1 else {}
        self.segment = identity.get("segment", "")
        self.customer_id = identity.get("customerId", "")

    def ask(self) -> None:
        self.write_attributes(
            {"retention": "asked", "retention_offer": self.offer, "say": "One moment, I am asking for you."}
        )

    def on_approve(self, decision: Decision) -> str:
        return self._decide("approved", decision)

    def on_deny(self, decision: Decision) -> str:
        return self._decide("denied", decision)

    def _decide(self, what: str, decision: Decision) -> str:
        self.decision, self.decided = what, decision
        return what

    def tell(self) -> None:
        decision = self.decision or "timed out"
        self.write_attributes({"retention": decision, "say": _WORDS[decision].format(offer=self.offer)})

    def tell_no_offer(self) -> None:
        self.write_attributes({"retention": "no offer"})

    def note_in_crm(self) -> str:
        return crm.note(self.customer_id, f"wants to cancel; {self.offer} was proposed to a supervisor")


def _word(text: str) -> str:
    """What was said, without case, white space and punctuation: speech recognition writes `Cancel.`"""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text)).strip().casefold()
