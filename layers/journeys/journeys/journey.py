"""What every journey has: the conversation it belongs to, and its way of reading and writing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
            reason: str = field(default="", init=False)

            def definition(self) -> Section:
                return Section(
                    Wait("for the reason", On("reason", Attribute("reason", into="reason"))),
                    Step("answer", lambda: self.write_attributes({"say": "We will call you back."})),
                )

    Its name is the `{journey}` of the API. Whoever starts it may give values for its fields, but not for
    those with `init=False`, which are the journey's own.
    """

    conversation_id: str

    def conversation(self) -> Conversation | None:
        """The conversation as it stands, or None when it is no longer kept. Raises StoreUnavailable."""
        try:
            return conversations().read(self.conversation_id)
        except ConversationNotFound:
            return None

    def write_attributes(self, change: Mapping[str, str | None]) -> bool:
        """Set attributes, delete those that are None; False when the conversation is no longer kept.

        To be called by a step. The API's limits hold here too (names of 64 characters, texts of 1,000, 50
        attributes, 32 KB): raises InvalidRequest, with nothing written, beyond them, and StoreUnavailable.
        """
        checked = check_change(dict(change))
        try:
            conversations().change_attributes(self.conversation_id, checked)
        except ConversationNotFound:
            return False
        return True
