"""Start the demo companies, tell them what to know and how to behave, and ask what they were asked."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import TypeAdapter

from local import processes
from local.companies.model import (
    Behaviour,
    Behaviours,
    Credentials,
    Customer,
    Happening,
    Requests,
    Service,
    Source,
)

_CUSTOMERS = TypeAdapter(dict[Source, Mapping[str, Customer]])
_BEHAVIOURS = TypeAdapter(dict[Source, Behaviours])
_ACCEPTED = TypeAdapter(dict[Service, list[Credentials]])


@dataclass(frozen=True)
class Companies:
    """The three companies, running at `url`.

        companies.know("gamma", {"+33639980001": Customer(...)})
        companies.behave("alpha", Behaviour(latency=3))
        companies.requests().lookups["gamma"]["+33639980001"]   # 1

    What is said about one number leaves the others alone, so many conversations can go on at once.
    """

    url: str
    client: httpx.Client

    def base_url(self, source: Source) -> str:
        return f"{self.url}/{source}"

    @property
    def crm_url(self) -> str:
        return f"{self.url}/crm"

    def know(self, source: Source, customers: Mapping[str, Customer]) -> None:
        """Add customers, by E.164 number."""
        self._send("PATCH", "customers", _CUSTOMERS.dump_json({source: customers}))

    def behave(
        self,
        source: Source,
        usual: Behaviour | None = None,
        by_number: Mapping[str, Behaviour] | None = None,
    ) -> None:
        """Set how a company usually behaves, or how it does for certain numbers, or both."""
        behaviours = Behaviours(usual=usual, by_number=dict(by_number or {}))
        self._send("PATCH", "behaviours", _BEHAVIOURS.dump_json({source: behaviours}))

    def accept(self, service: Service, *credentials: Credentials) -> None:
        """Set whose requests a company takes: two at once while one replaces the other."""
        self._send("PATCH", "credentials", _ACCEPTED.dump_json({service: list(credentials)}))

    def requests(self) -> Requests:
        """How often each company was asked since the last `forget`."""
        return Requests.model_validate_json(self._send("GET", "requests").content)

    def kill_tokens(self) -> None:
        """Make gamma refuse every token it has issued."""
        self._send("DELETE", "tokens")

    def forget(self) -> None:
        """Forget all customers, behaviours, other credentials and counts; tokens stay good."""
        self._send("DELETE", "")

    def happenings(self) -> Iterator[Happening]:
        """What happens at the companies from now on, as it happens, until the companies end."""
        until_they_end = httpx.Timeout(5, read=None)
        with httpx.stream("GET", f"{self.url}/_control/happenings", timeout=until_they_end) as response:
            for line in response.iter_lines():
                yield Happening(*json.loads(line))

    def _send(self, method: str, what: str, content: bytes = b"") -> httpx.Response:
        url = f"{self.url}/_control/{what}".rstrip("/")
        return self.client.request(method, url, content=content).raise_for_status()


@contextmanager
def running(directory: Path, *, token_lifetime: float = 300) -> Iterator[Companies]:
    """The companies on a free port for the length of a `with` block; their log goes to `directory`.

    Gamma's tokens live for `token_lifetime` seconds. Raises `StartError` after 20 seconds.
    """
    port = processes.free_port()
    log = directory / "companies.log"
    command = [
        sys.executable,
        "-m",
        "local.companies.server",
        f"--port={port}",
        f"--token-lifetime={token_lifetime}",
    ]
    with (
        httpx.Client() as client,
        processes.running(command, log=log, env=processes.python_environment()) as process,
    ):
        companies = Companies(f"http://127.0.0.1:{port}", client)
        processes.wait_until_ready(process, lambda: _answer(companies), log=log, deadline_seconds=20)
        yield companies


def _answer(companies: Companies) -> bool:
    try:
        companies.requests()
    except httpx.TransportError:
        return False
    return True
