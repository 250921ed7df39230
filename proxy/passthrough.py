"""Every other path: bytes both ways as they come, WebSocket included."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from . import coding, headers, paths, strictjson
from .admission import Forwarded
from .body import Body, arriving
from .callers import ANONYMOUS
from .errors import APIError, EndpointNotGuarded, InvalidRequest, NotFound
from .listener import Head, Output, go_ahead
from .reports import Reader
from .websocket import relay_websocket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import ClientResponse, StreamReader, web
    from multidict import CIMultiDict

    from .admission import Admission
    from .body import BodyBudget
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

SMALL = 1 << 18
"""A JSON body of up to so many bytes is read before it goes on, where plugins ask for its model."""


class Passthrough:
    """Carries a request to the upstream and its answer back, without reading either."""

    def __init__(
        self,
        connections: Connections,
        settings: Server,
        metrics: Metrics,
        admission: Admission,
        budget: BodyBudget,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._metrics = metrics
        self._admission = None if admission.asks_nobody else admission
        self._budget = budget

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
        plain = paths.plainly(exchange.path)
        self._check(exchange, plain)
        fields, options = headers.for_upstream(http.headers.items())
        if self._admission is None:
            return await self._forward(http, exchange, fields, begun)
        held = Body(self._budget, limit=SMALL, timeout=self._settings.body_timeout)
        try:
            data: bytes | list[bytes] | None = begun
            if begun and sum(map(len, begun)) <= SMALL:  # it is JSON: a key may ask some models
                data = b"".join(begun)
            elif not begun and _is_small_json(http):
                data = await held.read(http)
            forwarded = _forwarded(http, exchange, options, plain, data)
            await self._admission.admit(forwarded)
            return await self._forward(http, exchange, fields, data, forwarded)
        finally:
            held.release()

    async def _forward(
        self,
        http: web.BaseRequest,
        exchange: Exchange,
        fields: CIMultiDict[str],
        data: bytes | list[bytes] | None,
        forwarded: Forwarded | None = None,
    ) -> web.StreamResponse:
        """Send it on; `data` is its body, or what was read of that."""
        target = http.raw_path.removeprefix("/v1")
        if _asks_for_websocket(http):
            return await relay_websocket(
                http,
                exchange,
                self._connections,
                target,
                self._settings.write_timeout,
                {} if forwarded is None else forwarded.headers,
            )
        body: bytes | StreamReader | AsyncGenerator[bytes, None] | None = None
        if isinstance(data, bytes):
            body = data
        elif http.body_exists:
            if http.content_length is not None:
                fields["Content-Length"] = str(http.content_length)
            body = http.content
            if data or not body.is_eof():
                body = _rest(data or [], body, self._settings.body_timeout)
            await go_ahead(http)
        if exchange.is_metered and exchange.method == "POST":
            coding.ask_for_readable(fields)
        response = await self._connections.open(exchange, target, fields, body)
        incoming = self._connections.incoming(exchange, response)
        try:
            return await self._relay(http, exchange, response, incoming, forwarded)
        finally:
            incoming.close()

    def _check(self, exchange: Exchange, plain: str) -> None:
        """Refuse what must not leave: what is no path of the API, or climbs out of it."""
        path = exchange.path
        if not path.startswith("/v1/"):
            raise NotFound("No such path: the API is below /v1. Does your base_url end in /v1?")
        if paths.climbs(path):
            raise InvalidRequest("The path has dot segments.")
        if paths.carries_messages(plain):
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
        forwarded: Forwarded | None,
    ) -> web.StreamResponse:
        exchange.status = response.status
        fields = headers.for_client(response.headers.items())
        reader = None
        if forwarded is not None:
            fields.update(forwarded.headers)
            if exchange.is_metered and _makes_an_answer(forwarded, response):
                reader = Reader(response.headers)
        if "x-request-id" not in fields:
            fields["x-request-id"] = exchange.id
        if exchange.trace is not None:
            fields["traceresponse"] = exchange.trace.parent_of(exchange.trace.span_id)
        head = Head(status=response.status, reason=response.reason, headers=fields)
        output = Output(http, await head.prepare(http), self._settings.write_timeout)
        try:
            while data := await incoming.receive():
                if reader is not None:
                    reader.feed(data)
                await output.write(data)
        except APIError as error:
            # The head is out, and said that all is well: only a broken connection can take it back.
            exchange.error = error
            exchange.status_word = "failed"
            exchange.termination = error.reported_code or "failed"
            if http.transport is not None:
                http.transport.close()
            return head
        finally:
            if reader is not None:
                self._account(exchange, reader)
        await head.write_eof()
        return head

    def _account(self, exchange: Exchange, reader: Reader) -> None:
        """Note what an answer has reported, as far as it came; count one that has not."""
        if (report := reader.report()) is not None:
            exchange.reported(report)
        elif reader.unreadable or reader.may_report:
            reason = "coding" if reader.unreadable else "unreported"
            self._metrics.unmetered.labels(exchange.route, reason).inc()


def _asks_for_websocket(http: web.BaseRequest) -> bool:
    return http.headers.get("Upgrade", "").lower() == "websocket"


def _is_small_json(http: web.BaseRequest) -> bool:
    """Is the body one that may be read before it goes on?"""
    return (
        0 < (http.content_length or 0) <= SMALL
        and "json" in http.headers.get("Content-Type", "").lower()
        and http.headers.get("Content-Encoding", "identity").lower() == "identity"
    )


def _forwarded(
    http: web.BaseRequest,
    exchange: Exchange,
    options: dict[str, str],
    plain: str,
    data: bytes | list[bytes] | None,
) -> Forwarded:
    """What plugins are shown of a request."""
    exchange.session = headers.session(options)
    exchange.model = paths.deployment(exchange.path) or _model(http, data)
    return Forwarded(
        id=exchange.id,
        caller=exchange.caller or ANONYMOUS,
        session=exchange.session,
        options=options,
        method=exchange.method,
        path=plain,
        is_websocket=_asks_for_websocket(http),
        carries_messages=paths.carries_messages(plain),
        model=exchange.model,
        exchange=exchange,
    )


def _model(http: web.BaseRequest, data: bytes | list[bytes] | None) -> str | None:
    """The model that a WebSocket's query or a body names; None if nobody can be sure."""
    if _asks_for_websocket(http):
        named = http.query.getall("model", [])
        return named[0] if len(named) == 1 else None
    if not isinstance(data, bytes) or not data:
        return None
    try:
        model = strictjson.decode_object(data).get("model")
    except strictjson.JSONError:
        return None
    return model if isinstance(model, str) else None


def _makes_an_answer(forwarded: Forwarded, response: ClientResponse) -> bool:
    """Is the usage that the answer may report a new one, and not that of an answer long made?"""
    return (
        forwarded.method == "POST"
        and response.status < 300
        and not paths.is_of_stored(forwarded.path)
    )


async def _rest(
    begun: list[bytes], content: StreamReader, timeout: float
) -> AsyncGenerator[bytes, None]:
    for part in begun:
        yield part
    async with aclosing(arriving(content, timeout)) as parts:
        async for part in parts:
            yield part
