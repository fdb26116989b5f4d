"""How the aiohttp servers on this machine are run: on the loopback interface, behind the door."""

from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from local.servers import door


def run(application: web.Application, port: int, **options: Any) -> None:
    """Serve an application at a port of 127.0.0.1 until the process is told to end.

        serving.run(application, 8000, backlog=2048)

    `options` are those of aiohttp's `run_app`.
    """
    application.middlewares.insert(0, _door)
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=None, **options)


@web.middleware
async def _door(request: web.Request, handler: Handler) -> web.StreamResponse:
    reason = door.refusal(request.raw_headers, request.raw_path.encode("utf-8", "surrogateescape"))
    if reason is None:
        return await handler(request)
    return web.Response(
        status=HTTPStatus.FORBIDDEN, body=door.refused_body(reason), content_type="application/json"
    )
