"""WebSocket by hand, on both sides: RFC 6455 without a library that is kind or strict."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .upstream import head

if TYPE_CHECKING:
    from .upstream import Call
    from .wire import Answer, WireClient

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class Frame:
    kind: int
    payload: bytes
    final: bool = True

    @property
    def code(self) -> int | None:
        """The status code of a close frame; None if it has none."""
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else None

    @property
    def reason(self) -> str:
        return self.payload[2:].decode()


class Socket:
    """One side of a WebSocket whose handshake is done."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_client: bool
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._mask = os.urandom(4) if is_client else b""

    async def send(self, kind: int, payload: bytes, *, final: bool = True) -> None:
        size = len(payload)
        masked = 0x80 if self._mask else 0
        first = kind | (0x80 if final else 0)
        if size < 126:
            start = struct.pack("!BB", first, masked | size)
        elif size < 1 << 16:
            start = struct.pack("!BBH", first, masked | 126, size)
        else:
            start = struct.pack("!BBQ", first, masked | 127, size)
        self._writer.write(start + self._mask + _masked(payload, self._mask))
        await self._writer.drain()

    async def close(self, code: int | None = None, reason: str = "") -> None:
        """Send a close frame; without a code, an empty one."""
        payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
        await self.send(CLOSE, payload)

    async def receive(self) -> Frame | None:
        """The next frame; None if the connection has ended."""
        try:
            first, second = await self._reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self._reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
            mask = await self._reader.readexactly(4) if second & 0x80 else b""
            payload = _masked(await self._reader.readexactly(size), mask)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Frame(first & 0x0F, payload, bool(first & 0x80))

    async def message(self) -> tuple[int, bytes]:
        """The next message, put together from its frames, and its kind."""
        data = b""
        frame = first = await self.receive()
        while frame is not None and first is not None:
            data += frame.payload
            if frame.final:
                return first.kind, data
            frame = await self.receive()
        raise ConnectionError("the connection ended")

    def abort(self) -> None:
        """End the connection without a close frame."""
        self._writer.transport.abort()


async def accept(call: Call, *headers: tuple[str, str]) -> Socket:
    """The upstream's side of a handshake."""
    key = (call.header("sec-websocket-key") or "") + _GUID
    digest = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    await call.send(
        head(
            "101 Switching Protocols",
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", digest),
            *headers,
        )
    )
    return Socket(call.reader, call.writer, is_client=False)


async def handshake(client: WireClient, target: str, *headers: tuple[str, str]) -> Answer:
    """The client's side: its answer is a 101, or the refusal."""
    await client.ask(
        "GET",
        target,
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        ("Sec-WebSocket-Version", "13"),
        *headers,
    )
    return await client.head("GET")


def client_socket(client: WireClient) -> Socket:
    return Socket(client.reader, client.writer, is_client=True)


def _masked(payload: bytes, mask: bytes) -> bytes:
    if not mask:
        return payload
    key = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")
