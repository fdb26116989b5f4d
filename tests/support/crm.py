"""A note to a CRM at some URL, left as a step leaves it, whatever else there is in the account."""

import json
from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from conversation import credentials
from journeys import crm
from tests.support.environment import variables

SECRET = "CrmSecret"  # noqa: S105 - its name
TOKEN = "crm-token"  # noqa: S105 - opens nothing


def leave_note(
    url: str,
    customer_id: str = "G-1042",
    *,
    seconds: float = crm.MAX_SECONDS,
    more: Mapping[str, object] | None = None,
) -> str:
    """Leave a note with TOKEN, and with more fields of the secret, from outside of any journey."""
    secret = json.dumps({"token": TOKEN, **(more or {})})
    with pytest.MonkeyPatch.context() as patch, variables(CRM_URL=url, CRM_SECRET=SECRET):
        patch.setattr(crm, "current", lambda: SimpleNamespace(idempotency_key="w1-3"))
        patch.setattr(credentials, "_get", lambda _secret_id, _stage="": secret)
        return crm.note(customer_id, "wants to cancel", seconds=seconds)
