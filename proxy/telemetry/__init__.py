"""What is told of exchanges: traces, the turn log, metrics.  Nothing here blocks or fails one."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy.throttle import Throttle

from .attributes import SpanAttributes, error_type
from .metrics import Metrics, usage_source
from .turns import TurnLog, turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from opentelemetry.trace import Tracer

    from proxy.exchange import Exchange, Mark, Trace
    from proxy.seat import Seat
    from proxy.settings import Settings
    from proxy.settings import Telemetry as TelemetrySettings

    from .spans import Tracing

__all__ = ["Metrics", "Telemetry", "exporting", "parent_for_plugin", "usage_source"]

log = logging.getLogger("dragoman.telemetry")
_failures = Throttle()


def exporting(settings: TelemetrySettings, environ: Mapping[str, str] = os.environ) -> bool:
    """Is there a collector to send spans to?  The standard variables stand above the settings."""
    if not settings.enabled or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return settings.endpoint is not None or any(
        environ.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )


def parent_for_plugin(trace: Trace | None, mark: Mark) -> AbstractContextManager[None]:
    """Make the plugin's span the parent of what it traces itself, where there is a trace."""
    if trace is None or not trace.sampled:
        return nullcontext()
    from . import spans

    return spans.parent_for_plugin(trace, mark)


class Telemetry:
    """Traces, turn log and metrics of one process."""

    def __init__(
        self, settings: Settings, *, turn_log: int | None = None, seat: Seat | None = None
    ) -> None:
        self._settings = settings
        self._turn_log = turn_log
        self._seat = seat
        self.metrics = Metrics(
            settings.upstream.provider,
            semconv=settings.telemetry.semconv,
            shared=seat.metrics if seat else None,
        )
        self._tracing: Tracing | None = None
        self._turns: TurnLog | None = None

    async def start(self) -> None:
        """Open what has threads and sockets: in the process that serves, on its event loop."""
        settings = self._settings.telemetry
        if settings.turn_log:
            lock = self._seat.lines if self._seat else None
            self._turns = TurnLog(self.metrics.log_lines_lost.inc, self._turn_log, lock)
        if exporting(settings):
            self._tracing = await asyncio.to_thread(self._open_tracing)

    def _open_tracing(self) -> Tracing:
        from .spans import Tracing  # the SDK: 5 MB and 0.1 s that a server without traces saves

        base_url = str(self._settings.upstream.base_url).rstrip("/")
        parts = urlsplit(base_url)
        attributes = SpanAttributes(
            self._settings.telemetry,
            provider=self._settings.upstream.provider,
            address=parts.hostname or "",
            port=parts.port or (443 if parts.scheme == "https" else 80),
            base_url=base_url,
        )
        worker = self._seat.number if self._seat else None
        return Tracing(self._settings.telemetry, attributes, self.metrics.spans, worker)

    @property
    def captures_content(self) -> bool:
        """Do traces hold prompts and answers?"""
        return self._tracing is not None and self._settings.telemetry.capture_content

    @property
    def tracer(self) -> Tracer:
        """For spans of plugins; it does nothing where no traces are taken."""
        from opentelemetry.trace import NoOpTracer

        return self._tracing.tracer if self._tracing else NoOpTracer()

    def begin(self, exchange: Exchange, http: web.BaseRequest) -> None:
        """An exchange begins: give it its place in a trace."""
        self.metrics.active.inc()
        if self._tracing is not None:
            self._tracing.begin(exchange, http.headers)
            if exchange.trace is not None and exchange.trace.sampled:
                exchange.client = {
                    "client.address": http.remote or "",
                    "user_agent.original": _text(http.headers.get("User-Agent", "")),
                }

    def finish(self, exchange: Exchange, seconds: float) -> None:
        """An exchange has ended, and all that is to be known about it is known."""
        self.metrics.active.dec()
        try:
            self.metrics.observe(exchange, seconds, error_type(exchange))
            is_turn = exchange.is_chat or exchange.facts.usage is not None
            if self._turns is not None and is_turn:
                self._turns.add(turn(exchange, seconds))
            if self._tracing is not None:
                self._tracing.finish(exchange, seconds)
        except Exception as error:
            if _failures.allows(type(error)):
                log.exception("telemetry failed")

    async def close(self) -> None:
        """Send and write what is left, within `telemetry.flush_deadline`."""
        deadline = time.monotonic() + self._settings.telemetry.flush_deadline
        if self._turns is not None:
            await self._turns.close(self._settings.telemetry.flush_deadline)
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close, max(0.1, deadline - time.monotonic()))


def _text(value: str) -> str:
    """A header's value with question marks for bytes that are no text: no span can hold them."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
