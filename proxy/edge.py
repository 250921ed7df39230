"""The edge: HTTP in, values for the chain, HTTP out."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import HttpVersion11

from . import access, headers, sse, strictjson
from .body import Body
from .callers import ANONYMOUS
from .endpoints import CLIENTS
from .errors import (
    APIError,
    BodyTooLarge,
    InternalError,
    InvalidRequest,
    ShuttingDown,
    UnsupportedEncoding,
)
from .exchange import Exchange
from .listener import ClientTooSlow, Head, Output, Whole, check_framing, error_answer, send_whole
from .paths import plainly
from .response import FullResponse, StreamResponse
from .shown import show, showing
from .throttle import Throttle
from .wire import ChatRequest, Received

if TYPE_CHECKING:
    from aiohttp import web
    from multidict import CIMultiDict

    from .body import BodyBudget
    from .callers import Callers
    from .endpoints import Endpoints
    from .passthrough import Passthrough
    from .plugin import CallNext
    from .response import ChatResponse
    from .settings import Server
    from .settlement import Settlement
    from .telemetry import Telemetry

log = logging.getLogger("dragoman.edge")
_warnings = Throttle()

CHAT = "/v1/chat/completions"
_GOING_DOWN = "The proxy is shutting down."


class Edge:
    """Serves every request of the API listener."""

    def __init__(
        self,
        settings: Server,
        callers: Callers,
        chain: CallNext,
        passthrough: Passthrough,
        endpoints: Endpoints,
        telemetry: Telemetry,
        settlement: Settlement,
        budget: BodyBudget,
        *,
        transparent: bool,
    ) -> None:
        self._settings = settings
        self._callers = callers
        self._chain = chain
        self._passthrough = passthrough
        self._endpoints = endpoints
        self._telemetry = telemetry
        self._settlement = settlement
        self._budget = budget
        self._transparent = transparent
        """There are no plugins: whatever a client sends goes on, and nobody needs to read it."""
        self.active: set[asyncio.Task[object]] = set()
        self.stopping = False
        """What still runs is being cut off."""

    async def __call__(self, http: web.BaseRequest) -> web.StreamResponse:
        """Serve one request, and account for it however it ends."""
        path = http.raw_path.partition("?")[0]
        is_chat = http.method == "POST" and _is_chat(path)
        exchange = Exchange(
            headers.valid_request_id(http.headers.get("x-request-id"))
            or f"req_{random.getrandbits(128):032x}",
            http.method,
            CHAT if is_chat else path,
            CHAT if is_chat else self._route(path),
            is_chat=is_chat,
        )
        task = asyncio.current_task()
        assert task is not None
        self.active.add(task)
        self._telemetry.begin(exchange, http)
        try:
            if http.version < HttpVersion11:
                check_framing(http)
            if is_chat:
                return await self._chat(http, exchange)
            return await self._forward(http, exchange)
        except APIError as error:
            return await self._refuse(http, exchange, error)
        except asyncio.CancelledError:
            if not self._cut_off(http, task):
                self._client_left(exchange)
                raise
            return await self._refuse(http, exchange, ShuttingDown(_GOING_DOWN))
        except (ConnectionError, ClientTooSlow) as error:
            self._client_left(exchange, too_slow=isinstance(error, ClientTooSlow))
            if http.transport is not None:
                http.transport.abort()
            return Whole(status=499)
        except Exception as error:
            log.exception("exchange %s failed: %s", exchange.id, type(error).__name__)
            return await self._refuse(http, exchange, InternalError("The proxy made a mistake."))
        finally:
            self.active.discard(task)
            self._settlement.settle(exchange)

    def _route(self, path: str) -> str:
        return self._endpoints.route(path) or self._passthrough.route(path)

    async def _of_plugins(self, http: web.BaseRequest, exchange: Exchange) -> web.StreamResponse:
        assert exchange.caller is not None
        answer = await self._endpoints.answer(http, exchange.caller)
        exchange.status, exchange.source = answer.status, "local"
        self._with_ours(answer.headers, exchange)
        await send_whole(http, answer, self._settings.write_timeout)
        return answer

    # ---- a chat completion

    async def _chat(self, http: web.BaseRequest, exchange: Exchange) -> web.StreamResponse:
        exchange.caller = self._callers.identify(http.headers)
        unread = self._transparent and not exchange.caller.models
        body = self._body()
        try:
            data = await body.read(http)
            request = self._request(http, exchange, data, unread=unread)
            response = await self._chain(request)
            try:
                if isinstance(response, StreamResponse):
                    return await self._send_stream(http, exchange, response)
                return await self._send_full(http, exchange, response)
            finally:
                await response.close()
        except BodyTooLarge:
            if not unread:
                raise
            # Nobody wants to look at it: it can pass as it comes, whatever its length.
            return await self._passthrough(http, exchange, begun=body.parts)
        finally:
            body.release()

    async def _forward(self, http: web.BaseRequest, exchange: Exchange) -> web.StreamResponse:
        """Another endpoint; its body is read only for a key that may not ask every model."""
        caller = exchange.caller = self._callers.identify(http.headers)
        if exchange.path.startswith(CLIENTS):
            return await self._of_plugins(http, exchange)
        if not caller.models or access.asks_no_model(http):
            return await self._passthrough(http, exchange)
        access.check_path(exchange.path)
        body = self._body()
        try:
            data = await body.read(http)
            fields, _ = headers.for_upstream(http.headers.items())
            access.check(caller, _decoded(http, Received(data, fields)))
            return await self._passthrough(http, exchange, begun=[data])
        finally:
            body.release()

    def _body(self) -> Body:
        limit, timeout = self._settings.max_body, self._settings.body_timeout
        return Body(self._budget, limit=limit, timeout=timeout)

    def _request(
        self, http: web.BaseRequest, exchange: Exchange, data: bytes, *, unread: bool
    ) -> ChatRequest:
        """Make a value of the request.  InvalidRequest if it has to be read and cannot be."""
        fields, options = headers.for_upstream(http.headers.items())
        received = Received(data, fields, http.raw_path.removeprefix("/v1"))
        if not unread:  # decoded once, strictly, before any plugin looks
            access.check(exchange.caller or ANONYMOUS, _decoded(http, received))
        exchange.session = headers.session(options)
        request = ChatRequest(
            id=exchange.id,
            caller=exchange.caller or ANONYMOUS,
            session=exchange.session,
            options=options,
            deadline=None,
            received=received,
            exchange=exchange,
        )
        exchange.model = request.model or None
        exchange.stream = request.stream
        return request

    async def _send_full(
        self, http: web.BaseRequest, exchange: Exchange, response: ChatResponse
    ) -> web.StreamResponse:
        assert isinstance(response, FullResponse)
        exchange.status = response.status
        answer = Whole(
            status=response.status,
            reason=response.reason,
            body=response.data,
            headers=self._with_ours(response.headers, exchange),
        )
        await send_whole(http, answer, self._settings.write_timeout)
        if exchange.viewers:
            show(exchange, response)
            show(exchange, None)
        return answer

    async def _send_stream(
        self, http: web.BaseRequest, exchange: Exchange, response: StreamResponse
    ) -> web.StreamResponse:
        exchange.status = response.status
        fields = self._with_ours(response.headers, exchange)
        head = Head(status=response.status, reason=response.reason, headers=fields)
        output = Output(http, await head.prepare(http), self._settings.write_timeout)
        beating = output.start_heartbeat(0 if _is_sealed(head) else self._settings.heartbeat)
        try:
            try:
                await response.send(showing(exchange, output.write))
                show(exchange, None)
            finally:
                if beating is not None:
                    beating.cancel()
        except APIError as error:
            await self._break_off(http, exchange, output, head, error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not self._cut_off(http, task):
                raise
            await self._break_off(http, exchange, output, head, ShuttingDown(_GOING_DOWN))
        else:
            await head.write_eof()
        return head

    async def _break_off(
        self,
        http: web.BaseRequest,
        exchange: Exchange,
        output: Output,
        head: Head,
        error: APIError,
    ) -> None:
        """End a stream that cannot go on: with an error event, or where that is impossible by
        closing the connection; never so that it looks complete."""
        self._note(exchange, error)
        if _is_sealed(head):
            if http.transport is not None:
                http.transport.close()
            return
        await output.write(sse.encode(msgspec.json.encode(error.body())))
        await head.write_eof()

    # ---- how it ends

    def _with_ours(self, fields: CIMultiDict[str], exchange: Exchange) -> CIMultiDict[str]:
        """Add what only we know: the request's id where the upstream named none, our share of the
        time, our place in the trace."""
        if "x-request-id" not in fields:
            fields["x-request-id"] = exchange.id
        ours = time.perf_counter() - exchange.start - exchange.upstream_seconds
        fields["x-dragoman-overhead-ms"] = f"{ours * 1e3:.2f}"
        if exchange.trace is not None:
            fields["traceresponse"] = exchange.trace.parent_of(exchange.trace.span_id)
        return fields

    async def _refuse(
        self, http: web.BaseRequest, exchange: Exchange, error: APIError
    ) -> web.StreamResponse:
        """Answer with an error of ours."""
        self._note(exchange, error)
        if http.writer.output_size:  # the head is out: only a broken connection can take it back
            if http.transport is not None:
                http.transport.close()
            return Whole(status=error.status)
        exchange.status = error.status
        answer = error_answer(error)
        self._with_ours(answer.headers, exchange)
        try:
            await send_whole(http, answer, self._settings.write_timeout)
        except (ConnectionError, ClientTooSlow):
            self._client_left(exchange)
        return answer

    def _note(self, exchange: Exchange, error: APIError) -> None:
        exchange.error = error
        exchange.status_word = "failed"
        exchange.termination = error.reported_code or "refused"
        if exchange.source == "upstream":
            exchange.source = "error"
        if error.level >= logging.WARNING and _warnings.allows(error.reported_code):
            log.log(error.level, "exchange %s: %s", exchange.id, error.reported_code)

    def _client_left(self, exchange: Exchange, *, too_slow: bool = False) -> None:
        exchange.status = 499  # as nginx counts them
        exchange.status_word = "cancelled"
        exchange.termination = "client_slow" if too_slow else "client_closed"

    def _cut_off(self, http: web.BaseRequest, task: asyncio.Task[object]) -> bool:
        """Was it us who cancelled, because the proxy stops, and is the client still there?"""
        if not self.stopping or http.transport is None or http.transport.is_closing():
            return False
        task.uncancel()
        return True


def _is_chat(path: str) -> bool:
    """Is it the chain's?  However it is spelled: an upstream may not care, and plugins must."""
    return path == CHAT or (path.startswith("/v1/") and plainly(path) == CHAT)


def _decoded(http: web.BaseRequest, received: Received) -> dict[str, Any]:
    if http.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedEncoding("Send the body uncompressed: the proxy has to read it.")
    try:
        return received.body
    except strictjson.JSONError as error:
        raise InvalidRequest(str(error), code="invalid_json") from None


def _is_sealed(head: Head) -> bool:
    """Must the body be the upstream's and nothing else, because its length or coding is told?"""
    return "Content-Length" in head.headers or "Content-Encoding" in head.headers
