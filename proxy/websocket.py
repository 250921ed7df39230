"""WebSocket: messages both ways, close codes included, and an upstream's refusal as it is."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from . import headers, tasks
from .callers import KEY_PROTOCOL
from .connections import Refusal
from .errors import APIError, InvalidRequest
from .listener import ClientTooSlow, Whole, send_whole
from .reports import message_report
from .settlement import tell_usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeAlias

    from aiohttp import ClientWebSocketResponse, WSMessage

    from .connections import Connections
    from .exchange import Exchange

    Socket: TypeAlias = ClientWebSocketResponse | web.WebSocketResponse
    Watch: TypeAlias = Callable[[str], Awaitable[APIError | None]]

# It logs the protocols a client offers, and browsers put their key among them.
logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)

# What each side's handshake writes for itself.
_HANDSHAKE = (
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
)
_OK = 1000  # stands for a close frame without a code, which aiohttp cannot send
_BROKEN = 1006  # "there was no close frame"
_REFUSED = 1008  # "a message that violates its policy"
_SENT = frozenset((WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG))

CLOSE_SECONDS = 2.0
"""How long a side may take to answer our close frame."""


async def relay_websocket(
    http: web.BaseRequest,
    exchange: Exchange,
    connections: Connections,
    target: str,
    write_timeout: float,
    added: Mapping[str, str],
) -> web.StreamResponse:
    """Join a client's WebSocket to one of the upstream's, until either ends.  ClientTooSlow.

    `added` are headers of the handshake's answer.
    """
    if not web.WebSocketResponse().can_prepare(http):
        raise InvalidRequest("The handshake is none of a WebSocket.")
    forwarded, _ = headers.for_upstream(http.headers.items())
    fields = _without_handshake(forwarded)
    offered = [
        protocol.strip()
        for protocol in http.headers.get("Sec-WebSocket-Protocol", "").split(",")
        if protocol.strip()
    ]
    if connections.has_key:  # then a key among the protocols is one of ours
        offered = [p for p in offered if not p.startswith(KEY_PROTOCOL)]
    try:
        upstream, head = await connections.open_websocket(exchange, target, fields, offered)
    except Refusal as refusal:
        exchange.status = refusal.status
        answer = Whole(
            status=refusal.status,
            reason=refusal.reason,
            body=refusal.body,
            headers=headers.for_client(refusal.headers),
        )
        answer.headers.update(added)
        await send_whole(http, answer, 60)
        return answer
    try:
        exchange.status = 101
        client = web.WebSocketResponse(
            protocols=(upstream.protocol,) if upstream.protocol else (),
            autoclose=False,
            autoping=False,
            max_msg_size=0,
        )
        client.headers.extend(_without_handshake(headers.for_client(head)))
        client.headers.update(added)
        await client.prepare(http)
        watch = partial(_count, exchange) if exchange.is_metered else None
        try:
            await _join(client, upstream, write_timeout, watch)
        except APIError as error:
            exchange.error = error
            exchange.status_word = "failed"
            exchange.termination = error.reported_code or "refused"
            await _close(upstream)  # first: when the client is gone, nothing more is done for it
            await _close(client, _REFUSED, exchange.termination.encode())
        if upstream.close_code == _BROKEN and http.transport is not None:
            http.transport.close()  # the client shall see that it broke, too
    finally:
        await _close(upstream)
    return client


def _without_handshake(fields: Any) -> Any:
    for name in _HANDSHAKE:
        fields.popall(name, None)
    return fields


async def _count(exchange: Exchange, message: str) -> APIError | None:
    """Tell plugins if an answer reports its usage; the reason, if one of them has enough."""
    report = message_report(message)
    if report is None:
        return None
    exchange.reported(report)
    # Not to be cancelled with the socket: what was used is to be paid.
    telling = tasks.start(tell_usage(exchange), name="websocket usage")
    exchange.rehearsals = [task for task in exchange.rehearsals if not task.done()] + [telling]
    return await asyncio.shield(telling)


async def _join(
    client: web.WebSocketResponse,
    upstream: ClientWebSocketResponse,
    write_timeout: float,
    watch: Watch | None,
) -> None:
    """Carry messages both ways until one side is closed.  The APIError that `watch` returns."""
    to_client = tasks.start(
        _pump(upstream, client, write_timeout, watch), name="websocket to client"
    )
    pumps = {
        to_client,
        tasks.start(_pump(client, upstream, write_timeout), name="websocket to upstream"),
    }
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
        failures = {pump: pump.exception() for pump in pumps if not pump.cancelled()}
    if isinstance(failures.get(to_client), TimeoutError):
        raise ClientTooSlow
    for failure in failures.values():
        if failure is not None and not isinstance(failure, (ConnectionError, TimeoutError)):
            raise failure


async def _pump(
    source: Socket, sink: Socket, write_timeout: float, watch: Watch | None = None
) -> None:
    while True:
        message = await source.receive()
        if message.type not in _SENT:
            break
        async with asyncio.timeout(write_timeout or None):
            await _send(sink, message)
        if watch is not None and message.type is WSMsgType.TEXT:
            verdict = await watch(message.data)
            if verdict is not None:
                raise verdict
    if message.type is WSMsgType.CLOSE:
        code, reason = message.data or _OK, (message.extra or "").encode()
        await _close(sink, code, reason)
        await _close(source, code, reason)
    elif message.type is WSMsgType.CLOSING:  # the other pump says goodbye, to both sides
        await asyncio.sleep(2 * CLOSE_SECONDS)


async def _send(sink: Socket, message: WSMessage) -> None:
    if message.type is WSMsgType.TEXT:
        await sink.send_str(message.data)
    elif message.type is WSMsgType.BINARY:
        await sink.send_bytes(message.data)
    elif message.type is WSMsgType.PING:
        await sink.ping(message.data)
    else:
        await sink.pong(message.data)


async def _close(socket: Socket, code: int = _OK, reason: bytes = b"") -> None:
    """Say goodbye; a side that does not say it in return, or cannot stop talking, is left."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await socket.close(code=code, message=reason)
