"""The CRM's notes: POST {CrmUrl}/notes, answered with 2xx and {"noteId"}."""

from __future__ import annotations

from functools import cache

import httpx
from stepmark import RetryableError, current

from journeys.settings import CrmSettings

NO_CRM = "no CRM"


class CrmUnavailable(RetryableError):
    """The CRM did not take the note; the same note may be sent again."""


def note(customer_id: str, text: str) -> str:
    """Leave a note about a customer and return its id; to be called by a step.

        note_id = crm.note("G-1042", "wants to cancel")

    However often the step runs, the CRM sees one Idempotency-Key. Returns "no CRM" when CrmUrl is empty.
    Raises CrmUnavailable within 5 seconds.
    """
    url = CrmSettings.from_environment().url
    if not url:
        return NO_CRM
    try:
        answer = _http().post(
            f"{url}/notes",
            json={"customerId": customer_id, "text": text},
            headers={"Idempotency-Key": current().idempotency_key},
        )
        return str(answer.raise_for_status().json()["noteId"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise CrmUnavailable(f"the CRM did not take the note ({type(error).__name__})") from error


@cache
def _http() -> httpx.Client:
    return httpx.Client(timeout=5, trust_env=False, headers={"User-Agent": "meanwhile"})
