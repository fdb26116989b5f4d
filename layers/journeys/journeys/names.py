"""How a conversation's journeys are called as workflows."""


def workflow_id_of(conversation_id: str, journey: str, start_id: str | None) -> str:
    """The id of a conversation's journey: there is one of each name.

    workflow_id_of("6c5c", "retention", "0a1b2c3d4e5f6071")   # "6c5c~retention~0a1b2c3d4e5f6071"

    The start is part of it: when the conversation's id comes again, its journeys are others. None is for
    conversations that the release before start ids has begun.
    """
    return f"{conversation_id}~{journey}" + ("" if start_id is None else f"~{start_id}")


def conversation_id_of(workflow_id: str) -> str:
    """The id of the conversation that a journey belongs to."""
    return workflow_id.partition("~")[0]
