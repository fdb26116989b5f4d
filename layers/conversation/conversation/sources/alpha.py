"""alpha: `GET /customers?phone=<E.164>` with an API key answers a list of customers, empty when unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation.sources.client import Answer
from conversation.sources.identity import Identity, is_same_number

if TYPE_CHECKING:
    from conversation.sources.client import SourceClient


class Secret(Answer):
    """The credentials in Secrets Manager."""

    apiKey: str  # noqa: N815 - the secret's own name


class Customer(Answer):
    """One entry of the answer; `tier` is standard, gold or vip."""

    id: str
    first_name: str
    last_name: str
    phone: str
    tier: str


async def look_up(client: SourceClient, secret: Secret, number: str) -> Identity | None:
    """Ask alpha who has this number (E.164); None when alpha knows nobody. Raises SourceUnavailable."""
    answer = await client.request(
        "GET", "/customers", params={"phone": number}, headers={"X-Api-Key": secret.apiKey}
    )
    for customer in client.parse(answer, list[Customer]):
        if is_same_number(customer.phone, number):
            return Identity(
                client.source, customer.id, customer.first_name, customer.last_name, customer.tier
            )
    return None
