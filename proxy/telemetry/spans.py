"""Traces: the only file that imports the OpenTelemetry SDK.

Spans are made when an exchange has ended, out of what was noted while it ran: identifiers and the
sampling decision come first, because the upstream is told of them, and the rest costs nothing
until then.  Made so, a span takes 3 µs where the SDK's recording span takes 39 (12 attributes, one
machine, same run); batches and export are the SDK's.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace as api
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import Status, StatusCode

from proxy import __version__
from proxy.errors import ConfigError
from proxy.exchange import Trace
from proxy.throttle import Throttle

from .conventions import SCHEMA_URL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client import Counter

    from proxy.exchange import Exchange, Mark
    from proxy.settings import Telemetry

    from .attributes import SpanAttributes

_SCOPE = InstrumentationScope("dragoman", __version__, SCHEMA_URL)
_OK = Status(StatusCode.UNSET)
_ERROR = Status(StatusCode.ERROR)
_RANDOM = 2  # W3C level 2: the trace id is random
_propagator = TraceContextTextMapPropagator()
_said = Throttle()


class Tracing:
    """Makes the spans of exchanges and sends them to a collector.  Not to be made before a fork."""

    def __init__(
        self,
        settings: Telemetry,
        attributes: SpanAttributes,
        counted: Counter,
        worker: int | None = None,
    ) -> None:
        self._settings = settings
        self._attributes = attributes
        self._exporter = _Counting(_exporter(settings), counted)
        _quieten()
        self._provider = TracerProvider(
            resource=_resource(settings, worker), shutdown_on_exit=False
        )
        self._processor = BatchSpanProcessor(self._exporter)
        self._provider.add_span_processor(self._processor)
        self._room = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or 2048)
        self._submitted = 0
        self._counted = counted

    @property
    def tracer(self) -> api.Tracer:
        """For spans of plugins; their parent is the plugin's own span."""
        return self._provider.get_tracer("dragoman.plugins", __version__)

    # ---- while the exchange runs

    def begin(self, exchange: Exchange, headers: Mapping[str, str]) -> None:
        """Give the exchange its place in a trace, and decide whether it is sampled."""
        incoming = None
        if self._settings.incoming_trace != "ignore" and "traceparent" in headers:
            incoming = _incoming(headers)
        continued = incoming if self._settings.incoming_trace == "continue" else None
        trace_id = continued.trace_id if continued else random.getrandbits(128) or 1
        parent = None
        if continued is not None:
            parent = api.set_span_in_context(api.NonRecordingSpan(continued))
        name = f"{exchange.method} {exchange.route}"
        decision = self._provider.sampler.should_sample(
            parent, trace_id, name, api.SpanKind.SERVER, {"http.route": exchange.route}
        )
        exchange.trace = Trace(
            trace_id=trace_id,
            span_id=new_span_id(),
            flags=int(decision.decision is Decision.RECORD_AND_SAMPLE)
            | (continued.trace_flags & _RANDOM if continued else _RANDOM),
            state=continued.trace_state.to_header() if continued else "",
            parent_id=continued.span_id if continued else None,
            linked=(incoming.trace_id, incoming.span_id) if incoming and not continued else None,
        )

    # ---- when it has ended

    def finish(self, exchange: Exchange, seconds: float) -> None:
        """Hand the spans of an ended exchange to the exporter's thread.  Never blocks."""
        if exchange.trace is None or not exchange.trace.sampled:
            return
        if not self._worth_keeping(exchange, exchange.trace, seconds):
            return
        spans = list(self._spans(exchange, exchange.trace, seconds))
        if self._submitted - self._exporter.handled + len(spans) > self._room:
            self._counted.labels("dropped").inc(len(spans))
            return
        self._submitted += len(spans)
        for span in spans:
            self._processor.on_end(span)

    def _worth_keeping(self, exchange: Exchange, trace: Trace, seconds: float) -> bool:
        tail = self._settings.tail_sample
        if tail.errors and (exchange.error is not None or exchange.status >= 400):
            return True
        if tail.slow and seconds > tail.slow:
            return True
        # The low 56 bits of a trace id are its random ones; all our processes decide alike.
        return (trace.trace_id & (1 << 56) - 1) < tail.ratio * (1 << 56)

    def _spans(self, exchange: Exchange, trace: Trace, seconds: float) -> Iterator[ReadableSpan]:
        end_ns = exchange.start_ns + int(seconds * 1e9)
        server = _context(trace, trace.span_id)
        incoming = None
        if trace.parent_id is not None:
            incoming = _context(trace, trace.parent_id, remote=True)
        yield self._span(
            f"{exchange.method} {exchange.route}",
            api.SpanKind.SERVER,
            server,
            incoming,
            (exchange.start_ns, end_ns),
            self._attributes.server(exchange, seconds),
            _ERROR if exchange.status >= 500 else _OK,
            links=_links(trace),
        )
        for mark in exchange.marks:
            if not self._shows(mark):
                continue
            yield self._span(
                f"plugin {mark.plugin}",
                api.SpanKind.INTERNAL,
                _context(trace, mark.span_id or new_span_id()),
                server,
                (mark.start_ns, mark.end_ns or end_ns),
                self._attributes.plugin(mark),
                _ERROR if mark.outcome == "error" else _OK,
            )
        if exchange.attempts:
            yield from self._upstream_spans(exchange, trace, server, end_ns)

    def _upstream_spans(
        self, exchange: Exchange, trace: Trace, server: api.SpanContext, end_ns: int
    ) -> Iterator[ReadableSpan]:
        parent = server
        if exchange.sent is not None:  # a chat completion: the attempts are one operation
            parent = _context(trace, new_span_id())
            attributes = self._attributes.chat(exchange)
            yield self._span(
                f"chat {attributes.get('gen_ai.request.model', '')}".rstrip(),
                api.SpanKind.CLIENT,
                parent,
                server,
                (exchange.attempts[0].start_ns, exchange.attempts[-1].end_ns or end_ns),
                attributes,
                _ERROR if "error.type" in attributes else _OK,
            )
        for number, attempt in enumerate(exchange.attempts):
            attributes = self._attributes.attempt(exchange, attempt, number)
            yield self._span(
                exchange.method,
                api.SpanKind.CLIENT,
                _context(trace, attempt.span_id),
                parent,
                (attempt.start_ns, attempt.end_ns or end_ns),
                attributes,
                _ERROR if "error.type" in attributes else _OK,
            )

    def _shows(self, mark: Mark) -> bool:
        if self._settings.plugin_spans == "acted":
            did_something = mark.outcome not in ("pass", "skip")
            degraded = any(name.endswith(".degraded") for name in mark.attributes)
            return did_something or degraded or mark.own_seconds > 0.001
        return self._settings.plugin_spans == "all"

    def _span(
        self,
        name: str,
        kind: api.SpanKind,
        context: api.SpanContext,
        parent: api.SpanContext | None,
        times: tuple[int, int],
        attributes: dict[str, Any],
        status: Status,
        links: Sequence[api.Link] = (),
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            self._provider.resource,
            attributes,
            links=links,
            kind=kind,
            status=status,
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=_SCOPE,
        )

    def close(self, seconds: float) -> None:
        """Send what is left, but take no longer than this: the SDK alone would take 30 s."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(seconds)


@contextmanager
def parent_for_plugin(trace: Trace, mark: Mark) -> Iterator[None]:
    """Make the plugin's span the parent of what it traces itself."""
    mark.span_id = new_span_id()
    span = api.NonRecordingSpan(_context(trace, mark.span_id))
    token = otel_context.attach(api.set_span_in_context(span))
    try:
        yield
    finally:
        otel_context.detach(token)


def _quieten() -> None:
    """Let the SDK say once a minute what it would say of each batch."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("opentelemetry."):
            logging.getLogger(name).addFilter(_once_a_minute)


def _once_a_minute(record: logging.LogRecord) -> bool:
    return _said.allows(record.name)


def new_span_id() -> int:
    return random.getrandbits(64) or 1


def _context(trace: Trace, span_id: int, *, remote: bool = False) -> api.SpanContext:
    state = api.TraceState.from_header([trace.state]) if trace.state else None
    return api.SpanContext(trace.trace_id, span_id, remote, api.TraceFlags(trace.flags), state)


def _incoming(headers: Mapping[str, str]) -> api.SpanContext | None:
    context = api.get_current_span(_propagator.extract(headers)).get_span_context()
    return context if context.is_valid else None


def _links(trace: Trace) -> tuple[api.Link, ...]:
    if trace.linked is None:
        return ()
    return (api.Link(api.SpanContext(*trace.linked, is_remote=True)),)


def _resource(settings: Telemetry, worker: int | None) -> Resource:
    """Ours, where the standard variables do not say otherwise.  An instance is one process: where
    the variables name one for all workers, each gets its number behind that."""
    ours = {SERVICE_NAME: settings.service_name, SERVICE_VERSION: __version__}
    given = OTELResourceDetector().detect()
    if worker is not None and (instance := given.attributes.get(SERVICE_INSTANCE_ID)):
        given = given.merge(Resource({SERVICE_INSTANCE_ID: f"{instance}-{worker}"}))
    return Resource.create(ours).merge(given)


def _exporter(settings: Telemetry) -> SpanExporter:
    """The one exporter that is asked for; importing the other would cost 30 MB."""
    protocol = (
        os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or settings.protocol
    )
    from_environment = any(
        os.environ.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    base = None if from_environment else str(settings.endpoint).rstrip("/")
    if protocol == "grpc":
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # type: ignore[import-not-found,unused-ignore]
                OTLPSpanExporter as Grpc,
            )
        except ImportError:
            raise ConfigError(
                ["OTLP over gRPC needs the extra: pip install 'dragoman[grpc]'"]
            ) from None
        exporter: SpanExporter = Grpc(endpoint=base)
        return exporter
    if protocol != "http/protobuf":
        raise ConfigError([f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol!r}: http/protobuf or grpc"])
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

    return http.OTLPSpanExporter(endpoint=f"{base}/v1/traces" if base else None)


class _Counting(SpanExporter):
    """Counts by what an export returned: the SDK's own metric calls a 401 a success."""

    def __init__(self, inner: SpanExporter, counted: Counter) -> None:
        self._inner = inner
        self._counted = counted
        self.handled = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self.handled += len(spans)
            word = "exported" if result is SpanExportResult.SUCCESS else "failed"
            self._counted.labels(word).inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()
