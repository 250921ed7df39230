"""A proxy that runs in this process, with a client of it, and its turn log as values."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from proxy.serving.server import Server
from proxy.telemetry.turns import Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from proxy.config import Configuration

WAITED = 10.0
"""Seconds after which a line of the turn log does not come any more."""

_decode = msgspec.json.Decoder(Turn).decode


class TurnLog(asyncio.Protocol):
    """The reading end of a turn log, from `async with` to its end."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.fileno = -1
        """The writing end, for the server."""
        self._rest = b""
        self._came = asyncio.Event()
        self._ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        reading, self.fileno = os.pipe()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: self, os.fdopen(reading, "rb", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        os.close(self.fileno)
        await self._ended.wait()

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.turns += map(_decode, lines)
        self._came.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio calls it so
        self._ended.set()

    async def turn(self, number: int) -> Turn:
        """The turn with this number, 1 being the first.  TimeoutError if it does not come."""
        async with asyncio.timeout(WAITED):
            while len(self.turns) < number:
                self._came.clear()
                await self._came.wait()
        return self.turns[number - 1]


class RunningProxy:
    """A proxy that runs; `client` asks it, and `turn` tells what the proxy says of that."""

    def __init__(self, server: Server, log: TurnLog) -> None:
        self.server = server
        self._log = log
        self._asked = 0
        self.base_url = f"http://127.0.0.1:{server.port}/v1"
        self.client = AsyncOpenAI(
            api_key="sk-demo",
            base_url=self.base_url,
            max_retries=0,  # the first answer is the one that is told of
            http_client=DefaultAsyncHttpxClient(
                trust_env=False,  # there is no other proxy on the way to this machine
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # nor any certificate to be read
                event_hooks={"request": [self._count]},
            ),
        )

    async def _count(self, request: Any) -> None:
        self._asked += request.url.path.endswith("/chat/completions")

    async def turn(self) -> Turn:
        """The line of the newest chat completion that `client` asked for, when it has ended."""
        return await self._log.turn(max(1, self._asked))


@asynccontextmanager
async def running(configuration: Configuration) -> AsyncIterator[RunningProxy]:
    """Run a proxy.  When it has ended, its last spans have been sent."""
    async with TurnLog() as log:
        server = Server(configuration, turn_log=log.fileno)
        await server.start()
        try:
            # In a thread, because the client imports what it needs when it is made.
            proxy = await asyncio.to_thread(RunningProxy, server, log)
            async with proxy.client:
                yield proxy
        finally:
            await server.stop()
