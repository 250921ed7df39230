"""Pooled connections to the upstream, and their failures in our words.

This is the only file that names the client library's exceptions.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from . import headers, outgoing
from .breaker import Breaker
from .errors import (
    APIError,
    InvalidRequest,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from .exchange import Attempt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import TypeAlias

    from multidict import CIMultiDict

    from .exchange import Exchange
    from .pacing import Pacer
    from .settings import Upstream as UpstreamSettings

    Body: TypeAlias = bytes | AsyncIterator[bytes] | aiohttp.StreamReader | None
    RawHead: TypeAlias = list[tuple[str, str]]

log = logging.getLogger("dragoman.upstream")

LARGE = 1 << 20
"""A body longer than this is written in pieces, so that writing it does not hold up the others."""

# These methods may be sent again when a kept connection turns out to be dead: RFC 9110, 9.2.2.
_IDEMPOTENT = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"))

_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class Refusal(Exception):
    """The upstream's answer to a WebSocket handshake, where it is an ordinary one."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        super().__init__(response.status)
        self.status = response.status
        self.reason = response.reason
        self.headers = list(response.headers.items())
        self.body = body


class Connections:
    """The way to one upstream: made once per process, used by every request."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._settings = settings
        self._base = str(settings.base_url).rstrip("/")
        self._proxy = URL(str(settings.proxy)) if settings.proxy else None
        self._breaker = Breaker()
        self._session: aiohttp.ClientSession | None = None
        self.propagate = False
        """Send a `traceparent`, where the exchange has a trace."""
        self.pacer: Pacer | None = None
        """Lets requests wait for their turn, where the operator says how many there may be."""
        self.has_key = settings.api_key is not None
        """The upstream's key is ours, and clients' keys are for us."""
        self.url = lru_cache(maxsize=1024)(self._url)

    async def start(self) -> None:
        settings = self._settings
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=settings.connect_timeout or None,
                sock_connect=settings.connect_timeout or None,
                sock_read=settings.first_byte_timeout or None,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # a jar would be shared by all clients
            auto_decompress=False,
            skip_auto_headers=outgoing.NOT_ADDED,
            max_line_size=outgoing.LONGEST_LINE,
            max_field_size=outgoing.LONGEST_LINE,
            proxy=self._proxy,
            read_bufsize=1 << 16,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the connections are not started")
        return self._session

    def _url(self, target: str) -> URL:
        """The upstream's URL for a path behind /v1 with its query, neither decoded nor joined."""
        return URL(self._base + target, encoded=True)

    async def open(
        self,
        exchange: Exchange,
        target: str,
        fields: CIMultiDict[str],
        body: Body,
    ) -> aiohttp.ClientResponse:
        """Send a request and wait for the head of its answer.  APIError if there is none.

        A connection that cannot be made is tried once more.  A request that may have arrived is
        not sent again, unless its method or an `Idempotency-Key` says that it may be.
        """
        resendable = (body is None or isinstance(body, bytes)) and (
            exchange.method in _IDEMPOTENT or "Idempotency-Key" in fields
        )
        retried = False
        while True:
            if not self._breaker.allows():
                raise UpstreamUnreachable(
                    "The upstream cannot be reached.", headers={"Retry-After": "2"}
                )
            if self.pacer is not None:
                await self.pacer.turn(exchange)
            try:
                return await self._attempt(exchange, target, fields, body)
            except _NOT_SENT as error:
                if retried:
                    raise self._unreachable(error) from error
            except _LOST as error:
                if retried or not resendable:
                    raise translate(error) from error
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise translate(error) from error
            retried = True
            await asyncio.sleep(random.uniform(0.01, 0.05))

    async def _attempt(
        self,
        exchange: Exchange,
        target: str,
        fields: CIMultiDict[str],
        body: Body,
    ) -> aiohttp.ClientResponse:
        start = time.perf_counter()
        attempt = Attempt(exchange.now_ns(), random.getrandbits(64) or 1)
        exchange.attempts.append(attempt)
        data: Any = body
        if isinstance(body, bytes) and len(body) > LARGE:
            data = _pieces(body)
            fields = fields.copy()
            fields["Content-Length"] = str(len(body))
        try:
            response = await outgoing.send(
                self.session,
                exchange.method,
                self.url(target),
                headers=self._outgoing(exchange, attempt, fields),
                body=data,
                proxy=self._proxy,
            )
        except BaseException as error:
            attempt.error_type = _error_type(error)
            attempt.end_ns = exchange.now_ns()
            raise
        finally:
            exchange.upstream_seconds += time.perf_counter() - start
        attempt.status = response.status
        self._breaker.succeeded()
        if self.pacer is not None:
            try:
                await self.pacer.learn(exchange, response.status, response.headers)
            except BaseException:
                response.close()
                raise
        return response

    async def open_websocket(
        self, exchange: Exchange, target: str, fields: CIMultiDict[str], protocols: list[str]
    ) -> tuple[aiohttp.ClientWebSocketResponse, RawHead]:
        """Open a WebSocket; return it and the headers of the handshake's answer.

        Refusal if the upstream answers with anything but one; APIError if it does not answer.
        """
        if self.pacer is not None:
            await self.pacer.turn(exchange)
        attempt = Attempt(exchange.now_ns(), random.getrandbits(64) or 1)
        exchange.attempts.append(attempt)
        head: RawHead = []

        async def keep_answer(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            response = await handler(request)
            attempt.status = response.status
            head.extend(response.headers.items())
            if response.status != 101:
                raise Refusal(response, await response.read())
            return response

        async with aiohttp.ClientSession(
            connector=self.session.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=outgoing.NOT_ADDED,
            middlewares=(keep_answer,),
        ) as session:
            try:
                socket = await session.ws_connect(
                    self.url(target),
                    protocols=protocols,
                    headers=self._outgoing(exchange, attempt, fields),
                    autoclose=False,
                    autoping=False,
                    max_msg_size=0,
                )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise translate(error) from error
        return socket, head

    def _outgoing(
        self, exchange: Exchange, attempt: Attempt, fields: CIMultiDict[str]
    ) -> CIMultiDict[str]:
        """The client's headers with our key and our place in the trace, where there are such."""
        trace = exchange.trace if self.propagate else None
        if trace is None and self._settings.api_key is None:
            return fields
        fields = fields.copy()
        if trace is not None:
            fields["traceparent"] = trace.parent_of(attempt.span_id)
            if trace.state:
                fields["tracestate"] = trace.state
            else:
                fields.popall("tracestate", None)
            fields.popall("baggage", None)
        if self._settings.api_key is not None:
            headers.set_key(
                fields, self._settings.api_key_header, self._settings.api_key.get_secret_value()
            )
        return fields

    def _unreachable(self, error: Exception) -> UpstreamUnreachable:
        if self._breaker.failed():
            log.warning("the upstream cannot be reached: %s", type(error).__name__)
        return UpstreamUnreachable("The upstream cannot be reached.")

    def incoming(self, exchange: Exchange, response: aiohttp.ClientResponse) -> Incoming:
        """The body of an answer, piece by piece."""
        settings = self._settings
        return Incoming(
            exchange, response, settings.first_byte_timeout or None, settings.idle_timeout or None
        )


class Incoming:
    """The body of an upstream's answer as it comes in, and how long we waited for it.

    Silence is watched by a timer that looks now and then: to set one anew for each piece, as the
    client library does, costs a tenth of what a piece costs in all.
    """

    __slots__ = (
        "_exchange",
        "_idle",
        "_limit",
        "_loop",
        "_response",
        "_since",
        "_timer",
        "attempt",
    )

    def __init__(
        self,
        exchange: Exchange,
        response: aiohttp.ClientResponse,
        first_byte: float | None,
        idle: float | None,
    ) -> None:
        self._exchange = exchange
        self._response = response
        self._limit = first_byte
        self._idle = idle
        self._since: float | None = None
        """perf_counter() at which we began to wait; None while we do not."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.attempt = exchange.attempts[-1]
        connection = response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = None
        self._watch()

    async def receive(self) -> bytes:
        """The next piece; b"" at the end that HTTP frames.  APIError if it breaks or is silent."""
        exchange = self._exchange
        start = self._since = time.perf_counter()
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = translate(error)
            self.attempt.error_type = failure.reported_code
            raise failure from error
        except asyncio.CancelledError:
            self.attempt.error_type = "client_disconnected"
            raise
        finally:
            self._since = None
            now = time.perf_counter()
            exchange.upstream_seconds += now - start
        if exchange.first_chunk is None:
            exchange.first_chunk = now - exchange.start
            self._limit = self._idle
            self._watch()
        if not data:
            self._end()
        return data

    def _watch(self) -> None:
        """Look whether the upstream has been silent for too long; look again when it might be."""
        if self._timer is not None:
            self._timer.cancel()
        if self._limit is None:
            return
        waited = 0.0 if self._since is None else time.perf_counter() - self._since
        if waited >= self._limit:
            self._response.content.set_exception(aiohttp.SocketTimeoutError())
        else:
            self._timer = self._loop.call_later(self._limit - waited, self._watch)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.attempt.end_ns:
            self.attempt.end_ns = self._exchange.now_ns()

    def close(self) -> None:
        """Stop at once.  A connection that has more to say is not used again.  Idempotent."""
        self._end()
        self._response.close()


async def body_of(response: aiohttp.ClientResponse) -> bytes:
    """The whole body of an answer.  APIError if it breaks."""
    try:
        if response.content.is_eof():  # it came with the head
            return response.content.read_nowait()
        return await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise translate(error) from error


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), LARGE // 4):
        yield body[start : start + LARGE // 4]


def translate(error: Exception) -> APIError:
    """What the client is told of a failed connection.  Nothing that the upstream sent is quoted."""
    if isinstance(error.__cause__, APIError):  # it was the client's body that failed
        return error.__cause__
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("The upstream was silent for too long.")
    if isinstance(error, aiohttp.InvalidURL):
        return InvalidRequest("The path of the request is no part of a URL.")
    if isinstance(error, aiohttp.ClientPayloadError):
        return UpstreamTruncated("The upstream's answer broke off.")
    if isinstance(error, aiohttp.ClientResponseError):
        return UpstreamInvalid("The upstream's answer is not HTTP as it should be.")
    return UpstreamUnreachable("The connection to the upstream broke before it answered.")


def _error_type(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "client_disconnected"
    if isinstance(error, _NOT_SENT):
        return "upstream_unreachable"
    code = translate(error).reported_code if isinstance(error, Exception) else None
    return code or type(error).__name__
