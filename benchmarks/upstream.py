"""The mock upstream: fixed answers at next to no cost, and a sink for traces.

It runs on the load generator's event loop, so that what it sends and what it has seen are plain
attributes.  Requests need a Content-Length.
"""

from __future__ import annotations

import asyncio
import re
from functools import cache
from typing import TYPE_CHECKING, Self, cast

from . import bodies

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nx-request-id: req_mock\r\nopenai-processing-ms: 42\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_ASKED = b'"include_usage":true'


@cache
def _whole(body: bytes, content_type: str = "application/json") -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nx-request-id: req_mock\r\n"
        f"openai-processing-ms: 42\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@cache
def _frames(chunks: int, *, usage: bool) -> tuple[bytes, ...]:
    """A stream as it is written: the head with the first event, each other event, the end."""
    framed = [b"%x\r\n%b\r\n" % (len(e), e) for e in bodies.events(chunks, usage=usage)]
    return (_STREAM_HEAD + framed[0], *framed[1:-1], framed[-1] + b"0\r\n\r\n")


class Upstream:
    """What it shall answer, and what it was sent."""

    def __init__(self) -> None:
        self.prompt = bodies.SMALL
        """The prompt whose answer it gives."""
        self.chunks = 0
        """Pieces of text in a stream; 0 answers in one piece."""
        self.pause = 0.0
        """Seconds between them; 0 sends a stream at once."""
        self.open: set[_Connection] = set()
        """Those whose stream has begun and not ended."""
        self.port = 0
        self._received: set[bytes] = set()
        self._last: bytes | None = None
        self._exports: list[bytes] = []
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self, loop), "127.0.0.1", 0, backlog=4096
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def answers(self, prompt: bodies.Prompt, *, chunks: int = 0, pause: float = 0.0) -> None:
        """Set what it answers from now on."""
        self.prompt, self.chunks, self.pause = prompt, chunks, pause
        self._received.clear()
        self._last = None

    def finish(self) -> None:
        """Send the rest of all open streams at once."""
        for connection in list(self.open):
            connection.finish()

    def received(self) -> set[bytes]:
        """The bodies of requests since then, each once."""
        return self._received

    def note(self, body: bytes) -> None:
        if body != self._last:  # to compare is cheaper than to hash
            self._received.add(body)
            self._last = body

    def note_export(self, body: bytes) -> None:
        self._exports.append(body)

    def traces(self) -> int:
        """How many traces have come since the last call: each has one span of kind SERVER."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )
        from opentelemetry.proto.trace.v1.trace_pb2 import Span

        exports, self._exports = self._exports, []
        return sum(
            span.kind == Span.SPAN_KIND_SERVER
            for export in map(ExportTraceServiceRequest.FromString, exports)
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        )


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self._upstream = upstream
        self._loop = loop
        self._transport: asyncio.Transport
        self._held = bytearray()
        self._head = 0
        self._needed = 0
        self._rest: Iterator[bytes] = iter(())
        self._timer: asyncio.TimerHandle | None = None
        self._pause = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        held = self._held
        held += data
        while True:
            if not self._needed:
                if (end := held.find(b"\r\n\r\n")) < 0:
                    return
                length = _LENGTH.search(held, 0, end)
                self._head = end + 4
                self._needed = self._head + (int(length[1]) if length else 0)
            if len(held) < self._needed:
                return
            is_export = held.startswith(b"POST /v1/traces ")
            body = bytes(held[self._head : self._needed])
            del held[: self._needed]
            self._needed = 0
            self._serve(body, is_export=is_export)

    def _serve(self, body: bytes, *, is_export: bool) -> None:
        upstream = self._upstream
        if is_export:
            upstream.note_export(body)
            self._transport.write(_whole(b"", "application/x-protobuf"))
            return
        upstream.note(body)
        if not upstream.chunks:
            self._transport.write(_whole(bodies.answer(upstream.prompt)))
            return
        frames = _frames(upstream.chunks, usage=_ASKED in body)
        self._pause = upstream.pause
        if not self._pause:
            self._transport.write(b"".join(frames))
            return
        upstream.open.add(self)
        self._rest = iter(frames)
        self._step(self._loop.time())

    def _step(self, moment: float) -> None:
        """Send the next event at its own moment, however late the one before was."""
        frame = next(self._rest)
        self._transport.write(frame)
        if frame.endswith(b"\r\n0\r\n\r\n"):
            self._upstream.open.discard(self)
        else:
            moment += self._pause
            self._timer = self._loop.call_at(moment, self._step, moment)

    def finish(self) -> None:
        self._leave()
        self._transport.write(b"".join(self._rest))

    def _leave(self) -> None:
        self._upstream.open.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._leave()
