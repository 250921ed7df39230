"""WebSocket: messages both ways, close codes included, and an upstream's refusal as it is."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from . import headers, tasks
from .callers import KEY_PROTOCOL
from .connections import Refusal
from .listener import Whole, send_whole

if TYPE_CHECKING:
    from typing import TypeAlias

    from aiohttp import ClientWebSocketResponse

    from .connections import Connections
    from .exchange import Exchange

    Socket: TypeAlias = ClientWebSocketResponse | web.WebSocketResponse

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
_NO_STATUS = 1005  # "the close frame held no code"; not to be sent, RFC 6455, 7.4.1
_BROKEN = 1006  # "there was no close frame"


async def relay_websocket(
    http: web.BaseRequest, exchange: Exchange, connections: Connections, target: str
) -> web.StreamResponse:
    """Join a client's WebSocket to one of the upstream's, until either ends."""
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
        await client.prepare(http)
        await _join(client, upstream)
        if upstream.close_code == _BROKEN and http.transport is not None:
            http.transport.close()  # the client shall see that it broke, too
    finally:
        await upstream.close()
    return client


def _without_handshake(fields: Any) -> Any:
    for name in _HANDSHAKE:
        fields.popall(name, None)
    return fields


async def _join(client: web.WebSocketResponse, upstream: ClientWebSocketResponse) -> None:
    """Carry messages both ways until one side is closed."""
    pumps = {
        tasks.start(_pump(client, upstream), name="websocket to upstream"),
        tasks.start(_pump(upstream, client), name="websocket to client"),
    }
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)


async def _pump(source: Socket, sink: Socket) -> None:
    while True:
        message = await source.receive()
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await sink.ping(message.data)
        elif message.type is WSMsgType.PONG:
            await sink.pong(message.data)
        else:
            break
    if message.type is WSMsgType.CLOSE:
        code = 1000 if message.data == _NO_STATUS else message.data
        reason = (message.extra or "").encode()
        await sink.close(code=code, message=reason)
        await source.close(code=code, message=reason)
