"""The yardstick: a plain proxy as aiohttp's documentation shows one, without any feature.

python -m benchmarks.bare PORT http://127.0.0.1:UPSTREAM
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import aiohttp
import uvloop
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

NOT_FORWARDED = {
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
SESSION = web.AppKey("session", aiohttp.ClientSession)
UPSTREAM = web.AppKey("upstream", str)


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in NOT_FORWARDED}


async def proxy(request: web.Request) -> web.StreamResponse:
    async with request.app[SESSION].request(
        request.method,
        request.app[UPSTREAM] + request.path_qs,
        data=await request.read(),
        headers=forwarded(request.headers),
    ) as answer:
        headers = forwarded(answer.headers)
        if answer.content_type != "text/event-stream":
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def session(app: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as app[SESSION]:
        yield


def main(port: int, upstream: str) -> None:
    app = web.Application(client_max_size=20_000_000)
    app[UPSTREAM] = upstream
    app.router.add_route("*", "/v1/{tail:.*}", proxy)
    app.cleanup_ctx.append(session)
    web.run_app(
        app,
        host="127.0.0.1",
        port=port,
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=None,
        backlog=4096,  # a thousand clients come within a second
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
