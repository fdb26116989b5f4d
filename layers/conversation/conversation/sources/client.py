"""Requests to a company's service, with every failure turned into SourceUnavailable.

How the time-outs nest, for the default deadline of ten seconds:

    request budget 6 s  <  Lambda 7 s  <  state machine task 8 s  <  state machine 9 s  <  deadline 10 s

The budget covers everything: the secret, a token, the request, one quick retry and a body that drips.
It shrinks when the deadline is nearer than usual, so that the answer can still be written.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from conversation import http_client
from conversation.errors import SourceUnavailable
from conversation.http_client import CertificateRefused, HttpAnswer, HttpError, TimedOut, Unreachable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Mapping

RETRY_AFTER_SECONDS = 0.1
# What a second try, a moment later, may mend. A 429 or a time-out it would only make worse.
_WORTH_A_RETRY = frozenset({500, 502, 503, 504})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class CredentialsRefused(SourceUnavailable):
    """The company does not take the credentials; the secret may have been replaced meanwhile."""


class SourceClient:
    """Requests to one company, by its name and base URL; what is to be counted about its answers.

        client = SourceClient("alpha", "https://alpha.example")
        answer = await client.request("GET", "/customers", params={"phone": "+33612345678"})

    `shared_in` is the table in which execution environments share the token of a company that has one; empty:
    each has its own. `retry_after_seconds` is the pause before the one retry. `tls` is set by who has read in
    the company's secret which certificate to show it, or whom to trust.
    """

    def __init__(
        self,
        source: str,
        base_url: str,
        shared_in: str = "",
        *,
        retry_after_seconds: float = RETRY_AFTER_SECONDS,
    ) -> None:
        self.source = source
        self.base_url = base_url
        self.token_table = shared_in
        self.counted: Counter[str] = Counter()
        self.tls: ssl.SSLContext | None = None
        self._retry_after_seconds = retry_after_seconds

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
        alone: bool = False,
    ) -> HttpAnswer:
        """Send a request that may be done twice over there, once more if it failed in a way that may pass.

        `alone` is for what must not be on its way twice at once, such as a token whose grant ends another's
        life. Raises SourceUnavailable when no whole answer came.
        """

        async def send() -> HttpAnswer:
            try:
                return await http_client.send(
                    method,
                    self.base_url + path,
                    params=params,
                    headers=headers,
                    json=json,
                    form=form,
                    auth=auth,
                    alone=alone,
                    tls=self.tls,
                )
            except CertificateRefused as error:
                raise CredentialsRefused(f"{self.source} {error}") from None

        try:
            answer = await send()
            if answer.status not in _WORTH_A_RETRY:
                return answer
        except Unreachable:
            pass  # refused, reset or garbled
        except HttpError as error:
            raise self.unavailable(str(error)) from None
        await asyncio.sleep(self._retry_after_seconds)
        try:
            return await send()
        except TimedOut as error:
            raise self.unavailable(f"could not be reached ({error.kind})") from None
        except HttpError as error:
            raise self.unavailable(str(error)) from None

    def credential(self, field: str, text: str, *, in_header: bool = False) -> str:
        """Return a credential that can be sent. Raises SourceUnavailable that names the field when it cannot.

        A header carries ASCII; HTTP Basic encodes and so carries any text.
        """
        if _CONTROL.search(text):
            raise self.unavailable(f"was not asked: fill its secret again, {field} has a control character")
        if in_header and not text.isascii():
            raise self.unavailable(f"was not asked: fill its secret again, {field} is not all ASCII")
        return text

    def read_json(self, answer: HttpAnswer) -> Any:
        """Read a 200 as JSON. Raises SourceUnavailable for any other status or body."""
        if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise CredentialsRefused(f"{self.source} answered {answer.status}")
        if answer.status != HTTPStatus.OK:
            raise self.unavailable(f"answered {answer.status}")
        try:
            return answer.json()
        except ValueError:
            raise self.malformed("") from None

    def malformed(self, where: str) -> SourceUnavailable:
        """Make the error for an answer of another shape; `where` is a path such as `items.0.contactId`."""
        return self.unavailable(f"answered in an unknown format, first at {where or 'its body'}")

    def unavailable(self, what: str) -> SourceUnavailable:
        """Make the error that says what the company did; `what` must not tell who called."""
        return SourceUnavailable(f"{self.source} {what}")


def run_within[Result](source: str, seconds: float, work: Coroutine[object, object, Result]) -> Result:
    """Run a lookup to its end, or raise SourceUnavailable after that many seconds, whatever it waits for."""
    try:
        return http_client.run_within(seconds, work)
    except TimedOut as error:
        raise SourceUnavailable(f"{source} {error}") from None
