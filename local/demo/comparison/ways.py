"""Four ways for an IVR to learn who is calling, each really run, and what the caller hears meanwhile.

While the IVR waits for an answer the caller hears nothing. While it asks a question the caller does not wait.
"""

import io
import json
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Literal, NamedTuple

import httpx
from botocore.config import Config

from local import ivr, processes
from local.companies import CREDENTIALS, SOURCES
from local.demo.comparison import function, lookups
from local.demo.comparison.lookups import Company
from local.emulator.stack import Stack
from local.ivr import Ivr
from local.system import System

QUESTION_SECONDS = 2.0
_FUNCTION_NAME = "wait-for-all"


class Span(NamedTuple):
    """What the caller heard for some seconds."""

    what: Literal["silence", "voice"]
    seconds: float


@dataclass
class Call:
    """What the caller heard, in order, until the IVR knew who was calling."""

    heard: list[Span] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(span.seconds for span in self.heard)

    @property
    def silent_seconds(self) -> float:
        return sum(span.seconds for span in self.heard if span.what == "silence")

    @contextmanager
    def hears(self, what: Literal["silence", "voice"]) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.heard.append(Span(what, time.monotonic() - started))


class Way(NamedTuple):
    """One way of doing it: its name, and how an IVR that does it so takes a call from an E.164 number."""

    name: str
    take_call: Callable[[str], Call]


@contextmanager
def four_ways(system: System, directory: Path) -> Iterator[list[Way]]:
    """The four ways, ready to take calls against the same companies, for the length of a `with` block."""
    companies = [
        Company(source, system.companies.base_url(source), CREDENTIALS[source]) for source in SOURCES
    ]
    with ExitStack() as ends:
        invoke = _waiting_function(system.stack, companies)
        post = ends.enter_context(_waiting_web_service(directory, companies))
        conversations = ends.enter_context(ivr.calling(system.stack))
        yield [
            Way("three calls, one after another", lambda number: _one_after_another(companies, number)),
            Way("one function that waits for all", lambda number: _one_request(invoke, number)),
            Way("one web service that waits for all", lambda number: _one_request(post, number)),
            Way("Meanwhile", lambda number: _meanwhile(conversations, number)),
        ]


def _one_after_another(companies: list[Company], number: str) -> Call:
    call = Call()
    with call.hears("silence"):
        for company in companies:
            if lookups.ask(company, number) is not None:
                break
    return call


def _one_request(identify: Callable[[str], object], number: str) -> Call:
    call = Call()
    with call.hears("silence"):
        identify(number)
    return call


def _meanwhile(conversations: Ivr, number: str) -> Call:
    call = Call()
    conversation_id = f"comparison-{uuid.uuid4()}"
    with call.hears("silence"):
        status = conversations.start(conversation_id, number).document["status"]
    while status == "ONGOING":
        with call.hears("voice"):
            time.sleep(QUESTION_SECONDS)
        with call.hears("silence"):
            status = conversations.read(conversation_id).document["status"]
    return call


def _request(companies: list[Company], number: str) -> bytes:
    return json.dumps({"callerNumber": number, "companies": [asdict(c) for c in companies]}).encode()


def _waiting_function(stack: Stack, companies: list[Company]) -> Callable[[str], object]:
    role = stack.session.client("iam", endpoint_url=stack.endpoint).create_role(
        RoleName=_FUNCTION_NAME,
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []}),
    )
    functions = stack.session.client(
        "lambda", endpoint_url=stack.endpoint, config=Config(retries={"total_max_attempts": 1})
    )
    functions.create_function(
        FunctionName=_FUNCTION_NAME,
        Runtime="python3.13",
        Handler=f"{function.__name__}.lambda_handler",
        Role=role["Role"]["Arn"],
        Timeout=15,
        MemorySize=512,
        Code={"ZipFile": _zipped(function.__file__, lookups.__file__)},
    )

    def invoke(number: str) -> object:
        answer = functions.invoke(FunctionName=_FUNCTION_NAME, Payload=_request(companies, number))
        if answer.get("FunctionError"):
            raise RuntimeError(f"{_FUNCTION_NAME} failed: {answer['Payload'].read().decode()}")
        return json.load(answer["Payload"])

    return invoke


def _zipped(*modules: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for module in modules:
            target.write(module, Path(module).relative_to(processes.REPOSITORY))
    return archive.getvalue()


@contextmanager
def _waiting_web_service(directory: Path, companies: list[Company]) -> Iterator[Callable[[str], object]]:
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}/"
    log = directory / "web-service.log"
    command = [sys.executable, "-m", "local.demo.comparison.web_service", f"--port={port}"]
    with (
        httpx.Client(timeout=15) as client,
        processes.running(command, log=log, env=processes.python_environment()) as process,
    ):

        def answers() -> bool:
            try:
                return client.get(url).status_code == HTTPStatus.OK
            except httpx.TransportError:
                return False

        def post(number: str) -> object:
            return client.post(url, content=_request(companies, number)).raise_for_status().json()

        processes.wait_until_ready(process, answers, log=log, deadline_seconds=20)
        yield post
