"""The load generator: keep-alive connections that ask the same again and again.

Every answer is compared with what the upstream sent, byte for byte once its framing is taken off;
what differs is counted by what is wrong with it.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from time import perf_counter
from typing import cast

PATIENCE = 30.0
"""Seconds for which an answer may be missing when the time of a measure is over."""


class Load:
    """So many connections, each with one request at a time."""

    def __init__(
        self,
        port: int,
        request: bytes,
        expected: bytes,
        *,
        connections: int = 1,
        each: float = math.inf,
        ramp: float = 0.0,
    ) -> None:
        """Each connection asks at most `each` times; they open over `ramp` seconds."""
        self._port = port
        self.request = request
        self._expected = expected
        self._connections = connections
        self.each = each
        self._ramp = ramp
        self._deadline = math.inf
        self.latencies: list[float] = []
        """Seconds from a request to its whole answer."""
        self.firsts: list[float] = []
        """Seconds from a request to the first event of its stream."""
        self.wrong: Counter[str] = Counter()

    async def run(self, seconds: float = math.inf) -> None:
        """Ask for so long, or as often as `each` says; wait for the last answers."""
        start = perf_counter()
        self._deadline = start + seconds
        spread = self._ramp / self._connections
        running = []
        try:
            async with asyncio.timeout(min(seconds, 60) + self._ramp + PATIENCE):
                for index in range(self._connections):
                    if (early := start + index * spread - perf_counter()) > 0:
                        await asyncio.sleep(early)
                    running.append(await self._open())
                await asyncio.wait([connection.ended for connection in running])
        except (OSError, TimeoutError) as error:
            self.wrong[f"no answer: {type(error).__name__}"] += 1
        finally:
            for connection in running:
                connection.close()

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self, loop), "127.0.0.1", self._port
        )
        return connection

    @property
    def is_over(self) -> bool:
        return perf_counter() >= self._deadline

    def judge(self, status: bytes, body: bytes | None) -> None:
        """Count an answer that is not as it should be."""
        if body is None:
            self.wrong["framed wrongly"] += 1
        elif status != b"200":
            self.wrong[f"status {status.decode()}: {body[:80]!r}"] += 1
        elif body != self._expected:
            pairs = enumerate(zip(body, self._expected, strict=False))
            same = next((at for at, (got, sent) in pairs if got != sent), len(body))
            self.wrong[f"differs from byte {same}: {body[same : same + 40]!r}"] += 1


class _Connection(asyncio.Protocol):
    def __init__(self, load: Load, loop: asyncio.AbstractEventLoop) -> None:
        self._load = load
        self._left = load.each
        self.ended: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport
        self._held = bytearray()
        self._head = self._needed = 0
        self._start = self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        if self._left < 1 or self._load.is_over:
            self.ended.set_result(None)
            return
        self._left -= 1
        self._held.clear()
        self._head = self._needed = 0
        self._first = 0.0
        self._start = perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        held = self._held
        held += data
        if not self._head and not self._read_head():
            return
        if not self._first and (self._needed or b"data:" in data):
            self._first = perf_counter()
        if len(held) >= self._needed if self._needed else held.endswith(b"\r\n0\r\n\r\n"):
            self._answered()

    def _read_head(self) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._head = end + 4
        head = bytes(self._held[:end]).lower()
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:  # what has none is chunked
            self._needed = self._head + int(head[at + 17 :].partition(b"\r\n")[0])
        return True

    def _answered(self) -> None:
        now, load = perf_counter(), self._load
        body = bytes(self._held[self._head :])
        load.judge(bytes(self._held[9:12]), body if self._needed else unchunked(body))
        load.latencies.append(now - self._start)
        load.firsts.append(self._first - self._start)
        self._ask()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.ended.done():
            self._load.wrong["closed before the answer was whole"] += 1
            self.ended.set_result(None)

    def close(self) -> None:
        if not self.ended.done():
            self.ended.cancel()
            self._load.wrong["an answer never came"] += 1
        self._transport.abort()


def unchunked(framed: bytes) -> bytes | None:
    """What a chunked body holds; None if it is framed wrongly."""
    parts, at = [], 0
    while (end := framed.find(b"\r\n", at)) > at:
        try:
            size = int(framed[at:end], 16)
        except ValueError:
            return None
        part, at = framed[end + 2 : end + 2 + size], end + size + 4
        if framed[at - 2 : at] != b"\r\n":
            return None
        if not size:
            return b"".join(parts) if at == len(framed) else None
        parts.append(part)
    return None
