"""The innermost call of the chain: a chat completion, asked of the upstream."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from cachetools import TTLCache

from . import coding, headers, sse, strictjson
from .asked import retry_after
from .connections import Connections, body_of
from .errors import InvalidRequest, PluginContractError, UpstreamTruncated
from .response import ChatResponse, FullResponse, StreamResponse
from .watch import AnswerFacts, StreamFacts, error_code

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp
    from multidict import CIMultiDict

    from .connections import Incoming
    from .exchange import Exchange
    from .settings import Upstream as UpstreamSettings
    from .wire import ChatRequest

RETRIED = frozenset((429, 500, 502, 503, 504))
MAX_RETRY_AFTER = 60.0
"""Seconds; an upstream that asks for more gets its answer passed on instead."""


class Upstream:
    """Sends a request as the chain left it, and makes an answer of what comes back."""

    def __init__(
        self,
        connections: Connections,
        settings: UpstreamSettings,
        *,
        transparent: bool,
        count: bool = True,
        capture: bool = False,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._transparent = transparent
        """No plugin will look: whatever coding the client takes is fine."""
        self._count = count
        """Usage that is missing will be counted."""
        self._capture = capture
        """Traces will hold the answer."""
        # Models whose upstream refused `stream_options`, for an hour.
        self._refused: TTLCache[str, None] = TTLCache(1_000, ttl=3_600)

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        """Ask the upstream.  Its errors are answers; APIError if there is no answer."""
        exchange = request.exchange
        exchange.sent = request
        exchange.source = "upstream"
        try:
            body, asked = self._body(request)
        except strictjson.JSONError as error:
            raise InvalidRequest(str(error), code="invalid_json") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise PluginContractError(f"the request cannot be written as JSON: {error}") from error
        response = await self._open(exchange, request, body, asked=asked)
        if asked and response.status in (400, 422):
            # Perhaps it does not know the field that we added.
            await _discard(response)
            response = await self._open(exchange, request, request.data(), asked=False)
            asked = False
            if response.status < 400:
                self._refused[request.model] = None
        if _is_stream(response, asked_for=request.stream):
            return self._stream(exchange, response, asked=asked)
        return await self._full(exchange, response)

    def _body(self, request: ChatRequest) -> tuple[bytes, bool]:
        """The bytes to send, and whether they ask for a usage that the client did not ask for."""
        body = request.data()
        if self._settings.stream_usage != "ask" or not request.stream:
            return body, False
        options = request.get("stream_options")
        if options is None:
            options = {}
        if not isinstance(options, dict) or "include_usage" in options:
            return body, False
        if request.model in self._refused:
            return body, False
        wanted = strictjson.encode({**options, "include_usage": True})
        try:
            return strictjson.splice(body, {"stream_options": wanted}), True
        except strictjson.JSONError:  # duplicate names: the upstream shall judge
            return body, False

    async def _open(
        self, exchange: Exchange, request: ChatRequest, body: bytes, *, asked: bool
    ) -> aiohttp.ClientResponse:
        """One logical call: with the retries that the operator wants, and no others."""
        fields = request.received.headers
        if asked or not self._transparent:
            fields = fields.copy()
            coding.ask_for_readable(fields)
        retries = 0
        while True:
            response = await self._connections.open(exchange, request.received.target, fields, body)
            if response.status not in RETRIED or retries == self._settings.retries:
                return response
            told = retry_after(response.headers)
            pause = 0.5 * 2.0**retries if told is None else told
            if pause > MAX_RETRY_AFTER:
                return response
            await _discard(response)
            exchange.attempts[-1].end_ns = exchange.now_ns()
            exchange.upstream_seconds += pause
            await asyncio.sleep(pause)
            retries += 1

    async def _full(self, exchange: Exchange, response: aiohttp.ClientResponse) -> FullResponse:
        start, attempt = time.perf_counter(), exchange.attempts[-1]
        try:
            data = await body_of(response)
        except BaseException:
            response.close()
            attempt.error_type = "upstream_truncated"
            raise
        finally:
            exchange.upstream_seconds += time.perf_counter() - start
            attempt.end_ns = exchange.now_ns()
        exchange.first_chunk = time.perf_counter() - exchange.start
        facts = AnswerFacts()
        read = coding.reader(response.headers.get("Content-Encoding", ""))
        if read is not None:
            plain = read(data)
            facts.read(plain)
            if self._capture:
                facts.kept.append(plain)
            if response.status >= 400:
                exchange.upstream_error = error_code(plain)
            elif response.status == 200 and not _framed(response) and not facts.complete:
                raise UpstreamTruncated("The upstream's answer broke off.")
        exchange.facts = facts
        return FullResponse(exchange, data, **_head(response))

    def _stream(
        self, exchange: Exchange, response: aiohttp.ClientResponse, *, asked: bool
    ) -> StreamResponse:
        head = _head(response)
        facts = StreamFacts(asked=asked, count=self._count, capture=self._capture)
        exchange.facts = facts
        compression = response.headers.get("Content-Encoding", "identity").lower()
        compressed = compression != "identity"
        decode = coding.reader(compression) if compressed else None
        as_it_came = compressed and (decode is None or (self._transparent and not asked))
        if compressed and not as_it_came:
            head["headers"].popall("Content-Encoding", None)
        if asked or (compressed and not as_it_came):
            head["headers"].popall("Content-Length", None)
        events = UpstreamEvents(
            self._connections.incoming(exchange, response),
            facts,
            framed=_framed(response),
            decode=decode,
            as_it_came=as_it_came,
        )
        return StreamResponse(exchange, events, **head)


class UpstreamEvents:
    """The events of an upstream's stream, whole ones at a time."""

    __slots__ = ("_as_it_came", "_decode", "_ended", "_facts", "_framed", "_incoming", "_splitter")

    def __init__(
        self,
        incoming: Incoming,
        facts: StreamFacts,
        *,
        framed: bool,
        decode: Callable[[bytes], bytes] | None,
        as_it_came: bool,
    ) -> None:
        self._incoming = incoming
        self._facts = facts
        self._framed = framed
        """HTTP itself would have told us of a missing end."""
        self._decode = decode
        self._as_it_came = as_it_came
        """The client takes the coding that the stream came in; we only look on, if we can."""
        self._splitter = sse.Splitter()
        self._ended = False

    async def read(self) -> bytes:
        """The next run of whole events; b"" at the proper end.  APIError if the stream breaks."""
        while not self._ended:
            data = await self._incoming.receive()
            if not data:
                return self._end()
            plain = data if self._decode is None else self._decode(data)
            if self._as_it_came:
                if self._decode is not None:
                    self._facts.feed(self._splitter.feed(plain))
                return data
            if (whole := self._splitter.feed(plain)) and (seen := self._facts.feed(whole)):
                return seen
        return b""

    def _end(self) -> bytes:
        self._ended = True
        rest = self._splitter.rest()
        seen = self._facts.feed(rest) if rest else b""
        readable = self._decode is not None or not self._as_it_came
        if readable and not self._framed and not self._facts.complete:
            self._incoming.attempt.error_type = UpstreamTruncated.code
            raise UpstreamTruncated("The upstream's answer broke off.")
        return b"" if self._as_it_came else seen

    async def close(self) -> None:
        """Stop it at once."""
        self._ended = True
        self._incoming.close()


def _is_stream(response: aiohttp.ClientResponse, *, asked_for: bool) -> bool:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return True
    # Some servers give a stream another name, or none, and clients do not look at it.
    return asked_for and response.status == 200 and not kind.endswith("json")


def _framed(response: aiohttp.ClientResponse) -> bool:
    """Would HTTP itself have told us of a missing end?"""
    coding = response.headers.get("Transfer-Encoding", "")
    return "Content-Length" in response.headers or "chunked" in coding.lower()


def _head(response: aiohttp.ClientResponse) -> dict[str, Any]:
    fields: CIMultiDict[str] = headers.for_client(response.headers.items())
    return {
        "status": response.status,
        "reason": response.reason,
        "headers": fields,
        "source": "upstream",
    }


async def _discard(response: aiohttp.ClientResponse) -> None:
    """Read an answer that nobody wants, so that its connection can be used again."""
    await body_of(response)
