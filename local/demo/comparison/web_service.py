"""One web service that asks the three companies and waits for all of them.

python -m local.demo.comparison.web_service --port 8000

POST / answers {"callerNumber", "companies": [{"source", "url", "credentials"}]} with the customer or null.
"""

import argparse
import asyncio

from aiohttp import web

from local.demo.comparison.lookups import Company, ask_all
from local.servers import serving


async def identify(request: web.Request) -> web.Response:
    wanted = await request.json()
    companies = [Company(**company) for company in wanted["companies"]]
    return web.json_response(await asyncio.to_thread(ask_all, companies, wanted["callerNumber"]))


async def health(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    app = web.Application()
    app.router.add_post("/", identify)
    app.router.add_get("/", health)
    serving.run(app, parser.parse_args().port)


if __name__ == "__main__":
    main()
