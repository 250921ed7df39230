"""Every other path: bytes both ways as they come, WebSocket included."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import unquote

from . import headers
from .body import arriving
from .errors import APIError, EndpointNotGuarded, InvalidRequest, NotFound
from .listener import Head, Output, go_ahead
from .websocket import relay_websocket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import ClientResponse, StreamReader, web

    from .connections import Connections, Incoming
    from .exchange import Exchange
    from .settings import Server
    from .telemetry import Metrics

# The endpoints of the API by their first segment: a label must not grow with what clients type.
_KNOWN = frozenset(
    (
        *("assistants", "audio", "batches", "chat", "chatkit", "completions", "containers"),
        *("conversations", "embeddings", "evals", "files", "fine_tuning", "images", "models"),
        *("moderations", "organization", "realtime", "responses", "threads", "uploads"),
        *("vector_stores", "videos"),
    )
)

# Where messages to a model travel beside /chat/completions.
_WITH_MESSAGES = re.compile(
    r"/v1/(responses|completions|conversations|threads|batches|realtime|live|agents/sessions|decisions"
    r"|deployments/[^/]+/(chat/)?completions)"  # as Azure's client names them
    r"(/|$)"
)

_DOT_SEGMENT = re.compile(r"(?:^|/|%2f)(?:\.|%2e){1,2}(?:/|%2f|$)", re.IGNORECASE)


class Passthrough:
    """Carries a request to the upstream and its answer back, without reading either."""

    def __init__(self, connections: Connections, settings: Server, metrics: Metrics) -> None:
        self._connections = connections
        self._settings = settings
        self._metrics = metrics

    @staticmethod
    def route(path: str) -> str:
        """The label of a path."""
        first = path.removeprefix("/v1/").partition("/")[0]
        if not path.startswith("/v1/"):
            return "other"
        return f"/v1/{first}" if first in _KNOWN else "/v1/{path}"

    async def __call__(
        self, http: web.BaseRequest, exchange: Exchange, begun: list[bytes] | None = None
    ) -> web.StreamResponse:
        """Forward a request; `begun` is what was already read of its body."""
        self._check(exchange)
        target = http.raw_path.removeprefix("/v1")
        if http.headers.get("Upgrade", "").lower() == "websocket":
            return await relay_websocket(
                http, exchange, self._connections, target, self._settings.write_timeout
            )
        fields, _ = headers.for_upstream(http.headers.items())
        body: StreamReader | AsyncGenerator[bytes, None] | None = None
        if http.body_exists:
            if http.content_length is not None:
                fields["Content-Length"] = str(http.content_length)
            body = http.content
            if begun or not body.is_eof():
                body = _rest(begun or [], body, self._settings.body_timeout)
            await go_ahead(http)
        response = await self._connections.open(exchange, target, fields, body)
        incoming = self._connections.incoming(exchange, response)
        try:
            return await self._relay(http, exchange, response, incoming)
        finally:
            incoming.close()

    def _check(self, exchange: Exchange) -> None:
        """Refuse what must not leave: what is no path of the API, or climbs out of it."""
        path = exchange.path
        if not path.startswith("/v1/"):
            raise NotFound("No such path: the API is below /v1. Does your base_url end in /v1?")
        if _DOT_SEGMENT.search(path):
            raise InvalidRequest("The path has dot segments.")
        if _WITH_MESSAGES.match(plainly(path)):
            refuse = self._settings.unguarded == "refuse"
            decision = "refused" if refuse else "passed"
            self._metrics.unguarded.labels(exchange.route, decision).inc()
            if refuse:
                raise EndpointNotGuarded(
                    "This endpoint carries messages that the proxy's plugins do not see, and the "
                    "proxy is set to refuse such. Use /v1/chat/completions."
                )

    async def _relay(
        self,
        http: web.BaseRequest,
        exchange: Exchange,
        response: ClientResponse,
        incoming: Incoming,
    ) -> web.StreamResponse:
        exchange.status = response.status
        fields = headers.for_client(response.headers.items())
        if "x-request-id" not in fields:
            fields["x-request-id"] = exchange.id
        if exchange.trace is not None:
            fields["traceresponse"] = exchange.trace.parent_of(exchange.trace.span_id)
        head = Head(status=response.status, reason=response.reason, headers=fields)
        output = Output(http, await head.prepare(http), self._settings.write_timeout)
        try:
            while data := await incoming.receive():
                await output.write(data)
        except APIError as error:
            # The head is out, and said that all is well: only a broken connection can take it back.
            exchange.error = error
            exchange.status_word = "failed"
            exchange.termination = error.reported_code or "failed"
            if http.transport is not None:
                http.transport.close()
            return head
        await head.write_eof()
        return head


def plainly(path: str) -> str:
    """A path as a lenient server reads it: by another spelling none is another endpoint."""
    path = re.sub(";[^/]*", "", unquote(path))
    return re.sub("/+", "/", path).rstrip("/").lower()


async def _rest(
    begun: list[bytes], content: StreamReader, timeout: float
) -> AsyncGenerator[bytes, None]:
    for part in begun:
        yield part
    async with aclosing(arriving(content, timeout)) as parts:
        async for part in parts:
            yield part
