"""What our listeners do differently from aiohttp's own."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.helpers import should_remove_content_length
from aiohttp.http_writer import StreamWriter

from . import tasks
from .errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractStreamWriter

    from .errors import APIError
    from .settings import Server

log = logging.getLogger("dragoman.listener")


class Protocol(web.RequestHandler):
    """A client's connection.

    What is not HTTP gets a 400 in OpenAI's shape; aiohttp's own answer quotes the offending bytes,
    and so does its log, which is how a key with a stray control character gets into one.
    """

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # what it would quote
    ) -> web.StreamResponse:
        if status >= 500:
            log.error("a request was not handled: %s", type(exc).__name__, exc_info=exc)
        else:
            log.info("a request was not HTTP: %s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        answer = error_answer(InvalidRequest("The request is not valid HTTP."))
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Say that it happened, without the bytes."""
        what = args[0] if args else ""
        log.error("a connection failed: %s", what, exc_info=kwargs.get("exc_info"))


def check_framing(http: web.BaseRequest) -> None:
    """End the connection after a request of an old version that leaves in doubt where the next one
    begins: RFC 9112, 6.1.  InvalidRequest if it has no version at all."""
    if http.version < HttpVersion10:
        http.protocol.close()
        raise InvalidRequest("The request is not valid HTTP.")
    if "Transfer-Encoding" in http.headers:
        http.protocol.close()


class Listener(web.Server):
    """Accepts connections, up to a number; closes those beyond it at once."""

    def __init__(self, handler: Any, settings: Server) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,  # a client that leaves ends what was done for it
            access_log=None,
            logger=logging.getLogger("dragoman.http"),
            keepalive_timeout=settings.idle_timeout,
            max_line_size=settings.max_header,
            max_field_size=settings.max_header,
            auto_decompress=False,
        )
        self.limit = settings.max_connections

    def __call__(self) -> web.RequestHandler:
        return Protocol(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > self.limit:
            transport.abort()

    def finish(self) -> None:
        """Close idle connections now, and the others when they are done."""
        self.pre_shutdown()
        for connection in self.connections:
            if not (connection._request_in_progress or connection._messages):  # noqa: SLF001  # aiohttp has no other way to ask
                connection.force_close()


class _Unadorned(web.StreamResponse):
    """Sends the headers it was given, and of its own only those that frame the body."""

    async def _start(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self._req = request
        writer = self._payload_writer = request.writer
        self._frame(request, writer)
        major, minor = request.version
        await writer.write_headers(
            f"HTTP/{major}.{minor} {self._status} {self._reason}", self._headers
        )
        return writer

    def _frame(self, request: web.BaseRequest, writer: AbstractStreamWriter) -> None:
        """Say how long the body is, and whether the connection lasts: RFC 9112, 6 and 9."""
        fields, is_old = self._headers, request.version < HttpVersion11
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        writer.length = self.content_length
        if self._must_be_empty_body:
            if should_remove_content_length(request.method, self._status):
                fields.popall(hdrs.CONTENT_LENGTH, None)
        elif writer.length is None and is_old:
            self._keep_alive = False
        elif writer.length is None:
            writer.enable_chunking()
            fields[hdrs.TRANSFER_ENCODING] = "chunked"
        if self._keep_alive == is_old:  # not what its version takes for granted
            fields[hdrs.CONNECTION] = "keep-alive" if is_old else "close"


class Head(_Unadorned):
    """The head of an answer that is written bit by bit."""

    async def _start(self, request: web.BaseRequest) -> AbstractStreamWriter:
        writer = await super()._start(request)
        writer.send_headers()
        return writer


class Whole(_Unadorned):
    """An answer that is there in one piece: head and body leave in one write."""

    def __init__(
        self,
        *,
        status: int,
        body: bytes = b"",
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status=status, reason=reason, headers=headers)
        self.body = body

    async def _start(self, request: web.BaseRequest) -> AbstractStreamWriter:
        if hdrs.CONTENT_LENGTH not in self._headers and (
            self.body or (self._status != 304 and request.method != hdrs.METH_HEAD)
        ):
            self._headers[hdrs.CONTENT_LENGTH] = str(len(self.body))
        return await super()._start(request)

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(b"" if self._must_be_empty_body else data or self.body)


def error_answer(error: APIError) -> Whole:
    """An error of ours, as the client gets it."""
    headers = {"Content-Type": "application/json", **error.headers}
    return Whole(status=error.status, body=msgspec.json.encode(error.body()), headers=headers)


async def go_ahead(request: web.BaseRequest) -> None:
    """Answer `Expect: 100-continue`: the client may send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # that was no part of the answer


async def send_whole(request: web.BaseRequest, answer: Whole, seconds: float) -> None:
    """Send an answer.  ClientTooSlow; ConnectionError if the client is gone."""
    writer, body = await answer.prepare(request), answer.body
    if len(body) < 1 << 15:  # it fits a socket's buffer
        await answer.write_eof()
        return
    await Output(request, writer, seconds).write(body)
    await web.StreamResponse.write_eof(answer)


class ClientTooSlow(Exception):
    """The client did not read for `server.write_timeout`."""


PIECE = 1 << 16
"""Bytes that are written at once: who reads slowly, but reads, has the time for each."""


class Output:
    """Writes to a client no faster than it reads, and gives up one that does not read at all."""

    __slots__ = ("_protocol", "_timeout", "_writer", "_written")

    def __init__(
        self, request: web.BaseRequest, writer: AbstractStreamWriter | None, timeout: float
    ) -> None:
        assert isinstance(writer, StreamWriter)  # the only one there is
        self._writer = writer
        self._protocol = request.protocol
        self._timeout = timeout or None
        self._written = 0

    async def write(self, data: bytes) -> None:
        """Write and, if the client is behind, wait for it.  ClientTooSlow; ConnectionError."""
        if len(data) > PIECE:
            for start in range(0, len(data), PIECE):
                await self.write(data[start : start + PIECE])
            return
        self._written += 1
        if self._writer.chunked and data:  # an empty chunk would be the last
            self._write_chunk(data)
        else:
            await self._writer.write(data, drain=False)
        if self._protocol.writing_paused:
            try:
                async with asyncio.timeout(self._timeout):
                    await self._writer.drain()
            except TimeoutError:
                raise ClientTooSlow from None

    def _write_chunk(self, data: bytes) -> None:
        """What aiohttp's writer does in four calls."""
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def start_heartbeat(self, seconds: float) -> asyncio.Task[None] | None:
        """Send a comment whenever nothing else was sent for so long; 0 sends none.

        One line, not an event: an empty event after one with an `id` crashes clients that are
        built on openai-python.
        """
        return tasks.start(self._beat(seconds), name="heartbeat") if seconds else None

    async def _beat(self, seconds: float) -> None:
        while True:
            written = self._written
            await asyncio.sleep(seconds)
            if self._written == written:
                await self.write(b": ping\n")
