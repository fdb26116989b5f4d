"""An IVR's view of the API: what a flow in Genesys, Connect or Twilio sends, and what it gets back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx

from local.emulator.stack import Stack


class Reply(NamedTuple):
    """An HTTP status and the JSON document that came with it."""

    status: int
    document: dict[str, Any]


@dataclass(frozen=True)
class Ivr:
    """An IVR that calls the conversations API; any number of threads may share one.

    ivr.start("c1", "+33639980001")              # Reply(status=202, document={"status": "ONGOING", ...})
    ivr.read("c1", wait=5).document["identity"]
    ivr.set_attributes("c1", {"reason": "billing"})

    Raises httpx.TransportError when the API cannot be reached; an error status is a Reply like any other.
    """

    http: httpx.Client

    def start(
        self, conversation_id: str, caller_number: str, attributes: Mapping[str, str] | None = None
    ) -> Reply:
        """Start the identification of a caller."""
        body: dict[str, object] = {"conversationId": conversation_id, "callerNumber": caller_number}
        if attributes is not None:
            body["attributes"] = dict(attributes)
        return _reply(self.http.post("/conversations", json=body))

    def read(self, conversation_id: str, *, wait: int | None = None, flat: bool = False) -> Reply:
        """Read a conversation, waiting up to `wait` seconds for the identification to end."""
        query: dict[str, str | int] = {}
        if wait is not None:
            query["wait"] = wait
        if flat:
            query["format"] = "flat"
        return _reply(self.http.get(f"/conversations/{conversation_id}", params=query))

    def set_attributes(self, conversation_id: str, attributes: Mapping[str, str | None]) -> Reply:
        """Write participant data; None deletes."""
        path = f"/conversations/{conversation_id}/attributes"
        return _reply(self.http.patch(path, json=dict(attributes)))

    def start_journey(
        self, conversation_id: str, journey: str, fields: Mapping[str, object] | None = None
    ) -> Reply:
        """Start one of the conversation's journeys."""
        path = f"/conversations/{conversation_id}/journeys/{journey}"
        return _reply(self.http.post(path, json=dict(fields or {})))

    def workflow(self, workflow_id: str) -> Reply:
        """See where a journey stands."""
        return _reply(self.http.get(f"/workflows/{workflow_id}"))

    def send_event(self, workflow_id: str, event: str, payload: object, *, key: str | None = None) -> Reply:
        """Send an event, as a supervisor's desktop does; `key` is its Idempotency-Key."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return _reply(
            self.http.post(f"/workflows/{workflow_id}/events/{event}", json=payload, headers=headers)
        )

    def cancel(self, workflow_id: str) -> Reply:
        """Cancel a journey: the caller has hung up."""
        return _reply(self.http.delete(f"/workflows/{workflow_id}"))


@contextmanager
def calling(stack: Stack) -> Iterator[Ivr]:
    """An IVR that knows the stack's URL and API key, for the length of a `with` block."""
    with httpx.Client(
        base_url=stack.api_url,
        headers={"x-api-key": stack.api_key},
        timeout=35,  # longer than API Gateway lets any request take
        limits=httpx.Limits(max_connections=None),
    ) as http:
        yield Ivr(http)


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.json())
