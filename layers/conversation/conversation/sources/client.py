"""HTTP to a company's service, inside a time budget, with every failure turned into SourceUnavailable.

How the time-outs nest, for the default deadline of ten seconds:

    request budget 6 s  <  Lambda 7 s  <  state machine task 8 s  <  state machine 9 s  <  deadline 10 s

The budget covers everything: the secret, a token, the request, one quick retry and a body that drips.
It shrinks when the deadline is nearer than usual, so that the answer can still be written.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from conversation.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

# Both log the URLs that they call, and alpha's and gamma's hold the caller's number.
for _library in ("httpx", "httpcore"):
    logging.getLogger(_library).setLevel(logging.WARNING)

MAXIMUM_ANSWER_BYTES = 256 * 1024
_CONNECT_SECONDS = 1.5
_RETRY_AFTER_SECONDS = 0.1
# What a second try, a moment later, may mend. A 429 or a time-out it would only make worse.
_WORTH_A_RETRY = frozenset({500, 502, 503, 504})


class Answer(BaseModel):
    """A part of a company's answer: types must be right, fields that nobody asked for may be there."""

    # Without the input: a validation error is logged, and the input is a customer.
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A company's answer that came whole and in time, whatever its status."""

    status: int
    body: bytes


class SourceClient:
    """Requests to one company, by its name and base URL.

    client = SourceClient("alpha", "https://alpha.example")
    answer = await client.request("GET", "/customers", params={"phone": "+33612345678"})
    """

    def __init__(self, source: str, base_url: str) -> None:
        self.source = source
        self._base_url = base_url

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> HttpAnswer:
        """Send a request that changes nothing over there, once more if it failed in a way that may pass.

        Raises SourceUnavailable when no whole answer came. Redirects are not followed: they would carry
        the credentials elsewhere.
        """
        try:
            request = _http().build_request(
                method, self._base_url + path, params=params, headers=headers, json=json, data=form
            )
        except (httpx.InvalidURL, ValueError):
            # A credential beyond ASCII, most of all; the error itself would quote it.
            raise self.unavailable("was not asked: its URL or credentials cannot be sent") from None
        basic = httpx.BasicAuth(*auth) if auth else None
        try:
            answer = await self._send(request, basic)
            if answer.status not in _WORTH_A_RETRY:
                return answer
        except httpx.TimeoutException as error:
            raise self.unavailable(f"timed out ({type(error).__name__})") from None
        except httpx.HTTPError:
            pass  # refused, reset, garbled, or a kept connection that died while the function was frozen
        await asyncio.sleep(_RETRY_AFTER_SECONDS)
        try:
            return await self._send(request, basic)
        except httpx.HTTPError as error:
            raise self.unavailable(f"could not be reached ({type(error).__name__})") from None

    async def _send(self, request: httpx.Request, auth: httpx.Auth | None) -> HttpAnswer:
        response = await _http().send(request, stream=True, auth=auth)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAXIMUM_ANSWER_BYTES:
                    raise self.unavailable(f"answered with more than {MAXIMUM_ANSWER_BYTES:,} bytes")
            return HttpAnswer(response.status_code, bytes(body))
        finally:
            await response.aclose()

    def parse[Model](self, answer: HttpAnswer, model: type[Model]) -> Model:
        """Read a 200 as the model. Raises SourceUnavailable for any other status or shape."""
        if answer.status != httpx.codes.OK:
            raise self.unavailable(f"answered {answer.status}")
        try:
            return TypeAdapter(model).validate_json(answer.body)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"]) or "its body"
            raise self.unavailable(f"answered in an unknown format, first at {where}") from None

    def unavailable(self, what: str) -> SourceUnavailable:
        """Make the error that says what the company did; `what` must not tell who called."""
        return SourceUnavailable(f"{self.source} {what}")


def run_within[Result](source: str, seconds: float, work: Coroutine[object, object, Result]) -> Result:
    """Run a lookup to its end, or raise SourceUnavailable after that many seconds, whatever it waits for."""

    async def bounded() -> Result:
        async with asyncio.timeout(seconds):
            return await work

    try:
        return asyncio.run_coroutine_threadsafe(bounded(), _loop()).result()
    except TimeoutError:
        raise SourceUnavailable(f"{source} gave no answer within {seconds:.1f} s") from None


# Connections outlive an invocation only if their event loop does. It runs in a thread of its own: Lambda
# freezes it between invocations together with everything else.
_loop_lock = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    with _loop_lock:
        return _running_loop()


@cache
def _running_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="sources", daemon=True).start()
    return loop


@cache
def _http() -> httpx.AsyncClient:
    """Return the connection pool; only the loop's own thread calls this."""
    return httpx.AsyncClient(
        # The budget bounds the whole; a connection that is not there after this long will not come.
        timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=60),
        follow_redirects=False,
        trust_env=False,
        # Callers share this client: a company's session of one of them must not go out with the next.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"Accept": "application/json", "User-Agent": "meanwhile"},
    )
