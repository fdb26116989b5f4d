"""Addresses as SIP and its neighbours write them: what of them says who calls, and what the caller may write.

    "Jean <+12025550199>" <sip:+12025550143;verstat=TN-Validation-Passed@carrier.example>;tag=1
    └── display name: never ──┘ └── user ──┘ └── its parameters ──┘ └── host ──┘

RFC 3261 (name-addr, SIP URIs) and RFC 3966 (tel URIs), as far as a caller's number needs them. The libraries
that parse whole SIP messages bring a stack with them that a cold start would pay for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

# What chat channels put before a number; other schemes, such as client:, name accounts.
_CHANNELS = ("whatsapp", "sms", "mms", "rcs")
_SCHEME = re.compile(rf"(?P<scheme>sips?|tel|{'|'.join(_CHANNELS)}):(//)?", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# A header may hold several values; the next one begins with a name in quotes, a bracket or a scheme.
_NEXT_VALUE = re.compile(r'\s*(?:["<]|(?:sips?|tel):)', re.IGNORECASE)

# A parameter may hold several in quotes; they are the caller's device's own words.
_QUOTED_PARAMETER = re.compile(r'"[^"]*[;,<>\\][^"]*"?')


@dataclass(frozen=True, slots=True)
class Address:
    """One address without its display name.

    user: the number or account, decoded; None when there is only a host. host: without port. context: of a
    local number, the `phone-context` that says of which country it is, or empty. verstat: what the carrier's
    verification of the number says, as it stands, one entry for each place where it stands.
    """

    user: str | None
    host: str
    is_sip: bool
    context: str = ""
    verstat: tuple[str, ...] = ()


def parse_addresses(text: str) -> Iterator[Address]:
    """Take the addresses out of a header's values, a URI or a bare number, in their order.

        parse_addresses('"Jean" <sip:+33612345678@carrier.example>')   # Address("+33612345678", …)
        parse_addresses("+33612345678;verstat=TN-Validation-Passed")   # Address("+33612345678", …)

    Ends at what is none of these: after a quote or bracket that is never closed, for example, the caller's
    own words could pass for an address.
    """
    rest: str | None = text.strip()
    while rest:
        named = _SCHEME.match(rest) is None and (rest.startswith('"') or "<" in rest)
        address, rest = _parse_name_addr(rest) if named else _parse_addr_spec(rest)
        if address is None:
            return
        yield address


def _parse_addr_spec(text: str) -> tuple[Address | None, str | None]:
    """One address without a name, and the values after it."""
    first, rest = text, None
    for comma in re.finditer(",", text):
        if _NEXT_VALUE.match(text, comma.end()):
            first, rest = text[: comma.start()], text[comma.end() :].strip()
            break
    return (None if re.search(r'["<>]', first) else _parse_uri(first)), rest


def _parse_name_addr(text: str) -> tuple[Address | None, str | None]:
    """One address in brackets, and the values after it."""
    opening = _outside_quotes(text)
    if opening is None:
        return None, None
    uri, closing, after = text[opening + 1 :].partition(">")
    # Cut off, an address still counts whose number has ended before.
    complete = after.lstrip()[:1] in {"", ";", ","} if closing else re.search("[@;]", uri) is not None
    if not complete or "<" in uri or '"' in uri:
        return None, None
    address = _parse_uri(uri)
    if address is None:
        return None, None
    # Of the header's own parameters, up to the next value.
    parameters, _, rest = _QUOTED_PARAMETER.sub("", after).partition(",")
    if re.search("[<>]", parameters):
        return None, None
    verstat = _parameters(parameters.split(";")[1:]).get("verstat", ())
    return replace(address, verstat=(*address.verstat, *verstat)), rest.strip()


def _outside_quotes(text: str) -> int | None:
    """Where the first bracket outside quoted strings opens, if one does."""
    quoted = escaped = False
    for place, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "<" and not quoted:
            return place
    return None


def _parse_uri(text: str) -> Address | None:
    text = text.strip()
    found = _SCHEME.match(text)
    scheme = found["scheme"].casefold() if found else ""
    rest = text[found.end() :] if found else text
    if not scheme and _OTHER_SCHEME.match(text):
        return None
    if scheme.startswith("sip") or "@" in rest:
        return _parse_sip(rest)
    number, *parameters = rest.split(";")
    if scheme == "whatsapp" and re.fullmatch(r"\d+", number):
        number = f"+{number}"  # such an id is E.164 without its plus sign
    if scheme in _CHANNELS and not unquote(number).strip().startswith("+"):
        return None
    return _address(number, _parameters(parameters), host="", is_sip=False)


def _parse_sip(rest: str) -> Address | None:
    userinfo, at, hostpart = rest.partition("@") if "@" in rest else ("", "", rest)
    hostpart = hostpart.partition("?")[0]
    if "@" in hostpart:
        return None
    if not at and rest.startswith("+"):
        userinfo, at, hostpart = hostpart, "@", ""  # no host begins so
    hostport, *uri_parameters = _QUOTED_PARAMETER.sub("", hostpart).split(";")
    host = _without_port(hostport.strip())
    parameters = _parameters(uri_parameters)
    if not at:
        return Address(None, host, is_sip=True, verstat=parameters.get("verstat", ()))
    user, *user_parameters = userinfo.partition(":")[0].split(";")
    address = _address(user, _parameters(user_parameters), host=host, is_sip=True)
    return replace(address, verstat=(*address.verstat, *parameters.get("verstat", ())))


def _address(number: str, parameters: dict[str, tuple[str, ...]], *, host: str, is_sip: bool) -> Address:
    user = unquote(number).partition(";")[0].strip()
    context = next((one for one in parameters.get("phone-context", ()) if one.startswith("+")), "")
    return Address(user, host, is_sip, context, parameters.get("verstat", ()))


def _parameters(texts: list[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, value = unquote(text).partition("=")
        key = name.strip().casefold()
        found[key] = (*found.get(key, ()), value.strip().strip('"'))
    return found


def _without_port(hostport: str) -> str:
    if hostport.startswith("["):
        return hostport.partition("]")[0].removeprefix("[")
    return hostport.partition(":")[0].casefold().rstrip(".")
