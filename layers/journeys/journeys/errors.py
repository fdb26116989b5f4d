"""What journeys add to the errors of conversations.

ConversationError
└── JourneyNotFound   this deployment ships no journey of that name
"""

from conversation.errors import ConversationError


class JourneyNotFound(ConversationError):
    """This deployment ships no journey of that name."""

    code = "JOURNEY_NOT_FOUND"
