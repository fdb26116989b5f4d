"""beta: `POST /v2/contacts/search` with HTTP Basic takes digits without a plus, answers contacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from conversation.sources.advisory import whole_number
from conversation.sources.records import Customer, find_caller

if TYPE_CHECKING:
    from conversation.sources.client import SourceClient
    from conversation.sources.identity import Identity
    from conversation.sources.records import Record


class Secret(NamedTuple):
    """The credentials in Secrets Manager."""

    username: str
    password: str


async def look_up(client: SourceClient, secret: Secret, number: str) -> Identity | None:
    """Ask beta who has this number (E.164); None when beta knows nobody. Raises SourceUnavailable."""
    username = client.credential("username", secret.username)
    if ":" in username:
        raise client.unavailable("was not asked: fill its secret again, HTTP Basic has no colon in username")
    answer = await client.request(
        "POST",
        "/v2/contacts/search",
        json={"msisdn": number.removeprefix("+")},
        auth=(username, client.credential("password", secret.password)),
    )
    contacts = client.read_json(answer)
    records = contacts.get("items") if isinstance(contacts, dict) else None
    if not isinstance(records, list):
        raise client.malformed("items" if isinstance(contacts, dict) else "")
    return find_caller(
        client,
        number,
        ((f"items.{i}", one) for i, one in enumerate(records)),
        "msisdn",
        _read,
        bare_digits=True,
        unsent=max(0, (whole_number(contacts.get("total")) or 0) - len(records)),
    )


def _read(record: Record) -> Customer:
    """Read one entry of the answer. A `vip` that is not a bool makes nobody a vip, and loses nobody."""
    name = record.part("name")
    segment = "vip" if record.fields.get("vip") is True else "standard"
    return Customer(record.id("contactId"), name.text("given"), name.text("family"), segment)
