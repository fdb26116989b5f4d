"""A deployed stack whose lookups ask the demo companies of `local/companies` over HTTP."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import boto3

from conversation import http_client, timestamps
from local.companies import CREDENTIALS, SOURCES, Companies, Credentials, Service
from tests.support.cloud import Cloud, deployed, lookup_function


@contextmanager
def deployed_with(
    companies: Companies,
    parameters: Mapping[str, str] | None = None,
    *,
    credentials: Mapping[Service, Credentials] | None = None,
) -> Iterator[Cloud]:
    """Deploy for the length of a `with` block, the secrets filled with what the companies accept."""
    urls = {f"{source.capitalize()}Url": companies.base_url(source) for source in SOURCES}
    urls["CrmUrl"] = companies.crm_url
    with deployed({**urls, **(parameters or {})}) as cloud:
        for service, content in {**CREDENTIALS, **(credentials or {})}.items():
            fill(service, content)
        yield cloud


def fill(service: Service, content: Credentials) -> None:
    """Give a secret another value, as the operator does."""
    boto3.client("secretsmanager").put_secret_value(
        SecretId=f"{service.capitalize()}Secret", SecretString=json.dumps(content)
    )


def close_connections() -> None:
    """End the connections that lookups keep, which would outlive the companies otherwise."""

    async def close() -> None:
        http_client._pool().close()
        await asyncio.sleep(0)  # in which they are closed

    http_client.run_within(5, close())


def ask(cloud: Cloud, source: str, number: str, *, seconds: float = 5) -> dict[str, Any]:
    """Run a lookup function with a budget of so many seconds; what it raises comes through."""
    deadline = timestamps.now() + timedelta(seconds=seconds + 1)
    answer: dict[str, Any] = cloud.invoke(
        lookup_function(source),
        {"conversationId": "6c5c", "callerNumber": number, "deadlineAt": timestamps.to_text(deadline)},
    )
    return answer
