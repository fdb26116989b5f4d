"""AWS, the three companies and the CRM as one server that answers at once, for benchmarks.

It keeps the last item that was put into each table and returns it whatever is asked for.
"""

from __future__ import annotations

import json
import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

CREDENTIALS = {
    "alpha": {"apiKey": "benchmark"},
    "beta": {"username": "benchmark", "password": "benchmark"},
    "gamma": {"clientId": "benchmark", "clientSecret": "benchmark"},
}
_NUMBER = "+33612345678"
_ANSWERS: dict[str, Any] = {
    "/alpha/customers": [{"id": "1", "first_name": "J", "last_name": "D", "phone": _NUMBER, "tier": "vip"}],
    "/beta/v2/contacts/search": {
        "total": 1,
        "items": [
            {
                "contactId": "1",
                "msisdn": _NUMBER.removeprefix("+"),
                "name": {"given": "J", "family": "D"},
                "vip": True,
            }
        ],
    },
    "/gamma/oauth/token": {"access_token": "benchmark", "expires_in": 300},
    f"/gamma/people/{_NUMBER}": {"personId": "1", "phone": _NUMBER, "fullName": "J D", "segment": "vip"},
    "/crm/notes": {"noteId": "1"},
}


@contextmanager
def serving() -> Iterator[str]:
    """Serve for the length of a `with` block; yields the base URL.

    with serving() as url:
        ...  # AWS_ENDPOINT_URL=url, SOURCE_URL=f"{url}/alpha"
    """
    items: dict[str, dict[str, Any]] = {}

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                path = line.split()[1].decode()
                headers = {}
                while (header := self.rfile.readline()) != b"\r\n":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = self.rfile.read(int(headers.get("content-length", 0)))
                answer = json.dumps(_answer(path, headers.get("x-amz-target", ""), body, items)).encode()
                head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                self.wfile.write(f"{head}Content-Length: {len(answer)}\r\n\r\n".encode() + answer)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Connection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def _answer(path: str, target: str, body: bytes, items: dict[str, dict[str, Any]]) -> Any:
    if not target:
        return _ANSWERS.get(path.partition("?")[0].replace("%2B", "+"), {})
    request = json.loads(body)
    answer: dict[str, Any] = {}
    match target.rpartition(".")[2]:
        case "PutItem":
            items[request["TableName"]] = request["Item"]
        case "GetItem" if request["TableName"] in items:
            answer = {"Item": items[request["TableName"]]}
        case "UpdateItem":
            answer = {"Attributes": items.get(request["TableName"], {})}
        case "Query":
            answer = {"Items": [], "Count": 0}
        case "StartExecution":
            answer = {"executionArn": "arn:aws:states:eu-west-1:123456789012:execution:1", "startDate": 0}
        case "GetSecretValue":
            answer = {"SecretString": json.dumps(CREDENTIALS[request["SecretId"]])}
        case "SendMessage":
            answer = {"MessageId": "1", "MD5OfMessageBody": ""}
    return answer
