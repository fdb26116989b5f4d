"""The companies' customer services and a CRM over HTTP, in one process, with faults as they are told.

python -m local.companies.server --port 8000

Their base URLs are then http://127.0.0.1:8000/alpha, /beta, /gamma and /crm; /_control belongs to the tests.
"""

import argparse
import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NoReturn

from aiohttp import BasicAuth, web
from pydantic import TypeAdapter

from local.companies.model import (
    CREDENTIALS,
    SOURCES,
    Behaviour,
    Behaviours,
    Credentials,
    Customer,
    Directory,
    Fault,
    Happening,
    Requests,
    Service,
    Source,
    invented_customer,
)
from local.servers import serving

_DRIP_SECONDS = 0.2
_BACKLOG = 2048
_OTHER_NUMBER = "+33199009999"
_DIRECTORY = TypeAdapter[Directory](Directory)
_BEHAVIOURS = TypeAdapter(dict[Source, Behaviours])
_ACCEPTED = TypeAdapter(dict[Service, list[Credentials]])


class World:
    """All that the three companies know, do and have been asked."""

    def __init__(self, token_lifetime: float) -> None:
        self.token_lifetime = token_lifetime
        self.tokens: dict[str, tuple[float, Credentials]] = {}
        self.listeners: set[asyncio.Queue[Happening]] = set()
        self.forget()

    def forget(self) -> None:
        self.customers: Directory = {source: {} for source in SOURCES}
        self.usual: dict[Source, Behaviour] = {source: Behaviour() for source in SOURCES}
        self.exceptions: dict[Source, dict[str, Behaviour]] = {source: {} for source in SOURCES}
        self.lookups: dict[Source, Counter[str]] = {source: Counter() for source in SOURCES}
        self.accepted = {service: [credentials] for service, credentials in CREDENTIALS.items()}
        self.refused: Counter[Service] = Counter()
        self.tokens_issued = 0
        self.notes: dict[str, str] = {}  # by idempotency key: the CRM takes a note once

    def behaviour(self, source: Source, number: str) -> Behaviour:
        return self.exceptions[source].get(number, self.usual[source])

    def accepts(self, service: Service, credentials: Credentials | None) -> bool:
        if credentials in self.accepted[service]:
            return True
        self.refused[service] += 1
        return False

    def tell(self, source: Source, number: str, what: str) -> None:
        for listener in self.listeners:
            listener.put_nowait(Happening(source, number, what))


WORLD = web.AppKey("world", World)


# --- the three protocols: how each company words a customer, or that there is none ----------------------


def _alpha_document(number: str, customer: Customer | None) -> list[dict[str, str]]:
    if customer is None:
        return []
    return [
        {
            "id": customer.customer_id,
            "first_name": customer.first_name,
            "last_name": customer.last_name,
            "phone": number,
            "tier": customer.segment,
        }
    ]


def _beta_document(number: str, customer: Customer | None) -> dict[str, Any]:
    if customer is None:
        return {"total": 0, "items": []}
    contact = {
        "contactId": customer.customer_id,
        "msisdn": number.removeprefix("+"),
        "name": {"given": customer.first_name, "family": customer.last_name},
        "vip": customer.segment == "vip",
    }
    return {"total": 1, "items": [contact]}


def _gamma_document(number: str, customer: Customer | None) -> dict[str, str]:
    if customer is None:
        return {"error": "no such person"}
    return {
        "personId": customer.customer_id,
        "phone": number,
        "fullName": f"{customer.first_name} {customer.last_name}",
        "segment": customer.segment,
    }


_DOCUMENTS: dict[Source, Callable[[str, Customer | None], Any]] = {
    "alpha": _alpha_document,
    "beta": _beta_document,
    "gamma": _gamma_document,
}
_WRONG_SCHEMAS: dict[Source, Any] = {
    "alpha": [{"id": 7, "phones": []}],
    "beta": {"total": "many", "items": {"contactId": None}},
    "gamma": {"personId": 7, "fullName": None},
}


async def alpha_customers(request: web.Request) -> web.StreamResponse:
    number = request.query.get("phone", "")
    sent = {"apiKey": request.headers.get("X-Api-Key", "")}
    return await _lookup(request, "alpha", number, sent)


async def beta_search(request: web.Request) -> web.StreamResponse:
    try:
        msisdn = (await request.json())["msisdn"]
    except (ValueError, KeyError, TypeError):
        return _error(HTTPStatus.BAD_REQUEST, "send JSON with an msisdn")
    return await _lookup(request, "beta", f"+{msisdn}", _basic_auth(request, "username", "password"))


async def gamma_person(request: web.Request) -> web.StreamResponse:
    expires, granted_to = request.app[WORLD].tokens.get(_bearer(request), (0.0, None))
    # With a client's secret its tokens end.
    sent = granted_to if time.monotonic() < expires else None
    return await _lookup(request, "gamma", request.match_info["number"], sent)


async def gamma_token(request: web.Request) -> web.StreamResponse:
    world = request.app[WORLD]
    fault = world.usual["gamma"].fault
    if fault is not None and fault is not Fault.WRONG_NUMBER:
        return await _at_fault(request, fault, good={"access_token": "none"}, bad_schema={"token": 7})
    sent = _basic_auth(request, "clientId", "clientSecret")
    if sent is None or not world.accepts("gamma", sent):
        return _error(HTTPStatus.UNAUTHORIZED, "invalid_client")
    if (await request.post()).get("grant_type") != "client_credentials":
        return _error(HTTPStatus.BAD_REQUEST, "unsupported_grant_type")
    token = secrets.token_urlsafe(24)
    world.tokens[token] = time.monotonic() + world.token_lifetime, sent
    world.tokens_issued += 1
    return web.json_response(
        {"access_token": token, "token_type": "Bearer", "expires_in": int(world.token_lifetime)}
    )


async def _lookup(
    request: web.Request, source: Source, number: str, sent: Credentials | None
) -> web.StreamResponse:
    world = request.app[WORLD]
    if not (number.startswith("+") and number[1:].isdecimal()):
        return _error(HTTPStatus.BAD_REQUEST, "not an E.164 number")
    world.lookups[source][number] += 1
    world.tell(source, number, "asked")
    if not world.accepts(source, sent):
        world.tell(source, number, "401, wrong credentials")
        return _error(HTTPStatus.UNAUTHORIZED, "wrong or expired credentials")
    behaviour = world.behaviour(source, number)
    await asyncio.sleep(behaviour.latency)
    customer = world.customers[source].get(number)
    document = _DOCUMENTS[source]
    if behaviour.fault is Fault.WRONG_NUMBER:
        world.tell(source, number, behaviour.fault.value)
        return web.json_response(document(_OTHER_NUMBER, invented_customer(source, _OTHER_NUMBER)))
    if behaviour.fault is not None:
        world.tell(source, number, behaviour.fault.value)
        someone = document(number, customer or invented_customer(source, number))
        return await _at_fault(request, behaviour.fault, good=someone, bad_schema=_WRONG_SCHEMAS[source])
    world.tell(source, number, "not a customer" if customer is None else "customer found")
    missing = source == "gamma" and customer is None
    return web.json_response(document(number, customer), status=404 if missing else 200)


# --- faults ----------------------------------------------------------------------------------------------


_STATUSES = {
    Fault.SERVER_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    Fault.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    Fault.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
}


async def _at_fault(request: web.Request, fault: Fault, *, good: Any, bad_schema: Any) -> web.StreamResponse:
    if status := _STATUSES.get(fault):
        return _error(status, "as told")
    body = json.dumps(good).encode()
    match fault:
        case Fault.MALFORMED_JSON:
            return web.Response(body=body[:-1], content_type="application/json")
        case Fault.WRONG_SCHEMA:
            return web.json_response(bad_schema)
        case Fault.TIMEOUT:
            await asyncio.Event().wait()
        case Fault.SLOW_DRIP:
            await _drip(request)
        case Fault.HALF_BODY:
            return await _half(request, body)
    return _hang_up(request, web.Response())


async def _drip(request: web.Request) -> NoReturn:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        # White space before a JSON document is allowed: a patient client waits for ever.
        await response.write(b" ")
        await asyncio.sleep(_DRIP_SECONDS)


async def _half(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(len(body))}
    )
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return _hang_up(request, response)


def _hang_up(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return response


def _error(status: HTTPStatus, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _basic_auth(request: web.Request, user: str, password: str) -> Credentials | None:
    try:
        sent = BasicAuth.decode(request.headers.get("Authorization", ""), encoding="utf-8")
    except ValueError:
        return None
    return {user: sent.login, password: sent.password}


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""


# --- the CRM ---------------------------------------------------------------------------------------------


async def crm_note(request: web.Request) -> web.Response:
    if not request.app[WORLD].accepts("crm", {"token": _bearer(request)}):
        return _error(HTTPStatus.UNAUTHORIZED, "send Authorization: Bearer with a valid token")
    note = await request.json()
    notes = request.app[WORLD].notes
    key = request.headers.get("Idempotency-Key", "")
    if not key or not isinstance(note, dict) or note.keys() != {"customerId", "text"}:
        return _error(HTTPStatus.BAD_REQUEST, "send customerId, text and an Idempotency-Key")
    known = key in notes
    notes.setdefault(key, note["customerId"])
    return web.json_response({"noteId": f"N-{list(notes).index(key) + 1}"}, status=200 if known else 201)


# --- control ---------------------------------------------------------------------------------------------


async def add_customers(request: web.Request) -> web.Response:
    for source, customers in _DIRECTORY.validate_json(await request.read()).items():
        request.app[WORLD].customers[source].update(customers)
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def change_behaviours(request: web.Request) -> web.Response:
    world = request.app[WORLD]
    for source, behaviours in _BEHAVIOURS.validate_json(await request.read()).items():
        world.usual[source] = behaviours.usual or world.usual[source]
        world.exceptions[source].update(behaviours.by_number)
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def change_credentials(request: web.Request) -> web.Response:
    request.app[WORLD].accepted.update(_ACCEPTED.validate_json(await request.read()))
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def count_requests(request: web.Request) -> web.Response:
    world = request.app[WORLD]
    counted = Requests(
        lookups={source: dict(numbers) for source, numbers in world.lookups.items()},
        tokens=world.tokens_issued,
        notes=dict(Counter(world.notes.values())),
        refused=dict(world.refused),
    )
    return web.json_response(text=counted.model_dump_json())


async def kill_tokens(request: web.Request) -> web.Response:
    request.app[WORLD].tokens.clear()
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def forget(request: web.Request) -> web.Response:
    request.app[WORLD].forget()
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def stream_happenings(request: web.Request) -> web.StreamResponse:
    world = request.app[WORLD]
    queue: asyncio.Queue[Happening] = asyncio.Queue()
    world.listeners.add(queue)
    try:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        while True:
            await response.write(json.dumps(await queue.get()).encode() + b"\n")
    finally:
        world.listeners.discard(queue)


def application(token_lifetime: float) -> web.Application:
    """The three companies as an aiohttp application; gamma's tokens live for `token_lifetime` seconds."""
    app = web.Application()
    app[WORLD] = World(token_lifetime)
    handlers: dict[tuple[str, str], Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
        ("GET", "/alpha/customers"): alpha_customers,
        ("POST", "/beta/v2/contacts/search"): beta_search,
        ("POST", "/gamma/oauth/token"): gamma_token,
        ("GET", "/gamma/people/{number}"): gamma_person,
        ("POST", "/crm/notes"): crm_note,
        ("PATCH", "/_control/customers"): add_customers,
        ("PATCH", "/_control/behaviours"): change_behaviours,
        ("PATCH", "/_control/credentials"): change_credentials,
        ("GET", "/_control/requests"): count_requests,
        ("GET", "/_control/happenings"): stream_happenings,
        ("DELETE", "/_control/tokens"): kill_tokens,
        ("DELETE", "/_control"): forget,
    }
    for (method, path), handler in handlers.items():
        app.router.add_route(method, path, handler)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-lifetime", type=float, default=300, help="seconds (default: %(default)s)")
    arguments = parser.parse_args()
    serving.run(
        application(arguments.token_lifetime),
        arguments.port,
        backlog=_BACKLOG,
        # A fault that never ends must end when its client has gone, and when the process is told to.
        handler_cancellation=True,
        shutdown_timeout=0.1,
    )


if __name__ == "__main__":
    main()
