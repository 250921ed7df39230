"""Builds the two listeners and what stands behind them; starts, drains and stops it all."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from aiohttp import http_parser

from proxy import tasks
from proxy.admin import Admin
from proxy.body import BodyBudget
from proxy.connections import Connections
from proxy.derive import Root
from proxy.errors import ConfigError
from proxy.keys.snapshot import Snapshot
from proxy.keys.table import KeyTable
from proxy.listener import Listener
from proxy.loop_watch import LoopWatch
from proxy.metering import Meter
from proxy.store import open_store
from proxy.telemetry import Telemetry
from proxy.tokens import Tokenizer

from .generation import Generation, House, pace
from .ports import not_to_be_had

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aiohttp import web

    from proxy.config import Configuration
    from proxy.endpoints import Endpoints
    from proxy.seat import Seat
    from proxy.telemetry import Metrics

log = logging.getLogger("dragoman")

START_SECONDS = 60.0
"""How long plugins of a configuration that was read again may take to start."""

RETIRE_SECONDS = 600.0
"""How long a plugin that is gone from the configuration waits for the requests that use it."""


class Server:
    """One process of the proxy.  To be made on the event loop that serves."""

    def __init__(
        self, configuration: Configuration, *, turn_log: int | None = None, seat: Seat | None = None
    ) -> None:
        """`turn_log` is a file descriptor to write the turn log to, in place of stdout; `seat` is
        for one of several processes."""
        settings = configuration.settings
        self._configuration = configuration
        self._seat = seat
        self._stack = AsyncExitStack()
        self._tasks = tasks.Tasks()
        self._root = seat.root if seat else Root(settings.store.secret)
        self._telemetry = Telemetry(settings, turn_log=turn_log, seat=seat)
        self._tokens = Tokenizer(encodings=settings.tokens.encodings)
        self._connections = Connections(settings.upstream)
        self._budget = BodyBudget(settings.server.max_body_in_flight, self._telemetry.metrics)
        self._house: House | None = None
        self._stored: Snapshot | None = None
        self._generations: list[Generation] = []
        """The newest is the last; those before it have requests that are not at their end."""
        self._retiring: set[asyncio.Task[None]] = set()
        self._not_ready: str | None = "starting"
        self._sockets: list[asyncio.Server] = []
        self._listeners: list[Listener] = []

    @property
    def configuration(self) -> Configuration:
        """What requests that begin now are served by."""
        return self._configuration

    @property
    def metrics(self) -> Metrics:
        return self._telemetry.metrics

    # ---- start

    async def start(self) -> None:
        """Open everything and listen.  ConfigError if an address cannot be had."""
        _check_parser()
        try:
            await self._build()
        except BaseException:
            await self._stack.aclose()
            raise
        self._not_ready = None

    async def _build(self) -> None:
        settings, telemetry = self._configuration.settings, self._telemetry
        await telemetry.start()
        self._stack.push_async_callback(telemetry.close)
        self._stack.callback(self._tokens.close)
        await self._connections.start()
        self._stack.push_async_callback(self._connections.close)
        if settings.tokens.preload:
            await self._tokens.load()
        store = await open_store(settings.store, telemetry.metrics)
        self._stack.push_async_callback(store.close)
        if settings.store.keys:
            self._stored = Snapshot(KeyTable(store), telemetry.metrics)
            self._stack.push_async_callback(self._stored.stop)
            await self._stored.start()
        pace(self._connections, settings.upstream, store, telemetry.metrics)
        self._house = House(
            telemetry=telemetry,
            tokens=self._tokens,
            meter=Meter(self._tokens, telemetry.metrics, str(settings.upstream.base_url)),
            tasks=self._tasks,
            root=self._root,
            store=store,
            stored=self._stored,
            budget=self._budget,
            connections=self._connections,
        )
        generation = Generation(self._configuration, self._house)
        await generation.start()
        self._generations.append(generation)
        self._stack.push_async_callback(self._close_newest)
        watch = LoopWatch(telemetry.metrics.loop_lag)
        self._stack.callback(watch.stop)
        server, seat = settings.server, self._seat
        api = Listener(self._handle, server)
        await self._listen(api, server.host, seat.port if seat else server.port)
        admin = Listener(Admin(telemetry.metrics, self._why_not_ready, self._endpoints), server)
        await self._listen(admin, server.admin_host, seat.admin_port if seat else server.admin_port)
        self._stack.push_async_callback(admin.shutdown, 1)

    def _why_not_ready(self) -> str | None:
        if self._stored and not self._stored.is_ready and not self._configuration.settings.keys:
            return self._not_ready or "keys unavailable"
        return self._not_ready

    def _endpoints(self) -> Endpoints:
        return self._generations[-1].endpoints

    def _handle(self, http: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        return self._generations[-1].edge(http)

    async def _listen(self, listener: Listener, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        shared = self._seat is not None
        try:
            server = await loop.create_server(
                listener, host, port, backlog=4096, reuse_port=shared or None
            )
        except OSError as error:
            raise not_to_be_had(host, port, error) from error
        self._sockets.append(server)
        self._listeners.append(listener)

    @property
    def port(self) -> int:
        """Where clients connect: the port that port 0 became."""
        return int(self._sockets[0].sockets[0].getsockname()[1])

    @property
    def admin_port(self) -> int:
        return int(self._sockets[1].sockets[0].getsockname()[1])

    # ---- another configuration

    async def adopt(self, configuration: Configuration) -> None:
        """Serve the requests that begin from now on by another configuration, of which what only
        a start can change is as it was.  ConfigError if a plugin cannot start: nothing changes."""
        assert self._house is not None
        old = self._generations[-1]
        new = Generation(configuration, self._house, old)
        try:
            async with asyncio.timeout(START_SECONDS):
                await new.start()
        except TimeoutError:
            raise ConfigError([f"plugins did not start within {START_SECONDS:g} s"]) from None
        self._configuration = configuration
        self._generations.append(new)
        settings = configuration.settings.server
        self._budget.limit = settings.max_body_in_flight
        for listener in self._listeners:
            listener.limit = settings.max_connections
        retiring = tasks.start(self._retire(old, new), name="plugins that are gone")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _retire(self, old: Generation, new: Generation) -> None:
        """Stop what the newer generation does without, when the last request that uses it ended."""
        try:
            async with asyncio.timeout(RETIRE_SECONDS):
                # What is shared with still older ones is in use while they are.
                for generation in self._generations[: self._generations.index(new)]:
                    await generation.ended()
                await self._tasks.settle(RETIRE_SECONDS)
        except TimeoutError:
            log.warning("plugins that are gone are stopped, although requests still use them")
        finally:
            await old.close(new)
            self._generations.remove(old)

    async def _close_newest(self) -> None:
        await self._generations[-1].close()

    # ---- stop

    async def stop(self, *, abandoned: bool = False) -> None:
        """Drain: say so, stop accepting, let answers finish, cut off the rest, settle, close.

        Who is `abandoned` by the process that started it leaves both ports to its successor at
        once.
        """
        settings = self._configuration.settings.server
        self._not_ready = "draining"
        if abandoned:
            self._sockets[-1].close()
        else:
            await asyncio.sleep(settings.grace)
        if self._sockets:
            self._sockets[0].close()
        if self._listeners:
            await self._drain(self._listeners[0], settings.drain)
        await self._tasks.drain(5)
        for retiring in list(self._retiring):
            retiring.cancel()
            await asyncio.wait([retiring])
        if len(self._sockets) > 1:
            self._sockets[1].close()
        await self._stack.aclose()

    async def _drain(self, api: Listener, seconds: float) -> None:
        edges = [generation.edge for generation in self._generations]
        api.finish()
        active = {task for edge in edges for task in edge.active}
        running = len(active)
        await _until_empty(active, seconds)
        cut_off = {task for edge in edges for task in edge.active}
        for edge in edges:
            edge.stopping = True
        for task in cut_off:
            task.cancel()
        await _until_empty(cut_off, 2)
        await api.shutdown(0.1)
        if running:
            log.info("drained %d exchanges, cut off %d", running - len(cut_off), len(cut_off))


async def _until_empty(active: set[asyncio.Task[object]], seconds: float) -> None:
    if active:
        await asyncio.wait(active, timeout=seconds)


def _check_parser() -> None:
    # The pure Python parser takes bytes after `Upgrade` for a second request, among other things.
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(["aiohttp's C parser is missing; without it this is not safe to run"])
