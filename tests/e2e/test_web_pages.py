"""No web page gets anything from the servers on this machine, and nothing of what it asks for is done.

Requests are sent as browsers send them: a script's, a form's, an image's, and those of a page whose name has
been pointed at 127.0.0.1. Programs, which send none of these headers, are served as before.
"""

import base64
import http.client
import io
import json
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

import psutil
import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from local import processes
from local.companies import Companies
from local.emulator.ministack import REGION
from local.emulator.stack import Stack
from local.ivr import Ivr
from local.system import System

CROSS_SITE = {"Origin": "https://page.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
# What a browser adds to a page's request, without and with the page's name in place of ours.
FROM_PAGES: dict[str, Mapping[str, str]] = {
    "fetch": CROSS_SITE,
    "a sandboxed frame": {**CROSS_SITE, "Origin": "null"},
    "an older browser's fetch": {"Origin": "https://page.example"},
    "an image": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"},
    "a page of another local server": {"Sec-Fetch-Site": "same-site"},
    "a rebound name": {"Host": "page.example", "Sec-Fetch-Site": "same-origin"},
    "a rebound name in an older browser": {"Host": "page.example:4566"},
    "a rebound name below one of ours": {"Host": "127.0.0.1.page.example"},
    "the address of every interface": {"Host": "0.0.0.0:4566", "Sec-Fetch-Site": "none"},
}
every_page = pytest.mark.parametrize("headers", FROM_PAGES.values(), ids=list(FROM_PAGES))


def send(
    url: str, method: str = "GET", body: bytes | str = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """One request with exactly these headers; Host is the URL's unless it is given."""
    parts = urlsplit(url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        query = f"?{parts.query}" if parts.query else ""
        connection.request(method, f"{parts.path or '/'}{query}", body or None, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def emulator(system: System | None) -> str:
    if system is None:
        pytest.skip("a stack in an AWS account runs on no server of this machine")
    return system.emulator.endpoint


@pytest.fixture(scope="module")
def web_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The web service that the demo compares with."""
    port = processes.free_port()
    log = tmp_path_factory.mktemp("web-service") / "log"
    command = [sys.executable, "-m", "local.demo.comparison.web_service", f"--port={port}"]
    with processes.running(command, log=log, env=processes.python_environment()) as process:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return send(url)[0] == HTTPStatus.OK
            except OSError:
                return False

        processes.wait_until_ready(process, answers, log=log, deadline_seconds=20)
        yield url


def create_function(emulator: str, name: str, role: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """What a page can send without asking first: any text, signed in its URL by a key that all know."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("index.py", "def handler(event, context): return 'run'")
    creation = {
        "FunctionName": name,
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Role": role,
        "Code": {"ZipFile": base64.b64encode(archive.getvalue()).decode()},
    }
    body = json.dumps(creation)
    request = AWSRequest("POST", f"{emulator}/2015-03-31/functions", data=body)
    SigV4QueryAuth(Credentials("test", "test"), "lambda", REGION).add_auth(request)
    return send(str(request.url), "POST", body, {"Content-Type": "text/plain", **headers})


@every_page
def test_no_page_creates_a_function(headers: Mapping[str, str], emulator: str, stack: Stack) -> None:
    """It would run as the developer, whatever it does."""
    name = f"page-{uuid.uuid4()}"
    functions = stack.session.client("lambda", endpoint_url=stack.endpoint)
    role = functions.list_functions()["Functions"][0]["Role"]
    status, answer = create_function(emulator, name, role, headers)
    assert status == HTTPStatus.FORBIDDEN
    assert json.loads(answer)["error"]["code"] == "FORBIDDEN"
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        functions.get_function(FunctionName=name)
    # But for the headers, it works.
    assert create_function(emulator, name, role, {})[0] == HTTPStatus.CREATED
    functions.delete_function(FunctionName=name)


@every_page
def test_no_page_creates_a_bucket(headers: Mapping[str, str], emulator: str, stack: Stack) -> None:
    name = f"page-{uuid.uuid4()}"
    assert send(f"{emulator}/{name}", "PUT", headers=headers)[0] == HTTPStatus.FORBIDDEN
    buckets = stack.session.client("s3", endpoint_url=emulator).list_buckets()["Buckets"]
    assert name not in {bucket["Name"] for bucket in buckets}


@every_page
def test_no_page_starts_an_identification(
    headers: Mapping[str, str], emulator: str, stack: Stack, ivr: Ivr
) -> None:
    """Not even with the API key."""
    assert emulator in stack.api_url
    conversation_id = str(uuid.uuid4())
    body = json.dumps({"conversationId": conversation_id, "callerNumber": "+33639981501"})
    given = {"x-api-key": stack.api_key, "Content-Type": "application/json", **headers}
    assert send(f"{stack.api_url}/conversations", "POST", body, given)[0] == HTTPStatus.FORBIDDEN
    assert ivr.read(conversation_id).status == HTTPStatus.NOT_FOUND


@every_page
def test_no_page_reads_anything(
    headers: Mapping[str, str], emulator: str, companies: Companies, web_service: str
) -> None:
    for url in (
        f"{emulator}/_ministack/health",
        f"{emulator}/?Action=GetCallerIdentity&Version=2011-06-15",
        f"{companies.url}/_control/requests",
        f"{companies.url}/nothing-is-here",
        web_service,
    ):
        assert send(url, headers=headers)[0] == HTTPStatus.FORBIDDEN
        assert send(url, "OPTIONS", headers=headers)[0] == HTTPStatus.FORBIDDEN


@every_page
def test_no_page_changes_the_companies(
    headers: Mapping[str, str], companies: Companies, web_service: str
) -> None:
    number = "+33639981502"
    body = json.dumps({"alpha": {number: {"customer_id": "A-1", "first_name": "A", "last_name": "B"}}})
    status, _ = send(f"{companies.url}/_control/customers", "PATCH", body, headers)
    assert status == HTTPStatus.FORBIDDEN
    note = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "text/plain", **headers}
    assert send(f"{companies.url}/crm/notes", "POST", "{}", note)[0] == HTTPStatus.FORBIDDEN
    asking = {"callerNumber": number, "companies": []}
    assert send(web_service, "POST", json.dumps(asking), headers)[0] == HTTPStatus.FORBIDDEN
    known = send(
        f"{companies.url}/alpha/customers?phone=%2B33639981502", headers={"X-Api-Key": "alpha-demo-key"}
    )
    assert known == (HTTPStatus.OK, b"[]")


@every_page
def test_no_page_gets_a_web_socket(headers: Mapping[str, str], emulator: str) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    assert (
        send(f"{emulator}/_aws/execute-api/a1b2c3d4/v1", headers={**upgrade, **headers})[0]
        == HTTPStatus.FORBIDDEN
    )


def test_programs_are_served(emulator: str, companies: Companies, web_service: str, stack: Stack) -> None:
    for url in (f"{emulator}/_ministack/health", f"{companies.url}/_control/requests", web_service):
        curl = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", url]
        finished = subprocess.run(curl, check=True, capture_output=True, text=True)  # noqa: S603
        assert finished.stdout == "200"
        port = urlsplit(url).port
        for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}", "127.0.0.1"):
            assert send(url, headers={"Host": host})[0] == HTTPStatus.OK
        assert send(url, headers={"Sec-Fetch-Site": "none"})[0] == HTTPStatus.OK  # typed by the user
    identity = stack.session.client("sts", endpoint_url=emulator).get_caller_identity()
    assert identity["Account"]


def test_the_api_is_served_under_its_own_name(emulator: str, stack: Stack) -> None:
    """The Host that the emulator knows APIs by, for clients that set it or resolve *.localhost."""
    api_id = str(urlsplit(stack.outputs["ApiUrl"]).hostname).partition(".")[0]
    host = f"{api_id}.execute-api.localhost:{urlsplit(emulator).port}"
    body = json.dumps({"conversationId": str(uuid.uuid4()), "callerNumber": "anonymous"})
    given = {"Host": host, "x-api-key": stack.api_key, "Content-Type": "application/json"}
    assert send(f"{emulator}/v1/conversations", "POST", body, given)[0] == HTTPStatus.ACCEPTED
    assert (
        send(f"{emulator}/v1/conversations", "POST", body, {**given, **CROSS_SITE})[0] == HTTPStatus.FORBIDDEN
    )


def test_nothing_listens_beyond_the_loopback_interface(emulator: str, companies: Companies) -> None:
    addresses = {
        connection.laddr.ip
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}
    assert {urlsplit(url).hostname for url in (emulator, companies.url)} == {"127.0.0.1"}
