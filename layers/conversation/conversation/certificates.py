"""Trusted certificates, read once for all clients of AWS.

For each new connection urllib3 reads the file of trusted certificates anew (urllib3/urllib3#3623), which with
OpenSSL 3 takes 20 to 70 ms of a core (python/cpython#95031, aws/aws-lambda-base-images#154): up to half a
second at 256 MB, of every call after a quiet minute. What one connection trusts, the next one does too,
whichever client it is of: they share a context, which remembers what it has read.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from botocore import httpsession

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Remembering(ssl.SSLContext):
    """Reads no file of certificates twice."""

    def __init__(self, protocol: int) -> None:
        del protocol  # which __new__ has taken
        self._has_read: set[tuple[Any, ...]] = set()

    def load_verify_locations(self, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        if (cafile, capath, cadata) not in self._has_read:
            super().load_verify_locations(cafile, capath, cadata)
            self._has_read.add((cafile, capath, cadata))


@cache
def _shared(bundle: str | None, protocol: int) -> _Remembering:
    del bundle  # who trusts another file has another context
    return _Remembering(protocol)


@contextmanager
def read_once(bundle: str | None) -> Iterator[None]:
    """Have clients made within the `with` block share what they trust: a file, None for the SDK's own.

        with read_once(session.get_config_variable("ca_bundle")):
            session.create_client("dynamodb")

    To be used by one thread at a time. Whether and how they verify is botocore's and urllib3's own decision.
    """
    own = httpsession.SSLContext  # type: ignore[attr-defined]
    httpsession.SSLContext = partial(_shared, bundle)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        httpsession.SSLContext = own  # type: ignore[attr-defined]
