"""What every journey has: the conversation it belongs to, and its way of reading and writing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from stepmark import Workflow

from conversation.attributes import check_change
from conversation.errors import ConversationNotFound
from conversation.store import conversations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conversation.record import Conversation


@dataclass
class Journey(Workflow):
    """A workflow that belongs to a conversation.

        @dataclass
        class CallBack(Journey, name="call-back"):
            own_attributes = frozenset({"say"})
            deletable_attributes = frozenset({"say"})
            reason: str = field(default="", init=False)

            def definition(self) -> Section:
                return Section(
                    Wait("for the reason", On("reason", Attribute("reason", into="reason"))),
                    Step("answer", lambda: self.write_attributes({"say": "We will call you back."})),
                )

    Its name is the `{journey}` of the API. Whoever starts it may give values for its fields, but not for
    those with `init=False`, which are the journey's own.

    own_attributes: the conversation's attributes that this journey alone writes, at most ten; a client that
    sets one is refused, so that an IVR can believe what it reads there. deletable_attributes: those of them
    that a client may delete, because it has read them.
    """

    own_attributes: ClassVar[frozenset[str]] = frozenset()
    deletable_attributes: ClassVar[frozenset[str]] = frozenset()

    conversation_id: str
    # Which of the conversations that have had this id; set when the journey starts.
    start_id: str | None = field(default=None, init=False)

    def on_start(self) -> None:
        """Complete or check what the client has sent, once, before anything is written.

        Raises InvalidRequest when the journey can't begin with it.
        """

    def conversation(self) -> Conversation | None:
        """The conversation as it stands, or None when it is no longer kept. Raises StoreUnavailable.

        A later conversation with the same id is another one.
        """
        try:
            return conversations().read_start(self.conversation_id, self.start_id)
        except ConversationNotFound:
            return None

    def write_attributes(self, change: Mapping[str, str | None]) -> bool:
        """Set attributes, delete those that are None; False when the conversation is no longer kept.

        To be called by a step. The API's limits hold here too (names of 64 characters, strings of 1,000
        without control characters, 50 attributes, 32 KB, of which clients leave 10 and 4 KB free): raises
        InvalidRequest, with nothing written, beyond them, and StoreUnavailable.
        """
        checked = check_change(dict(change))
        try:
            conversations().change_journey_attributes(self.conversation_id, self.start_id, checked)
        except ConversationNotFound:
            return False
        return True
