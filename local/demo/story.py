"""The story that `make demo` tells: one call after another, each with what it shows."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus

import httpx
from rich.text import Text

from local.companies import SOURCES, Behaviour, Companies, Customer, Fault, Source
from local.console import console, heading
from local.demo.scene import Document, Scene, summary
from local.emulator.warm_up import warm_up_lookups
from local.errors import StoryError
from local.ivr import Ivr
from local.parallel import in_parallel
from local.system import System

# Seconds that each company takes. Gamma, which the IVR would ask last, is the quickest.
LATENCIES: dict[Source, float] = {"alpha": 3.0, "beta": 3.0, "gamma": 1.0}

_WELCOME = "Welcome. What are you calling about?"
_AT_GAMMA = Customer(customer_id="G-1042", first_name="Jean", last_name="Dupont", segment="vip")
_AT_ALPHA = Customer(customer_id="A-77", first_name="Jeanne", last_name="Dupont", segment="gold")


def _known_to_gamma_only(companies: Companies, scene: Scene) -> None:
    companies.know("gamma", {scene.number: _AT_GAMMA})
    scene.post()
    scene.watch()
    scene.say(_WELCOME, 0.6)
    scene.get()
    scene.patch({"reason": "billing"})
    scene.talk_until_known(("Which invoice is it?", 1.2))
    scene.say("Good to hear from you, Mr Dupont.")
    seen = scene.seen_first()
    expect(
        seen["sources"] == {"alpha": "PENDING", "beta": "PENDING", "gamma": "MATCH"},
        "identified while alpha and beta are still looking",
        seen,
    )
    last = scene.when_all_have_answered()
    expect(last["identity"] == seen["identity"], "what they answer later changes nothing", last)


def _known_to_alpha_and_gamma(companies: Companies, scene: Scene) -> None:
    companies.know("gamma", {scene.number: _AT_GAMMA})
    companies.know("alpha", {scene.number: _AT_ALPHA})
    scene.post()
    scene.watch()
    scene.talk_until_known((_WELCOME, 1.5))
    last = scene.when_all_have_answered()
    expect(last["identity"]["source"] == "gamma", "the first match is the identity", last)
    expect(
        last["otherMatches"]["alpha"]["customerId"] == _AT_ALPHA.customer_id,
        "the later one is kept beside it, in otherMatches",
        last,
    )


def _known_to_nobody(_companies: Companies, scene: Scene) -> None:
    scene.post()
    scene.watch()
    document = scene.talk_until_known((_WELCOME, 2), ("May I have your customer number?", 1.5))
    expect(document["status"] == "NOT_FOUND", "every company answered, none knows the caller", document)


def _withheld_number(companies: Companies, scene: Scene) -> None:
    before = companies.requests()
    document = scene.post().document
    expect(document.get("reason") == "WITHHELD_NUMBER", "no error, and known at once", document)
    expect(companies.requests() == before, "no company was asked", document)


def _repeated_start(companies: Companies, scene: Scene) -> None:
    companies.know("gamma", {scene.number: _AT_GAMMA})
    scene.started = time.monotonic()
    scene.left("POST /conversations, twice at once")
    replies = in_parallel(lambda _: scene.ivr.start(scene.conversation_id, scene.number), range(2))
    for reply in replies:
        scene.left(f"  {reply.status} {summary(reply.document)}")
    document = scene.when_all_have_answered()
    statuses = {reply.status for reply in replies}
    expect(statuses == {HTTPStatus.ACCEPTED, HTTPStatus.OK}, "202 for one, 200 for the other", document)
    asked = {source: companies.requests().lookups[source][scene.number] for source in SOURCES}
    expect(asked == dict.fromkeys(SOURCES, 1), "each company was asked once", document)
    conflict = scene.ivr.start(scene.conversation_id, _number(99))
    scene.left("POST /conversations, the same id, another number")
    scene.left(f"  {conflict.status} {summary(conflict.document)}")
    expect(conflict.status == HTTPStatus.CONFLICT, "refused, and nothing changed", conflict.document)


def _one_company_down(companies: Companies, scene: Scene) -> None:
    companies.know("gamma", {scene.number: _AT_GAMMA})
    companies.behave("beta", by_number={scene.number: Behaviour(fault=Fault.SERVER_ERROR)})
    scene.post()
    scene.watch()
    scene.talk_until_known((_WELCOME, 1.5))
    last = scene.when_all_have_answered()
    expect(last["sources"]["beta"] == "UNAVAILABLE", "beta could not answer", last)
    expect(last["status"] == "SUCCESS", "the caller is identified all the same", last)


def _one_company_down_and_no_match(companies: Companies, scene: Scene) -> None:
    companies.behave("beta", by_number={scene.number: Behaviour(fault=Fault.CONNECTION_CLOSED)})
    scene.post()
    scene.watch()
    document = scene.talk_until_known((_WELCOME, 2), ("May I have your customer number?", 1.5))
    expect(document["status"] == "FAILED", "FAILED, not NOT_FOUND: beta may know the caller", document)


_SCENES: dict[str, Callable[[Companies, Scene], None]] = {
    "The caller is known to gamma only": _known_to_gamma_only,
    "The caller is known to alpha and gamma": _known_to_alpha_and_gamma,
    "The caller is known to nobody": _known_to_nobody,
    "Beta is down, the caller is known to gamma": _one_company_down,
    "Beta is down, nobody else knows the caller": _one_company_down_and_no_match,
    "The caller withholds the number": _withheld_number,
    "The IVR repeats its start": _repeated_start,
}


def tell(system: System, ivr: Ivr) -> None:
    """Play all scenes. Raises `StoryError` when one goes another way than it should."""
    companies = system.companies
    for source, latency in LATENCIES.items():
        companies.behave(source, Behaviour(latency=latency))
    scenes: dict[str, Scene] = {}
    threading.Thread(target=_tell_happenings, args=(companies, scenes), daemon=True).start()
    for index, (title, play) in enumerate(_SCENES.items(), 1):
        number = "anonymous" if play is _withheld_number else _number(index)
        scenes[number] = Scene(ivr, number)
        heading(title)
        play(companies, scenes[number])
        scenes[number].seen_first()
        warm_up_lookups(system.stack, companies)


def expect(held: bool, claim: str, document: Document) -> None:
    """Print a claim that held. Raises `StoryError` for one that did not."""
    if not held:
        raise StoryError(f"this should be true, and is not: {claim}\n{json.dumps(document, indent=2)}")
    console.print(Text.assemble(" " * 11, ("✓ ", "green"), claim))


def _tell_happenings(companies: Companies, scenes: Mapping[str, Scene]) -> None:
    with suppress(httpx.TransportError):  # the companies have ended
        for happening in companies.happenings():
            if scene := scenes.get(happening.number):
                scene.right(f"{happening.source}: {happening.what}")


def _number(index: int) -> str:
    # French mobile numbers that are kept for fiction.
    return f"+3363998{index:04}"
