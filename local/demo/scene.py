"""One call as the demo shows it: the IVR on the left, what happens elsewhere meanwhile on the right."""

import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from rich.text import Text

from local.console import console
from local.errors import StoryError
from local.ivr import Ivr, Reply
from local.waiting import wait_until

type Document = dict[str, Any]

_LEFT_WIDTH = 50
_DEADLINE_SECONDS = 20
_FILLER = ("One moment, please.", 1.0)


@dataclass
class Scene:
    """One call; everything is printed as it happens, with the seconds since the POST.

    scene = Scene(ivr, "+33639980001")
    scene.post()
    scene.talk_until_known(("What are you calling about?", 1.5))
    """

    ivr: Ivr
    number: str
    conversation_id: str = field(default_factory=lambda: f"demo-{uuid.uuid4()}")
    started: float = 0.0
    _watcher: threading.Thread | None = None
    _seen_first: Document = field(default_factory=dict)

    def left(self, text: str, style: str = "") -> None:
        """Print what the IVR does, or is told."""
        self._print(Text(text, style), Text())

    def right(self, text: str, style: str = "dim") -> None:
        """Print what happens elsewhere."""
        self._print(Text(), Text(text, style))

    def _print(self, left: Text, right: Text) -> None:
        left.truncate(_LEFT_WIDTH, overflow="ellipsis", pad=True)
        since = time.monotonic() - self.started
        console.print(Text.assemble((f"{since:7.2f} s  ", "dim"), left, ("│ ", "dim"), right))

    def post(self) -> Reply:
        """Start the identification."""
        self.started = time.monotonic()
        self.left(f"POST /conversations, caller {self.number}")
        reply = self.ivr.start(self.conversation_id, self.number)
        self.left(f"  {reply.status} {summary(reply.document)}")
        return reply

    def get(self) -> Document:
        """Read the conversation."""
        self.left("GET /conversations/{id}")
        reply = self.ivr.read(self.conversation_id)
        self.left(f"  {reply.status} {summary(reply.document)}")
        return reply.document

    def patch(self, attributes: Mapping[str, str]) -> None:
        """Write participant data."""
        written = ", ".join(f"{name}={value}" for name, value in attributes.items())
        self.left(f"PATCH …/attributes {written}")
        self.left(f"  {self.ivr.set_attributes(self.conversation_id, attributes).status}")

    def say(self, words: str, seconds: float = 0) -> None:
        """Let the IVR talk to the caller, and the caller answer."""
        self.left(f"“{words}”", "bold")
        time.sleep(seconds)

    def talk_until_known(self, *questions: tuple[str, float]) -> Document:
        """Ask questions of so many seconds, reading after each, until the identification has ended."""
        remaining = list(questions)

        def ask() -> Document | None:
            self.say(*(remaining.pop(0) if remaining else _FILLER))
            document = self.get()
            return None if document["status"] == "ONGOING" else document

        def late() -> StoryError:
            return StoryError(f"the conversation is still ONGOING after {_DEADLINE_SECONDS} s")

        return wait_until(ask, seconds=_DEADLINE_SECONDS, pause=0, late=late)

    def watch(self) -> None:
        """Have another reader wait for the identification, and print on the right when it ends."""

        def wait() -> None:
            with suppress(httpx.TransportError):  # the demo was interrupted
                self._seen_first = self.ivr.read(self.conversation_id, wait=20).document
                self.right(f"conversation: {self._seen_first['status']}", "")

        self._watcher = threading.Thread(target=wait, daemon=True)
        self._watcher.start()

    def seen_first(self) -> Document:
        """What that other reader saw when the identification ended."""
        if self._watcher is not None:
            self._watcher.join(_DEADLINE_SECONDS)
        return self._seen_first

    def when_all_have_answered(self) -> Document:
        """Wait until no company's answer is pending any more."""

        def answered() -> Document | None:
            document = self.ivr.read(self.conversation_id).document
            return None if "PENDING" in document["sources"].values() else document

        def late() -> StoryError:
            return StoryError(f"answers are pending after {_DEADLINE_SECONDS} s")

        return wait_until(answered, seconds=_DEADLINE_SECONDS, late=late)


def summary(document: Document) -> str:
    """A document in a few words."""
    if "error" in document:
        return str(document["error"]["code"])
    status = str(document["status"])
    if identity := document["identity"]:
        return f"{status}: {identity['displayName']}, {identity['segment']}, at {identity['source']}"
    return f"{status}, {document['reason']}" if document.get("reason") else status
