"""A proxy on a real socket, in the process of the test."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import msgspec
from openai import AsyncOpenAI

from proxy.serving.server import Server
from proxy.startup import load

if TYPE_CHECKING:
    from pathlib import Path


class RunningProxy:
    """A proxy that runs until stop()."""

    def __init__(self, server: Server, turn_log: int) -> None:
        self.server = server
        self._turn_log = turn_log
        self._lines = b""
        self.stopped = False

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/v1"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.server.admin_port}"

    def client(self, **options: Any) -> AsyncOpenAI:
        """The real client.  It does not retry, so that a test sees the first answer."""
        options = {"api_key": "sk-test", "max_retries": 0, **options}
        return AsyncOpenAI(base_url=self.base_url, **options)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection to the API."""
        return await asyncio.open_connection("127.0.0.1", self.server.port, limit=1 << 26)

    async def turns(self, count: int = 1, seconds: float = 5) -> list[dict[str, Any]]:
        """The next lines of the turn log."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._lines.count(b"\n") < count:
            assert loop.time() < deadline, f"only {self._lines!r} came"
            try:
                self._lines += os.read(self._turn_log, 1 << 16)
            except BlockingIOError:
                await asyncio.sleep(0.01)
        *lines, rest = self._lines.split(b"\n", count)
        self._lines = rest
        return [msgspec.json.decode(line) for line in lines]

    async def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            await self.server.stop()
            os.close(self._turn_log)


async def start_proxy(folder: Path, upstream: str, toml: str = "") -> RunningProxy:
    """Start a proxy in front of an upstream, with more of a configuration if that is given.

    `[upstream]` and `[server]` are there already; their settings stand in the text as dotted keys
    (`upstream.idle_timeout = "1 s"`), before the first table.
    """
    path = folder / "dragoman.toml"
    path.write_text(toml)
    flags = {"--upstream": upstream, "--port": "0", "--admin-port": "0"}
    configuration = await asyncio.to_thread(load, path, flags, {})
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    server = Server(configuration, turn_log=write_end)
    await server.start()
    return RunningProxy(server, read_end)
