"""A small OTLP collector: receives spans over HTTP and keeps them."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages


@dataclass
class Span:
    """A span as it came over the wire; ids are hex digits, times nanoseconds."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    status: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    events: list[str]
    scope: str
    schema_url: str
    resource: dict[str, Any]


_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


class Collector:
    """Listens on a real socket.  `behaviour` may be replaced: it answers each export."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.requests = 0
        self.status = 200
        self.delay = 0.0
        self._runner: web.ServerRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._receive), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _receive(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.status == 200:
            self._keep(messages.ExportTraceServiceRequest.FromString(body))
        return web.Response(
            status=self.status,
            body=messages.ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )

    def _keep(self, export: Any) -> None:
        for resource in export.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [
                    Span(
                        name=span.name,
                        kind=_KINDS[span.kind],
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        start=span.start_time_unix_nano,
                        end=span.end_time_unix_nano,
                        status=span.status.code,
                        attributes=_attributes(span.attributes),
                        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                        events=[event.name for event in span.events],
                        scope=scope.scope.name,
                        schema_url=scope.schema_url,
                        resource=_attributes(resource.resource.attributes),
                    )
                    for span in scope.spans
                ]

    async def wait_for(self, count: int, seconds: float = 10) -> list[Span]:
        """Wait until so many spans have come; all of them, oldest start first."""
        async with asyncio.timeout(seconds):
            while len(self.spans) < count:
                await asyncio.sleep(0.02)
        return sorted(self.spans, key=lambda span: span.start)
