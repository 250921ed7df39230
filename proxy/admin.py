"""The admin listener: /healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from .errors import NotFound
from .listener import error_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .telemetry import Metrics


class Admin:
    """Serves every request of the admin listener."""

    def __init__(self, metrics: Metrics, ready: Callable[[], str | None]) -> None:
        self._metrics = metrics
        self._ready = ready
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
        return error_answer(NotFound("Here are /healthz, /readyz and /metrics."))

    async def _exposition(self, accept: str) -> web.Response:
        generate, content_type = choose_encoder(accept)  # exemplars exist in OpenMetrics only
        body = await asyncio.to_thread(generate, self._metrics.exposed)  # perhaps out of files
        return web.Response(body=body, headers={"Content-Type": content_type})
