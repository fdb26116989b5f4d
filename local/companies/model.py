"""What the demo companies know and how they behave: shared by the server and by those who control it."""

import hashlib
from enum import StrEnum
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict

Source = Literal["alpha", "beta", "gamma"]
SOURCES: tuple[Source, ...] = get_args(Source)

Service = Source | Literal["crm"]
type Credentials = dict[str, str]

# Exactly what the stack's secrets have to hold for these companies and their CRM; worthless anywhere else.
CREDENTIALS: dict[Service, Credentials] = {
    "alpha": {"apiKey": "alpha-demo-key"},
    "beta": {"username": "meanwhile", "password": "beta-demo-password"},
    "gamma": {"clientId": "meanwhile", "clientSecret": "gamma-demo-secret"},
    "crm": {"token": "crm-demo-token"},
}


class Fault(StrEnum):
    """What can be wrong with a company's answer."""

    SERVER_ERROR = "500"
    TIMEOUT = "never answers"
    SLOW_DRIP = "a byte at a time, for ever"
    HALF_BODY = "sends half a body"
    MALFORMED_JSON = "malformed JSON"
    WRONG_SCHEMA = "wrong schema"
    WRONG_NUMBER = "another number's customer"
    TOO_MANY_REQUESTS = "429"
    UNAUTHORIZED = "401"
    CONNECTION_CLOSED = "closes the connection"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Customer(_Frozen):
    """A customer, told apart from how a company words it.

    Customer(customer_id="G-1042", first_name="Jean", last_name="Dupont", segment="vip")
    """

    customer_id: str
    first_name: str
    last_name: str
    segment: Literal["standard", "gold", "vip"] = "standard"


class Behaviour(_Frozen):
    """How a company answers: after `latency` seconds, and with what fault.

        Behaviour(latency=3)
        Behaviour(fault=Fault.SLOW_DRIP)

    Latency is the customer lookup's; gamma issues tokens at once.
    """

    latency: float = 0.0
    fault: Fault | None = None


type Directory = dict[Source, dict[str, Customer]]
"""Who knows whom: company, then E.164 number, then customer."""


class Behaviours(_Frozen):
    """A company's usual behaviour (None: as it was), and exceptions to it by E.164 number."""

    usual: Behaviour | None = None
    by_number: dict[str, Behaviour] = {}


class Requests(BaseModel):
    """How often each company was asked for each number, gamma's tokens, the CRM's notes by customer.

    `refused` counts requests whose credentials were not taken, a dead token among them.
    """

    lookups: dict[Source, dict[str, int]]
    tokens: int
    notes: dict[str, int]
    refused: dict[Service, int]


class Happening(NamedTuple):
    """One moment at a company: it is asked for a number, or it answers."""

    source: Source
    number: str
    what: str


_FIRST_NAMES = ("Amal", "Bruno", "Chloé", "Dmitri", "Élise", "Fatou", "Goran", "Hanna", "Inès", "João")
_LAST_NAMES = ("Abadie", "Besson", "Carlier", "Delmas", "Eriksen", "Fontaine", "Garnier", "Haddad", "Ilić")


def invented_customer(source: Source, number: str) -> Customer:
    """The same made-up customer every time for a company and an E.164 number."""
    seed = int.from_bytes(hashlib.sha256(f"{source} {number}".encode()).digest()[:8])
    return Customer(
        customer_id=f"{source[0].upper()}-{number.removeprefix('+')}",
        first_name=_FIRST_NAMES[seed % len(_FIRST_NAMES)],
        last_name=_LAST_NAMES[seed // 16 % len(_LAST_NAMES)],
        segment="vip" if seed // 256 % 4 == 0 else "standard",
    )
