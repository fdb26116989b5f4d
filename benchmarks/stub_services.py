"""AWS, the three companies and the CRM as one server that answers at once, for benchmarks.

It keeps the last item that was put into each table and returns it whatever is asked for.
"""

from __future__ import annotations

import json
import socketserver
import ssl
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.httpsession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CREDENTIALS = {
    "alpha": {"apiKey": "benchmark"},
    "beta": {"username": "benchmark", "password": "benchmark"},
    "gamma": {"clientId": "benchmark", "clientSecret": "benchmark"},
    "crm": {"token": "benchmark"},
}
COMPANIES = ("alpha", "beta", "gamma")
_NUMBER = "+33612345678"
_CONTACT = {
    "contactId": "1", "msisdn": _NUMBER.removeprefix("+"), "name": {"given": "J", "family": "D"}, "vip": True,
}  # fmt: skip
_COMPANIES: dict[str, Any] = {
    "/alpha/customers": [{"id": "1", "first_name": "J", "last_name": "D", "phone": _NUMBER, "tier": "vip"}],
    "/beta/v2/contacts/search": {"total": 1, "items": [_CONTACT]},
    "/gamma/oauth/token": {"access_token": "benchmark", "expires_in": 300},
    f"/gamma/people/{_NUMBER}": {"personId": "1", "phone": _NUMBER, "fullName": "J D", "segment": "vip"},
    "/crm/notes": {"noteId": "1"},
}
type _Items = dict[str, Any]


def _put(request: dict[str, Any], items: _Items) -> dict[str, Any]:
    items[request["TableName"]] = request["Item"]
    return {}


# By the last part of the header X-Amz-Target.
_AWS: dict[str, Callable[[dict[str, Any], _Items], dict[str, Any]]] = {
    "PutItem": _put,
    "GetItem": lambda request, items: {"Item": item} if (item := items.get(request["TableName"])) else {},
    "UpdateItem": lambda request, items: {"Attributes": items.get(request["TableName"], {})},
    "Query": lambda _request, _items: {"Items": [], "Count": 0},
    "StartExecution": lambda _request, _items: {"executionArn": "arn:aws:states:1", "startDate": 0},
    "GetSecretValue": lambda request, _items: {"SecretString": json.dumps(CREDENTIALS[request["SecretId"]])},
    "SendMessage": lambda _request, _items: {"MessageId": "1"},
    "SendMessageBatch": lambda request, _items: {
        "Successful": [
            {"Id": one["Id"], "MessageId": "1", "MD5OfMessageBody": ""} for one in request["Entries"]
        ]
    },
}


def _answer(path: str, target: str, body: bytes, items: _Items) -> Any:
    if target:
        return _AWS[target.rpartition(".")[2]](json.loads(body), items)
    return _COMPANIES.get(path.partition("?")[0], {})


class _Connection(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while line := self.rfile.readline():
            headers = {}
            while (header := self.rfile.readline()) != b"\r\n":
                name, _, value = header.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = self.rfile.read(int(headers.get("content-length", 0)))
            path, target = line.split()[1].decode(), headers.get("x-amz-target", "")
            answer = json.dumps(_answer(path, target, body, self.server.items)).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}"
            self.wfile.write(head.encode() + b"\r\n\r\n" + answer)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.items: _Items = {}


@contextmanager
def serving(*, tls_in: Path | None = None) -> Iterator[tuple[str, str]]:
    """Serve for the length of a `with` block; yields the base URL, and a file of trusted certificates.

        with serving() as (url, _):
            ...  # AWS_ENDPOINT_URL=url, SOURCE_URL=f"{url}/alpha"

    `tls_in` is a folder for a certificate, and makes it https: then the file holds that certificate and all
    of the SDK's own, which a client has to read too.
    """
    with _Server() as server:
        scheme, trusted = "http", ""
        if tls_in is not None:
            scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trusted = _certify(context, tls_in)
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"{scheme}://127.0.0.1:{server.server_address[1]}", trusted
        finally:
            server.shutdown()


def _certify(context: ssl.SSLContext, folder: Path) -> str:
    private, own, trusted = folder / "private.pem", folder / "own.pem", folder / "trusted.pem"
    make: list[str | Path] = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", private, "-out", own,
    ]  # fmt: skip
    subprocess.run(make, check=True, capture_output=True)  # noqa: S603 - arguments of our own
    context.load_cert_chain(own, private)
    trusted.write_text(own.read_text() + Path(botocore.httpsession.DEFAULT_CA_BUNDLE).read_text())
    return str(trusted)
