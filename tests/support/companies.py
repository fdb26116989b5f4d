"""The three companies' protocols and a scripted company, for tests that need no server.

company = Company([httpx.Response(500), PROTOCOLS["alpha"].knows(JEAN)])
"""

import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from conversation.sources import alpha, beta, gamma
from conversation.sources.client import SourceClient, run_within
from conversation.sources.identity import Identity

NUMBER = "+33612345678"
OTHER_NUMBER = "+33199009999"


class Person(NamedTuple):
    """A customer, before a company puts it in its own words."""

    customer_id: str = "1042"
    first_name: str = "Jean"
    last_name: str = "Dupont"
    segment: str = "vip"
    number: str = NUMBER


JEAN = Person()

type Reply = httpx.Response | Exception | Callable[[httpx.Request], Awaitable[httpx.Response]]


@dataclass
class Company:
    """Replies in turn to the lookups, and to gamma's token requests; an extra request is an error."""

    replies: list[Reply]
    token_replies: list[Reply] | None = None
    lookups: list[httpx.Request] = field(default_factory=list)
    token_requests: list[httpx.Request] = field(default_factory=list)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/oauth/token"):
            self.token_requests.append(request)
            if self.token_replies is None:
                return token(f"token-{len(self.token_requests)}")
            return await self._next(self.token_replies, request)
        self.lookups.append(request)
        return await self._next(self.replies, request)

    @staticmethod
    async def _next(replies: list[Reply], request: httpx.Request) -> httpx.Response:
        assert replies, "one request more than the test expects"
        match replies.pop(0):
            case httpx.Response() as response:
                return response
            case Exception() as error:
                raise error
            case handler:
                return await handler(request)


@dataclass(frozen=True)
class Protocol:
    """How one company is asked, and how it words that it knows somebody or nobody."""

    source: str
    secret: Any
    look_up: Callable[[SourceClient, Any, str], Coroutine[object, object, Identity | None]]
    document: Callable[[Person], Any]
    nobody: Callable[[], httpx.Response]

    def knows(self, person: Person = JEAN) -> httpx.Response:
        return httpx.Response(200, json=self.document(person))

    def ask(
        self,
        number: str = NUMBER,
        *,
        base_url: str = "",
        seconds: float = 5,
        retry_after_seconds: float = 0,
    ) -> Identity | None:
        """Look the number up as a lookup function does."""
        url = base_url or f"https://{self.source}.example/api"
        client = SourceClient(self.source, url, retry_after_seconds=retry_after_seconds)
        return run_within(self.source, seconds, self.look_up(client, self.secret, number))


def token(text: str, **more: object) -> httpx.Response:
    return httpx.Response(200, json={"access_token": text, "token_type": "Bearer", "expires_in": 300, **more})


def _alpha_document(person: Person) -> Any:
    return [
        {
            "id": person.customer_id,
            "first_name": person.first_name,
            "last_name": person.last_name,
            "phone": person.number,
            "tier": person.segment,
        }
    ]


def _beta_document(person: Person) -> Any:
    contact = {
        "contactId": person.customer_id,
        "msisdn": person.number.removeprefix("+"),
        "name": {"given": person.first_name, "family": person.last_name},
        "vip": person.segment == "vip",
    }
    return {"total": 1, "items": [contact]}


def _gamma_document(person: Person) -> Any:
    return {
        "personId": person.customer_id,
        "phone": person.number,
        "fullName": f"{person.first_name} {person.last_name}",
        "segment": person.segment,
    }


PROTOCOLS = {
    "alpha": Protocol(
        source="alpha",
        secret=alpha.Secret(apiKey="alpha-key"),
        look_up=alpha.look_up,
        document=_alpha_document,
        nobody=lambda: httpx.Response(200, json=[]),
    ),
    "beta": Protocol(
        source="beta",
        secret=beta.Secret(username="beta-user", password="beta-password"),  # noqa: S106 - opens nothing
        look_up=beta.look_up,
        document=_beta_document,
        nobody=lambda: httpx.Response(200, json={"total": 0, "items": []}),
    ),
    "gamma": Protocol(
        source="gamma",
        secret=gamma.Secret(clientId="gamma-client", clientSecret="gamma-secret"),
        look_up=gamma.look_up,
        document=_gamma_document,
        nobody=lambda: httpx.Response(404, json={"error": "no such person"}),
    ),
}


def with_field(document: Any, path: str, value: object) -> httpx.Response:
    """The document as a 200, with one field (`items.0.vip`) set to something else."""
    changed = json.loads(json.dumps(document))
    *parents, last = path.split(".")
    place = changed
    for parent in parents:
        place = place[int(parent) if parent.isdecimal() else parent]
    place[int(last) if last.isdecimal() else last] = value
    return httpx.Response(200, content=json.dumps(changed))
