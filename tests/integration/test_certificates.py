"""What clients of AWS trust is read once, and is what they trust each time."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, SSLError

from conversation import aws, certificates
from tests.support.keeping_server import Asked, Fate, KeepingServer, certified, keeping_server
from tests.support.raw_server import http

KEY = {"conversationId": {"S": "6c5c"}}
ONCE = Config(retries={"total_max_attempts": 1})


@pytest.fixture(autouse=True)
def _nothing_read_before() -> Iterator[None]:
    certificates._shared.cache_clear()
    yield
    certificates._shared.cache_clear()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read."""
    files: list[str] = []
    load = ssl.SSLContext.load_verify_locations

    def note(context: ssl.SSLContext, cafile: Any = None, *more: Any) -> None:
        files.append(str(cafile))
        load(context, cafile, *more)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", note)
    return files


@contextmanager
def trusted_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, closing: bool = False
) -> Iterator[tuple[KeepingServer, Path]]:
    """Stands for AWS; what it says is trusted."""
    folder.mkdir()
    context, certificate = certified(folder)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))

    def script(asked: Asked) -> bytes | Fate:
        return Fate.CLOSED if closing and asked.number > 0 else http(b'{"Item": {}, "MessageId": "1"}')

    with keeping_server(script, context) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server, certificate


def get(client: Any) -> None:
    client.get_item(TableName="T", Key=KEY)


def test_a_file_is_read_once_for_all_clients_and_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    with trusted_server(tmp_path / "a", monkeypatch, closing=True) as (server, certificate):
        clients = [aws.make_client("dynamodb") for _ in range(2)]
        for _ in range(3):
            for client in clients:
                get(client)
        aws.make_client("sqs").send_message(QueueUrl="https://sqs.example/1/q", MessageBody="{}")
    assert len({one.connection for one in server.asked}) > 4
    assert read == [str(certificate)]


def test_another_file_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]) -> None:
    files = []
    for name in ("a", "b"):
        with trusted_server(tmp_path / name, monkeypatch) as (_, certificate):
            get(aws.make_client("dynamodb"))
            files.append(str(certificate))
    assert read == files


@pytest.mark.parametrize("first", ["nobody", "somebody"])
def test_who_is_not_trusted_is_not_asked_whoever_was_before(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b").mkdir()
    stranger, _ = certified(tmp_path / "b")
    with (
        trusted_server(tmp_path / "a", monkeypatch),
        keeping_server(lambda _: http(b'{"Item": {}}'), stranger) as server,
    ):
        if first == "somebody":
            get(aws.make_client("dynamodb"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            get(aws.make_client("dynamodb", ONCE))
    assert server.asked == []


def test_a_certificate_of_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for 127.0.0.1."""
    with trusted_server(tmp_path / "a", monkeypatch) as (server, _):
        get(aws.make_client("dynamodb"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url.replace("127.0.0.1", "127.1"))
        with pytest.raises(BotoCoreError, match=r"127\.1"):
            get(aws.make_client("dynamodb", ONCE))
    assert len(server.asked) == 1


def test_clients_of_others_have_a_context_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    make: Callable[..., Any] = botocore.session.get_session().create_client
    with trusted_server(tmp_path / "a", monkeypatch) as (_, certificate):
        get(aws.make_client("dynamodb"))
        get(make("dynamodb"))
    assert read == [str(certificate)] * 2
