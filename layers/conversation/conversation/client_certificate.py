"""The certificate that a company or the CRM wants from whoever asks it (mutual TLS), from its secret.

    {"apiKey": "…", "clientCertificate": "-----BEGIN CERTIFICATE-----…", "clientKey": "-----BEGIN PRIVATE…"}

Imported only where a secret has one of these fields.
"""

from __future__ import annotations

import re
import ssl
import tempfile
from base64 import b64decode
from datetime import UTC, datetime
from functools import lru_cache
from textwrap import fill
from typing import TYPE_CHECKING

from conversation import timestamps
from conversation.connections import trusting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CERTIFICATE, KEY, AUTHORITIES = "clientCertificate", "clientKey", "caCertificate"
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
# What becomes of line ends on the way: a form in a browser makes spaces of them, and JSON that is escaped
# twice a backslash and a letter.
_LINE_ENDS = re.compile(r"\\[rn]|\s")
_LINE_LENGTH = 64
_VERSION, _GENERALIZED_TIME = 0xA0, 0x18  # tags of DER
_LONG = 0x80  # a length of more than 127: so many bytes of length follow


class Unusable(Exception):
    """A field of the secret does not do. The message begins with its name and holds nothing of its value."""


def context_of(fields: Mapping[str, object]) -> ssl.SSLContext:
    """Make the TLS settings of connections to a company or the CRM; the same ones for the same fields.

        context_of({"clientCertificate": "-----BEGIN CERTIFICATE-----…", "clientKey": "…"})

    The certificate's own comes first, those of intermediate authorities after it. With `caCertificate` the
    company's server must have a certificate of one of these authorities, else of one that the runtime trusts.
    Raises Unusable.
    """
    chain = _blocks(fields, CERTIFICATE, "CERTIFICATE")
    key = _blocks(fields, KEY, "PRIVATE KEY")
    authorities = _blocks(fields, AUTHORITIES, "CERTIFICATE")
    if bool(chain) != bool(key):
        raise Unusable(f"{KEY if chain else CERTIFICATE} is missing: the one is nothing without the other")
    if chain:
        begin, end = validity(fields)
        if not begin <= timestamps.now() <= end:
            raise Unusable(
                f"{CERTIFICATE} {'is not valid yet' if timestamps.now() < begin else 'has expired'}"
            )
    return _context(chain, key, authorities)


def validity(fields: Mapping[str, object]) -> tuple[datetime, datetime]:
    """Read from when and until when the client's own certificate is valid. Raises Unusable."""
    try:
        first = next(body for label, body in _found(fields, CERTIFICATE) if label.endswith("CERTIFICATE"))
        return _validity(b64decode(first))
    except (StopIteration, ValueError, IndexError):
        raise Unusable(f"{CERTIFICATE} is no certificate") from None


@lru_cache(maxsize=2)  # the current one and the one before it
def _context(chain: str, key: str, authorities: str) -> ssl.SSLContext:
    try:
        context = trusting(authorities or None)
    except ssl.SSLError:
        raise Unusable(f"{AUTHORITIES} is no certificate") from None
    if authorities:
        # Many private authorities leave out what RFC 5280 asks for, such as key identifiers, and nobody but
        # Python 3.13 minds (python/cpython#107361). Name, time and signature are verified all the same.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if chain:
        _load(context, chain, key)
        context.post_handshake_auth = True  # of servers that want a certificate for some paths alone
    return context


def _load(context: ssl.SSLContext, chain: str, key: str) -> None:
    """Let connections present the certificate. Python takes it from a file alone (python/cpython#60691)."""
    with tempfile.NamedTemporaryFile(
        "w", suffix=".pem", delete_on_close=False
    ) as file:  # for its owner alone
        file.write(key + chain)
        file.close()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                what = f"is not that of {CERTIFICATE}, of which the client's own must come first"
                raise Unusable(f"{KEY} {what}") from None
            raise Unusable(f"{CERTIFICATE} or {KEY} is not accepted ({error.reason})") from None


def _blocks(fields: Mapping[str, object], field: str, kind: str) -> str:
    """Write the field's certificates or its key as OpenSSL reads them; empty when there is no such field."""
    if field not in fields:
        return ""
    found = [(label, body) for label, body in _found(fields, field) if label.endswith(kind)]
    # A colon is of the header of an older format.
    if any("ENCRYPTED" in label or ":" in body for label, body in found):
        raise Unusable(f"{field} is encrypted: it has to be stored without a passphrase")
    if not found or (kind == "PRIVATE KEY" and len(found) > 1):
        raise Unusable(f"{field} has not {'a' if kind == 'CERTIFICATE' else 'one'} {kind} in PEM")
    return "".join(
        f"-----BEGIN {label}-----\n{fill(body, _LINE_LENGTH)}\n-----END {label}-----\n"
        for label, body in found
    )


def _found(fields: Mapping[str, object], field: str) -> Iterator[tuple[str, str]]:
    text = fields[field]
    if not isinstance(text, str):
        raise Unusable(f"{field} is not a string")
    for label, body in _BLOCK.findall(text):
        yield label, _LINE_ENDS.sub("", body)


# --- the times in a certificate, which Python tells of a connection's other end alone ----------------------


def _validity(der: bytes) -> tuple[datetime, datetime]:
    """Read a certificate (RFC 5280, 4.1) as far as that. Raises ValueError or IndexError when it is none."""
    _, certificate, _ = _element(der)
    _, rest, _ = _element(certificate)
    if rest[0] == _VERSION:
        rest = _element(rest)[2]
    for _ in ("serial number", "signature", "issuer"):
        rest = _element(rest)[2]
    _, times, _ = _element(rest)
    kind, begin, rest = _element(times)
    return _time(kind, begin), _time(*_element(rest)[:2])


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Take the first element: its tag, its content, and what follows it."""
    length, start = der[1], 2
    if length >= _LONG:
        start += length - _LONG
        length = int.from_bytes(der[2:start])
    if len(der) < start + length:
        raise ValueError("cut off")
    return der[0], der[start : start + length], der[start + length :]


def _time(kind: int, content: bytes) -> datetime:
    text = content.decode("ascii").removesuffix("Z")
    if kind != _GENERALIZED_TIME:  # two digits of the year: from 1950 to 2049
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
