"""The CRM's notes: POST {CrmUrl}/notes, answered with 2xx and {"noteId"}."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stepmark import RetryableError, current

from journeys.settings import CrmSettings

if TYPE_CHECKING:
    from conversation.http_client import HttpAnswer

NO_CRM = "no CRM"
MAX_SECONDS = 5.0
# A note's id is kept in the journey's state, and read by people.
MAX_ID_LENGTH = 256
_SUCCESS = range(200, 300)


class CrmUnavailable(RetryableError):
    """The CRM did not take the note; the same note may be sent again."""


def note(customer_id: str, text: str, *, seconds: float = MAX_SECONDS) -> str:
    """Leave a note about a customer and return its id; to be called by a step.

        note_id = crm.note("G-1042", "wants to cancel")

    However often the step runs, the CRM sees one Idempotency-Key. Returns "no CRM" when CrmUrl is empty.
    Raises CrmUnavailable within `seconds`.
    """
    url = CrmSettings.from_environment().url
    if not url:
        return NO_CRM
    from conversation import http_client  # noqa: PLC0415 - 30 ms of a cold start, for a step that few journeys reach

    send = partial(
        http_client.send,
        "POST",
        f"{url}/notes",
        json={"customerId": customer_id, "text": text},
        headers={"Idempotency-Key": current().idempotency_key},
        alone=True,  # a CRM may refuse a key that it is working on
    )

    async def send_again_if_closed() -> HttpAnswer:
        try:
            return await send()
        except http_client.Unreachable:  # such as a kept connection that died meanwhile
            return await send()

    try:
        answer = http_client.run_within(seconds, send_again_if_closed())
    except http_client.HttpError as error:
        raise CrmUnavailable(f"the CRM {error}") from None
    if answer.status not in _SUCCESS:
        raise CrmUnavailable(f"the CRM answered {answer.status}")
    return _id_of(answer)


def _id_of(answer: HttpAnswer) -> str:
    try:
        document = answer.json()
    except ValueError:
        document = None
    note_id = document.get("noteId") if isinstance(document, dict) else None
    if isinstance(note_id, int) and not isinstance(note_id, bool):
        note_id = str(note_id)
    if not (isinstance(note_id, str) and 0 < len(note_id) <= MAX_ID_LENGTH and note_id.isprintable()):
        raise CrmUnavailable("the CRM answered without a noteId of 1 to 256 printable characters")
    return note_id
