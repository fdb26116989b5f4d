"""The CRM's notes: POST {CrmUrl}/notes with a bearer token, answered with 2xx and {"noteId"}."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from stepmark import RetryableError, current

from conversation.errors import SecretUnavailable
from journeys.settings import CrmSettings

if TYPE_CHECKING:
    from conversation.credentials import Credentials
    from conversation.http_client import HttpAnswer

NO_CRM = "no CRM"
MAX_SECONDS = 5.0
# A note's id is kept in the journey's state, and read by people.
MAX_ID_LENGTH = 256
_SUCCESS = range(200, 300)
_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class CrmUnavailable(RetryableError):
    """The CRM did not take the note; the same note may be sent again."""


class CrmRefused(CrmUnavailable):
    """The CRM does not take the credentials; the secret may have been replaced meanwhile."""


class Secret(NamedTuple):
    """The credentials in Secrets Manager."""

    token: str


def note(customer_id: str, text: str, *, seconds: float = MAX_SECONDS) -> str:
    """Leave a note about a customer and return its id; to be called by a step.

        note_id = crm.note("G-1042", "wants to cancel")

    However often the step runs, the CRM sees one Idempotency-Key. Returns "no CRM" when CrmUrl is empty.
    Raises CrmUnavailable within `seconds`, also while nobody has filled the CRM's secret.
    """
    settings = CrmSettings.from_environment()
    if not settings.url:
        return NO_CRM
    # 30 ms of a cold start, for a step that few journeys reach.
    from conversation import credentials, http_client  # noqa: PLC0415

    leave = partial(
        _leave, f"{settings.url}/notes", {"customerId": customer_id, "text": text}, current().idempotency_key
    )
    try:
        answer = http_client.run_within(
            seconds, credentials.use("the CRM", settings.secret_id, Secret, leave, CrmRefused)
        )
    except http_client.HttpError as error:
        raise CrmUnavailable(f"the CRM {error}") from None
    except SecretUnavailable as error:
        raise CrmUnavailable(str(error)) from error
    if answer.status not in _SUCCESS:
        raise CrmUnavailable(f"the CRM answered {answer.status}")
    return _id_of(answer)


async def _leave(
    url: str, document: dict[str, str], idempotency_key: str, held: Credentials[Secret]
) -> HttpAnswer:
    from conversation import http_client  # noqa: PLC0415 - as above

    send = partial(
        http_client.send,
        "POST",
        url,
        json=document,
        headers={"Authorization": f"Bearer {held.secret.token}", "Idempotency-Key": idempotency_key},
        alone=True,  # a CRM may refuse a key that it is working on
        tls=held.tls,
    )
    try:
        try:
            answer = await send()
        except http_client.Unreachable:  # such as a kept connection that died meanwhile
            answer = await send()
    except http_client.CertificateRefused as error:
        raise CrmRefused(f"the CRM {error}") from None
    if answer.status in _REFUSED:
        raise CrmRefused(f"the CRM answered {answer.status}")
    return answer


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
