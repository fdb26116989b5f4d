"""beta: `POST /v2/contacts/search` with HTTP Basic takes digits without a plus, answers contacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation.sources.client import Answer
from conversation.sources.identity import Identity, is_same_number

if TYPE_CHECKING:
    from conversation.sources.client import SourceClient


class Secret(Answer):
    """The credentials in Secrets Manager."""

    username: str
    password: str


class Name(Answer):
    """A contact's name."""

    given: str
    family: str


class Contact(Answer):
    """One entry of the answer."""

    contactId: str  # noqa: N815 - beta's own name
    msisdn: str
    name: Name
    vip: bool


class Contacts(Answer):
    """The answer."""

    total: int
    items: list[Contact]


async def look_up(client: SourceClient, secret: Secret, number: str) -> Identity | None:
    """Ask beta who has this number (E.164); None when beta knows nobody. Raises SourceUnavailable."""
    answer = await client.request(
        "POST",
        "/v2/contacts/search",
        json={"msisdn": number.removeprefix("+")},
        auth=(secret.username, secret.password),
    )
    for contact in client.parse(answer, Contacts).items:
        if is_same_number(contact.msisdn, number):
            segment = "vip" if contact.vip else "standard"
            return Identity(
                client.source, contact.contactId, contact.name.given, contact.name.family, segment
            )
    return None
