"""How answers of the embedded upstream leave it: headers, delays, errors, broken connections."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from proxy import sse

from .errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .bodies import Wishes
    from .completion import Completion

log = logging.getLogger("dragoman.demo")

_BEGAN = web.RequestKey("began", float)
_HEADERS = {
    "Server": "dragoman-demo",
    "openai-organization": "dragoman",
    "openai-version": "2020-10-01",
    # It limits nobody, but clients read these.
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999000",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "30ms",
}


async def grant(wishes: Wishes, *, streamed: bool = False) -> None:
    """Wait before the answer, and raise the error that is wished for in its place."""
    await asyncio.sleep(wishes.first_byte_delay)
    if wishes.error is not None and not (streamed and wishes.error_after is not None):
        raise wishes.failure()


async def send(http: web.Request, body: Any, wishes: Wishes) -> web.StreamResponse:
    """Send an answer in one piece; only the half of it, if the connection is to break."""
    if wishes.break_after is None:
        return whole(body)
    data = msgspec.json.encode(body)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(data)
    await response.prepare(http)
    await response.write(data[: len(data) // 2])
    _hang_up(http)
    return response


async def send_stream(
    http: web.Request, completion: Completion, wishes: Wishes
) -> web.StreamResponse:
    """Send an answer as a stream of chunks, as far as the wishes let it."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(http)
    payloads = [*map(msgspec.json.encode, completion.chunks()), b"[DONE]"]
    for number, payload in enumerate(payloads):
        if number == wishes.break_after:
            _hang_up(http)
            break
        if number == wishes.error_after:
            await response.write(sse.encode(msgspec.json.encode(wishes.failure().body())))
            break
        await asyncio.sleep(wishes.delay)
        await response.write(sse.encode(payload))
    return response


def _hang_up(http: web.Request) -> None:
    """Close the connection before the answer is whole; what was written still arrives."""
    if http.transport is not None:
        http.transport.close()


def whole(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    data = msgspec.json.encode(body)
    return web.Response(body=data, status=status, headers=headers, content_type="application/json")


@web.middleware
async def in_openai_shape(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer whatever goes wrong as the real API does."""
    request[_BEGAN] = time.perf_counter()
    try:
        return await handler(request)
    except UpstreamError as raised:
        error = raised
    except web.HTTPNotFound:
        error = UpstreamError(
            404, f"Invalid URL ({request.method} {request.path})", code="unknown_url"
        )
    except web.HTTPMethodNotAllowed:
        error = UpstreamError(405, f"Not allowed to {request.method} on {request.path}.")
    except web.HTTPRequestEntityTooLarge:
        error = UpstreamError(413, "The body is too large.")
    except Exception as unexpected:
        log.exception("the demo upstream failed: %s", type(unexpected).__name__)
        error = UpstreamError(500)
    return whole(error.body(), error.status, error.headers)


async def add_headers(http: web.Request, response: web.StreamResponse) -> None:
    """Add what the real API sends with every answer."""
    response.headers.update(_HEADERS)
    response.headers["x-request-id"] = f"req_{random.getrandbits(128):032x}"
    elapsed = time.perf_counter() - http[_BEGAN]
    response.headers["openai-processing-ms"] = f"{elapsed * 1e3:.0f}"
