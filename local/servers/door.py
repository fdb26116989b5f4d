"""Whom a server on this machine answers: its user's own programs, and no web page that the user looks at.

Loopback keeps other machines out, but not the browser beside it. Any page may send requests to 127.0.0.1: it
cannot read the answers, but what they ask for is done (fetch with mode "no-cors"). A page whose name its
owner has since pointed at 127.0.0.1 ("DNS rebinding") may read them, too. The emulator checks no signature
and runs whatever code it is given, so neither may come in. Browsers tell by headers that no page can forge:

- `Host` is the name in the page's or the request's URL. Names of this machine cannot be rebound.
- `Origin` comes with every request by a script that could do something. No program of ours sends it.
- `Sec-Fetch-Site` says whose page asks, also where there is no `Origin`: images, links, forms.
"""

import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any

type Headers = Iterable[tuple[bytes, bytes]]

# `localhost` and the names below it belong to no one (RFC 6761): the emulator has its APIs and buckets there.
# Containers call this machine host.docker.internal, below a domain that nobody can have, either.
_HOST = re.compile(
    rb"(?:127\.0\.0\.1|\[::1\]|(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*localhost\.?|host\.docker\.internal)(?::[0-9]{0,5})?",
    re.IGNORECASE,
)
# A request as proxies get it names the host in its target, which then counts in place of the header.
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(?:[/?#].*)?", re.IGNORECASE | re.DOTALL)
_OWN_SITES = (b"none", b"same-origin")


def refusal(headers: Headers, target: bytes = b"/") -> str | None:
    """Why a request must not be served, or None when nothing speaks against it.

        refusal([(b"host", b"127.0.0.1:4566")])                                        # None
        refusal([(b"host", b"rebound.example:4566")])                                  # "Host is …"
        refusal([(b"host", b"127.0.0.1:4566"), (b"origin", b"https://page.example")])  # "Origin is …"

    `headers` are all header lines, names in any case; `target` is the request line's. The reason repeats
    nothing of the request.
    """
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value.strip(b" \t"))
    hosts = values.get(b"host", [])
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return "Host is not a name of this machine, such as 127.0.0.1 or localhost"
    if not target.startswith(b"/") and target != b"*":
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or not _HOST.fullmatch(absolute[1]):
            return "the request's target is not a path, nor a URL of this machine"
    if b"origin" in values:
        return "Origin is a browser's: web pages are not served"
    if any(site not in _OWN_SITES for site in values.get(b"sec-fetch-site", [])):
        return "Sec-Fetch-Site is that of another site's page"
    return None


def refused_body(reason: str) -> bytes:
    """The body of the 403 that a refused request gets."""
    return json.dumps({"error": {"code": "FORBIDDEN", "message": reason}}).encode()


type _Message = MutableMapping[str, Any]
type _Receive = Callable[[], Awaitable[_Message]]
type _Send = Callable[[_Message], Awaitable[None]]
type Application = Callable[[_Message, _Receive, _Send], Coroutine[Any, Any, None]]
"""An ASGI application."""


def guarded(application: Application) -> Application:
    """The ASGI application behind the door: refused requests get 403 and never reach it.

    A refused WebSocket is closed before it is accepted, which servers answer with 403, too.
    """

    async def door(scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await application(scope, receive, send)
            return
        reason = refusal(scope["headers"], scope.get("raw_path") or scope["path"].encode())
        if reason is None:
            await application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            body = refused_body(reason)
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return door
