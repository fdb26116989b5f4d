"""Six processes of lookup_gamma and an issuer that keeps one live token for each client: no lookup fails."""

import json
import subprocess
import sys
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.cloud import TOKENS, Cloud
from tests.support.simulated_aws import REGION
from tests.support.template import REPOSITORY

PROCESSES = 6
LOOKUPS_OF_EACH = 20
NUMBER = "+33612345678"
OPERATIONS = {
    "DynamoDB_20120810.GetItem": ("dynamodb", "get_item"),
    "DynamoDB_20120810.UpdateItem": ("dynamodb", "update_item"),
    "secretsmanager.GetSecretValue": ("secretsmanager", "get_secret_value"),
}


@dataclass
class Gamma:
    """The issuer and its people: a new token ends the one before.

    A client has every secret that is not ended, so two at once while one replaces the other.
    """

    live: str = ""
    ended: str = ""
    issued: int = 0
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, path: str, authorization: str) -> tuple[int, Any]:
        with self.lock:
            if method == "POST":
                if self.ended and authorization == f"Basic {b64encode(self.ended.encode()).decode()}":
                    return 401, {"error": "invalid_client"}
                self.issued += 1
                self.live = f"token-{self.issued}"
                return 200, {"access_token": self.live, "expires_in": "3599"}
            if authorization != f"Bearer {self.live}":
                self.refused += 1
                return 401, {"error": "token"}
        number = path.rpartition("/")[2]
        return 200, {"personId": "G-1", "phone": number, "fullName": "Jean Dupont", "segment": "vip"}


@dataclass
class Aws:
    """The simulated account for processes that are not in it."""

    called: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, target: str, body: Any) -> tuple[int, Any]:
        service, operation = OPERATIONS[target]
        client: Any = boto3.client(service)  # type: ignore[call-overload]
        with self.lock:
            self.called[operation] += 1
            try:
                answer = getattr(client, operation)(**body)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                return 400, {"__type": code, "message": "", "Item": error.response.get("Item", {})}
        return 200, {
            key: value for key, value in answer.items() if key not in {"ResponseMetadata", "CreatedDate"}
        }


@contextmanager
def serving(gamma: Gamma, aws: Aws) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(*gamma.answer("GET", self.path, self.headers.get("Authorization", "")))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            target, authorization = self.headers.get("X-Amz-Target"), self.headers.get("Authorization", "")
            self._send(
                *(aws.answer(target, json.loads(body)) if target else gamma.answer("POST", "", authorization))
            )

        def _send(self, status: int, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def environments(url: str) -> Iterator[list[subprocess.Popen[str]]]:
    variables = {
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/layers/conversation",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL": url,
        "POWERTOOLS_TRACE_DISABLED": "true",
        "POWERTOOLS_METRICS_NAMESPACE": "Meanwhile",
        "POWERTOOLS_SERVICE_NAME": "lookup_gamma",
        "SOURCE": "gamma",
        "SOURCE_URL": url,
        "SOURCE_SECRET": "GammaSecret",
        "TOKEN_TABLE": TOKENS,
    }
    command = [sys.executable, "-m", "tests.support.lookup_process"]
    processes = [
        subprocess.Popen(  # noqa: S603 - this test's own
            command,
            env=variables,
            cwd=REPOSITORY,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(PROCESSES)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.communicate(timeout=30)


def look_up(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(NUMBER) + "\n")
    process.stdin.flush()
    answers = (
        line.removeprefix("answer: ").strip() for line in process.stdout if line.startswith("answer: ")
    )
    return next(answers)


@pytest.fixture
def gamma_credentials(cloud: Cloud) -> None:
    del cloud
    fill("old")


def fill(client_secret: str) -> None:
    content = json.dumps({"clientId": "meanwhile", "clientSecret": client_secret})
    boto3.client("secretsmanager").put_secret_value(SecretId="GammaSecret", SecretString=content)


@pytest.mark.usefixtures("gamma_credentials")
def test_no_lookup_of_any_process_fails() -> None:
    gamma, aws = Gamma(), Aws()
    with serving(gamma, aws) as url, environments(url) as processes, ThreadPoolExecutor(PROCESSES) as threads:
        outcomes: Counter[str] = Counter()
        for _ in range(LOOKUPS_OF_EACH // 2):
            outcomes.update(threads.map(look_up, processes))
        assert (gamma.issued, gamma.refused) == (1, 0)
        first = dict(aws.called)
        gamma.live = "revoked"
        for _ in range(LOOKUPS_OF_EACH // 2):
            outcomes.update(threads.map(look_up, processes))
    assert outcomes == {"MATCH": PROCESSES * LOOKUPS_OF_EACH}
    assert gamma.issued == 2, "one in the beginning, and one for the one that was revoked"
    assert gamma.refused == PROCESSES, "each of them meets the dead token once"
    # Each looks into the table at its start, and waits for the one that renews; nothing is read after that.
    assert first["get_secret_value"] == PROCESSES
    assert first["get_item"] >= PROCESSES
    assert aws.called["update_item"] <= 2 * (1 + PROCESSES), "a claim of each at most, and the token, twice"


@pytest.mark.usefixtures("gamma_credentials")
def test_no_lookup_fails_while_the_clients_secret_is_replaced() -> None:
    """For five minutes some environments have the old secret and others the new one.

    Each of the two has a token of its own, and both are one client's: each grant ends the other's token.
    """
    gamma, aws = Gamma(), Aws()
    with serving(gamma, aws) as url, environments(url) as processes, ThreadPoolExecutor(PROCESSES) as threads:
        outcomes = Counter(threads.map(look_up, processes[::2]))
        fill("new")
        for _ in range(LOOKUPS_OF_EACH):
            outcomes.update(threads.map(look_up, processes))
        gamma.ended, gamma.live = "meanwhile:old", "revoked"  # with the old secret its tokens end
        for _ in range(LOOKUPS_OF_EACH):
            outcomes.update(threads.map(look_up, processes))
    assert outcomes == {"MATCH": PROCESSES // 2 + 2 * PROCESSES * LOOKUPS_OF_EACH}
    assert gamma.refused > PROCESSES, "tokens did end each other"
