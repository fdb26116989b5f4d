"""Two conversations on a stack that asks delta too: one caller is known to delta, the other one to nobody.

    python -m tests.support.fourth_company <directory> '{"token": "…"}'

Runs in a copy of the repository to which `docs/add-a-company.md` was applied: it imports that copy's modules
and deploys that copy's template. The last line of its output is the two documents as JSON.
"""

import json
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from local import ivr, processes, system
from local.emulator.stack import Stack
from local.emulator.warm_up import warm_up_api, warm_up_lookups
from local.ivr import Ivr
from local.system import System
from local.waiting import wait_until

KNOWN = "+33639984101"
UNKNOWN = "+33639984102"
SUBSCRIBER = {
    "subscriberId": "D-7",
    "number": KNOWN,
    "givenName": "Ada",
    "familyName": "Lovelace",
    "plan": "gold",
}
PATIENCE_SECONDS = 60


class Delta(BaseHTTPRequestHandler):
    """The company's service, as the page describes it."""

    token = ""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        known = parse_qs(url.query) == {"number": [KNOWN]}
        if url.path != "/delta/subscribers":
            self._answer(404, {})
        elif self.headers["Authorization"] != f"Bearer {self.token}":
            self._answer(401, {})
        else:
            self._answer(200, {"subscribers": [SUBSCRIBER] if known else []})

    def _answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: the output is for the documents."""


@contextmanager
def serving(token: str) -> Iterator[str]:
    """Delta for the length of a `with` block; its base URL."""
    Delta.token = token
    with ThreadingHTTPServer(("127.0.0.1", 0), Delta) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/delta"
        server.shutdown()


def warm_up(everything: System) -> None:
    """Start an environment of each function: a lookup that starts one may take longer than a call waits."""
    warm_up_api(everything.stack)
    warm_up_lookups(everything.stack, everything.companies)
    session, endpoint = everything.stack.session, everything.stack.endpoint
    resource = session.client("cloudformation", endpoint_url=endpoint).describe_stack_resource(
        StackName=everything.stack.name, LogicalResourceId="LookupDeltaFunction"
    )
    function = resource["StackResourceDetail"]["PhysicalResourceId"]
    event = {"conversationId": "c", "callerNumber": UNKNOWN, "deadlineAt": "2099-12-31T23:59:59.999Z"}
    answer = session.client("lambda", endpoint_url=endpoint).invoke(
        FunctionName=function, Payload=json.dumps(event)
    )
    print("delta's lookup answers", answer["Payload"].read().decode())


def identify(caller: Ivr, number: str) -> dict[str, Any]:
    """The conversation after every company has answered."""
    conversation_id = str(uuid.uuid4())
    caller.start(conversation_id, number)

    def answered() -> dict[str, Any] | None:
        document = caller.read(conversation_id, wait=20).document
        return None if "PENDING" in document["sources"].values() else document

    return wait_until(answered, seconds=PATIENCE_SECONDS)


def put_secret(stack: Stack, secret: str) -> None:
    """What the page tells the operator to do."""
    stack.session.client("secretsmanager", endpoint_url=stack.endpoint).put_secret_value(
        SecretId=stack.outputs["DeltaSecretArn"], SecretString=secret
    )


def main(directory: str, secret: str) -> None:
    processes.interruptible()
    with (
        serving(json.loads(secret)["token"]) as url,
        system.running(Path(directory), parameters={"DeltaUrl": url, "DefaultRegion": "FR"}) as everything,
        ivr.calling(everything.stack) as caller,
    ):
        put_secret(everything.stack, secret)
        warm_up(everything)
        documents = [identify(caller, number) for number in (KNOWN, UNKNOWN)]
    print(json.dumps(documents))


if __name__ == "__main__":
    main(*sys.argv[1:])
