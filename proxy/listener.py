"""What our listeners do differently from aiohttp's own."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import HttpVersion10, web
from aiohttp.http_writer import StreamWriter

from . import tasks
from .errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
        self._limit = settings.max_connections

    def __call__(self) -> web.RequestHandler:
        return Protocol(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > self._limit:
            transport.abort()

    def finish(self) -> None:
        """Close idle connections now, and the others when they are done."""
        self.pre_shutdown()
        for connection in self.connections:
            if not (connection._request_in_progress or connection._messages):  # noqa: SLF001
                connection.force_close()


class _Unadorned(web.StreamResponse):
    """Sends the headers it was given, and none that aiohttp would like to see."""

    async def _prepare_headers(self) -> None:
        absent = [name for name in ("Content-Type", "Date", "Server") if name not in self.headers]
        await super()._prepare_headers()
        for name in absent:
            self.headers.popall(name, None)


class Head(_Unadorned):
    """The head of an answer that is written bit by bit."""


class Whole(_Unadorned, web.Response):
    """An answer that is there in one piece: head and body leave in one write."""


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
    if not isinstance(body, bytes) or len(body) < 1 << 15:  # it fits a socket's buffer
        await answer.write_eof()
        return
    output = Output(request, writer, seconds)
    for start in range(0, len(body), 1 << 16):  # who reads slowly, but reads, has time for each
        await output.write(body[start : start + (1 << 16)])
    await web.StreamResponse.write_eof(answer)


class ClientTooSlow(Exception):
    """The client did not read for `server.write_timeout`."""


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
        self._written += 1
        await self._writer.write(data, drain=False)
        if self._protocol.writing_paused:
            try:
                async with asyncio.timeout(self._timeout):
                    await self._writer.drain()
            except TimeoutError:
                raise ClientTooSlow from None

    @asynccontextmanager
    async def heartbeat(self, seconds: float) -> AsyncIterator[None]:
        """Send a comment whenever nothing else was sent for so long; 0 sends none.

        One line, not an event: an empty event after one with an `id` crashes clients that are
        built on openai-python.
        """
        if not seconds:
            yield
            return
        beating = tasks.start(self._beat(seconds), name="heartbeat")
        try:
            yield
        finally:
            beating.cancel()

    async def _beat(self, seconds: float) -> None:
        while True:
            written = self._written
            await asyncio.sleep(seconds)
            if self._written == written:
                await self.write(b": ping\n")
