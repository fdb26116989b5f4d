"""An endpoint that notes who asks for what and where: for commands that find account and region themselves.

    with recorded_aws({"meanwhile": {"ConversationTableName": "Conversations"}}) as aws:
        subprocess.run([...], env={"AWS_ENDPOINT_URL": aws.url, ...})
    aws.calls[0]   # Call("cloudformation", "DescribeStacks", "eu-west-1", "AKIASHELL", {"StackName": …})

It knows stacks by their outputs, takes whatever is stored, and refuses whatever would change a stack: a
deployment ends there. Every template has the parameter `Company` for it.
"""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

# The stack in which SAM CLI keeps its bucket.
SAMS_OWN = "aws-sam-cli-managed-default"

_SUMMARY = (
    "<GetTemplateSummaryResponse><GetTemplateSummaryResult><Parameters>"
    "<member><ParameterKey>Company</ParameterKey></member>"
    "</Parameters></GetTemplateSummaryResult></GetTemplateSummaryResponse>"
)


@dataclass(frozen=True)
class Call:
    """One request: where it was sent, whose key signed it, and what it asks for."""

    service: str
    action: str
    region: str
    key: str
    parameters: Mapping[str, str]


@dataclass
class RecordedAws:
    """Where it listens, the outputs of the stacks that there are, and what it was asked."""

    url: str
    stacks: dict[str, Mapping[str, str]]
    status: str = "UPDATE_COMPLETE"
    refuses: str = ""
    calls: list[Call] = field(default_factory=list)

    def answer(self, call: Call) -> tuple[int, str]:
        """The status and the body for a call."""
        if self.refuses:
            return 400, _error(self.refuses, "it is refused")
        match call.service, call.action:
            case "s3", method:
                return 404 if method == "HEAD" else 200, ""
            case "dynamodb", _:
                return 200, json.dumps({"Items": [], "Count": 0, "ScannedCount": 0})
            case _, "GetTemplateSummary":
                return 200, _SUMMARY
            case _, "DescribeStacks":
                return self._described(call.parameters["StackName"])
            case _:
                return 400, _error("AccessDenied", "nothing is changed here")

    def _described(self, name: str) -> tuple[int, str]:
        if name not in self.stacks:
            return 400, _error("ValidationError", f"Stack with id {name} does not exist")
        return 200, _described(name, self.status, self.stacks[name])


@contextmanager
def recorded_aws(stacks: Mapping[str, Mapping[str, str]]) -> Iterator[RecordedAws]:
    """Listen on a free port of the loopback interface for the length of a `with` block."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            signed = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", self.headers["Authorization"])
            assert signed is not None
            key, region, service = signed.groups()
            parameters = dict(parse_qsl(body)) if service == "cloudformation" else {}
            target = self.headers.get("X-Amz-Target") or self.command
            action = parameters.get("Action") or target.rpartition(".")[2]
            call = Call(service, action, region, key, parameters)
            aws.calls.append(call)
            status, text = aws.answer(call)
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else text.encode())

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 - http.server's names

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        sams_own = {"SourceBucket": "sams-own-bucket"}
        aws = RecordedAws(f"http://127.0.0.1:{server.server_address[1]}", {SAMS_OWN: sams_own, **stacks})
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield aws
        finally:
            server.shutdown()


def _error(code: str, message: str) -> str:
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<ErrorResponse>{error}</ErrorResponse>"


def _described(name: str, status: str, outputs: Mapping[str, str]) -> str:
    members = "".join(
        f"<member><OutputKey>{escape(key)}</OutputKey><OutputValue>{escape(value)}</OutputValue></member>"
        for key, value in outputs.items()
    )
    return (
        "<DescribeStacksResponse><DescribeStacksResult><Stacks><member>"
        f"<StackName>{escape(name)}</StackName><StackStatus>{status}</StackStatus>"
        "<CreationTime>2026-11-26T00:00:00Z</CreationTime>"
        "<Tags><member><Key>ManagedStackSource</Key><Value>AwsSamCli</Value></member></Tags>"
        f"<Outputs>{members}</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
    )
