"""A receiver of traces: an OTLP/HTTP collector that only keeps what it is sent.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

MAX_EXPORT = 16 << 20

WAITED = 10.0
"""Seconds after which a span does not come any more."""


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it came over the wire; ids are hex digits, times nanoseconds."""

    name: str
    span_id: str
    parent_id: str
    start: int
    end: int
    attributes: dict[str, Any]


class Receiver:
    """The receiver, from `async with` to its end; `traces` are its spans by the id of the trace."""

    def __init__(self) -> None:
        self.traces: dict[str, list[Span]] = defaultdict(list)
        self._came = asyncio.Event()
        application = web.Application(client_max_size=MAX_EXPORT)
        application.router.add_post("/v1/traces", self._receive)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def endpoint(self) -> str:
        """What `telemetry.endpoint` has to be."""
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def trace(self, trace_id: str) -> list[Span]:
        """The spans of an exchange, when its plugins' are among them.  TimeoutError if they do not
        come: spans are sent in batches, and a trace may be in two of them."""
        spans = self.traces[trace_id]
        async with asyncio.timeout(WAITED):
            while not _tells_of_plugins(spans):
                self._came.clear()
                await self._came.wait()
        return spans

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()  # unpacked, if it came compressed
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self._keep(scope.spans)
        self._came.set()
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    def _keep(self, spans: Iterable[Any]) -> None:
        for span in spans:
            self.traces[span.trace_id.hex()].append(
                Span(
                    span.name,
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    {pair.key: _value(pair.value) for pair in span.attributes},
                )
            )


def _tells_of_plugins(spans: list[Span]) -> bool:
    named = next(
        (span.attributes.get("dragoman.plugins", []) for span in spans if not span.parent_id), None
    )
    return named is not None and len(named) == sum(
        "dragoman.plugin.name" in span.attributes for span in spans
    )


def _value(value: Any) -> Any:
    """An attribute's value: one of the few kinds that there are, or an array of them."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
