"""Hold a request until the identification has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from conversation.record import Conversation, Status

if TYPE_CHECKING:
    from conversation.store import ConversationStore

MAX_SECONDS = 20
_POLL_SECONDS = 0.1


def read_when_ended(store: ConversationStore, conversation_id: str, seconds: int) -> Conversation:
    """Read a conversation as soon as its status is final, or as it stands after that many seconds.

        read_when_ended(store, "6c5c", 5)

    The table is read ten times a second: a second of waiting costs ten read units, $0.00000125.
    Raises ConversationNotFound and StoreUnavailable.
    """
    give_up_at = time.monotonic() + seconds
    conversation = store.read(conversation_id)
    while True:
        remaining = give_up_at - time.monotonic()
        if conversation.status is not Status.ONGOING or remaining <= 0:
            return conversation
        time.sleep(min(_POLL_SECONDS, remaining))
        conversation = store.read_start(conversation_id, conversation.start_id)
