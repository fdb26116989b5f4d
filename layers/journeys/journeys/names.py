"""How a conversation's journeys are called as workflows."""


def workflow_id_of(conversation_id: str, journey: str) -> str:
    """The id of a conversation's journey: there is one of each name.

    workflow_id_of("6c5c", "retention")   # "6c5c~retention"
    """
    return f"{conversation_id}~{journey}"


def conversation_id_of(workflow_id: str) -> str:
    """The id of the conversation that a journey belongs to."""
    return workflow_id.partition("~")[0]
