"""alpha: `GET /customers?phone=<E.164>` with an API key answers a list of customers, empty when unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from conversation.sources.records import Customer, find_caller

if TYPE_CHECKING:
    from conversation.sources.client import SourceClient
    from conversation.sources.identity import Identity
    from conversation.sources.records import Record


class Secret(NamedTuple):
    """The credentials in Secrets Manager."""

    apiKey: str  # noqa: N815 - the secret's own name


async def look_up(client: SourceClient, secret: Secret, number: str) -> Identity | None:
    """Ask alpha who has this number (E.164); None when alpha knows nobody. Raises SourceUnavailable."""
    key = client.credential("apiKey", secret.apiKey, in_header=True)
    answer = await client.request("GET", "/customers", params={"phone": number}, headers={"X-Api-Key": key})
    records = client.read_json(answer)
    if not isinstance(records, list):
        raise client.malformed("")
    return find_caller(client, number, ((str(i), one) for i, one in enumerate(records)), "phone", _read)


def _read(record: Record) -> Customer:
    """Read one entry of the answer; `tier` is standard, gold or vip."""
    return Customer(
        record.id("id"), record.text("first_name"), record.text("last_name"), record.segment("tier")
    )
