"""The admin listener: /healthz, /readyz, /metrics, and what plugins have for operators."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from .endpoints import OPERATORS
from .errors import APIError, InternalError, NotFound
from .exchange import Caller
from .listener import error_answer, send_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from .endpoints import Endpoints
    from .telemetry import Metrics

log = logging.getLogger("dragoman.admin")

OPERATOR = Caller("operator")
WRITE_SECONDS = 60.0


class Admin:
    """Serves every request of the admin listener."""

    def __init__(
        self, metrics: Metrics, ready: Callable[[], str | None], endpoints: Callable[[], Endpoints]
    ) -> None:
        self._metrics = metrics
        self._ready = ready
        self._endpoints = endpoints
        """Why no requests should be sent here; None if they should."""

    async def __call__(self, http: web.BaseRequest) -> web.StreamResponse:
        path = http.raw_path.partition("?")[0]
        if path == "/healthz":
            return web.Response(text="ok\n")
        if path == "/readyz":
            reason = self._ready()
            return web.Response(status=503 if reason else 200, text=f"{reason or 'ready'}\n")
        if path == "/metrics":
            return await self._exposition(http.headers.get("Accept", ""))
        return await self._of_plugins(http, path)

    async def _of_plugins(self, http: web.BaseRequest, path: str) -> web.StreamResponse:
        if not path.startswith(OPERATORS) or self._endpoints().route(path) is None:
            here = ["/healthz", "/readyz", "/metrics", *self._endpoints().below(OPERATORS)]
            return error_answer(NotFound(f"Here are {', '.join(here)}."))
        try:
            answer = await self._endpoints().answer(http, OPERATOR)
        except APIError as error:
            return error_answer(error)
        except Exception as error:
            log.exception("%s failed: %s", path, type(error).__name__)
            return error_answer(InternalError("The proxy made a mistake."))
        await send_whole(http, answer, WRITE_SECONDS)
        return answer

    async def _exposition(self, accept: str) -> web.Response:
        generate, content_type = choose_encoder(accept)  # exemplars exist in OpenMetrics only
        body = await asyncio.to_thread(generate, self._metrics.exposed)  # perhaps out of files
        return web.Response(body=body, headers={"Content-Type": content_type})
