"""Builds the two listeners and what stands behind them; starts, drains and stops it all."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import sys
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import uvloop
from aiohttp import http_parser

from . import logs
from .admin import Admin
from .admission import Admission
from .body import BodyBudget
from .callers import Callers
from .chain import build
from .connections import Connections
from .derive import Root
from .edge import Edge
from .endpoints import Endpoints
from .errors import ConfigError
from .keys.snapshot import Snapshot
from .keys.table import KeyTable
from .listener import Listener
from .loop_watch import LoopWatch
from .metering import Meter
from .pacing import Pacer
from .passthrough import Passthrough
from .registry import build_layers
from .services import Services
from .settlement import Settlement
from .startup import startup_lines
from .store import open_store
from .tasks import Tasks, is_cancellation
from .telemetry import Telemetry
from .tokens import Tokenizer
from .upstream import Upstream

if TYPE_CHECKING:
    from aiohttp import web

    from .config import Configuration
    from .layer import Layer
    from .store import Store

log = logging.getLogger("dragoman")

STOP_SECONDS = 5.0
"""How long a plugin's stop() may take."""


class Server:
    """One process of the proxy.  To be made on the event loop that serves."""

    def __init__(self, configuration: Configuration, *, turn_log: int | None = None) -> None:
        """`turn_log` is a file descriptor to write the turn log to, in place of stdout."""
        settings = configuration.settings
        self.settings = settings
        self._configuration = configuration
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._root = Root(settings.store.secret)
        self._telemetry = Telemetry(settings, turn_log=turn_log)
        self._tokens = Tokenizer(encodings=settings.tokens.encodings)
        self._connections = Connections(settings.upstream)
        self._meter = Meter(self._tokens, self._telemetry.metrics, str(settings.upstream.base_url))
        self._stored: Snapshot | None = None
        self._edge: Edge | None = None
        self._not_ready: str | None = "starting"
        self._sockets: list[asyncio.Server] = []
        self._api: Listener | None = None

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
        settings, telemetry = self.settings, self._telemetry
        await telemetry.start()
        self._stack.push_async_callback(telemetry.close)
        self._stack.callback(self._tokens.close)
        self._connections.propagate = settings.telemetry.propagate_upstream
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
        if settings.upstream.pace.requests is not None:
            self._connections.pacer = Pacer(settings.upstream, store, telemetry.metrics)
        layers = build_layers(self._configuration.plugins, partial(self._services, store))
        for layer in layers:
            self._stack.push_async_callback(_stop, layer)
            await _start(layer)
        upstream = Upstream(
            self._connections,
            settings.upstream,
            transparent=not layers,
            count=settings.telemetry.estimate_usage,
            capture=telemetry.captures_content,
        )
        bodies = BodyBudget(settings.server.max_body_in_flight, telemetry.metrics)
        endpoints = Endpoints((e for layer in layers for e in layer.plugin.endpoints()), bodies)
        self._edge = Edge(
            settings.server,
            Callers(
                settings.keys,
                ours_only=settings.upstream.api_key is not None,
                secret=self._root.secret("callers"),
                stored=self._stored,
            ),
            build(layers, upstream, self._meter.local),
            Passthrough(
                self._connections, settings.server, telemetry.metrics, Admission(layers), bodies
            ),
            endpoints,
            telemetry,
            Settlement(settings, self._meter, self._tasks, telemetry),
            bodies,
            transparent=not layers,
        )
        self._api = Listener(self._edge, settings.server)
        watch = LoopWatch(telemetry.metrics.loop_lag)
        self._stack.callback(watch.stop)
        await self._listen(self._api, settings.server.host, settings.server.port)
        admin = Listener(Admin(telemetry.metrics, self._why_not_ready, endpoints), settings.server)
        await self._listen(admin, settings.server.admin_host, settings.server.admin_port)
        self._stack.push_async_callback(admin.shutdown, 1)

    def _why_not_ready(self) -> str | None:
        if self._stored and not self._stored.is_ready and not self.settings.keys:
            return self._not_ready or "keys unavailable"
        return self._not_ready

    def _services(self, store: Store, name: str) -> Services:
        return Services.of(
            name,
            tokens=self._tokens,
            http=self._connections.session,
            store=store,
            telemetry=self._telemetry,
            tasks=self._tasks,
            upstream=str(self.settings.upstream.base_url),
            root=self._root,
        )

    async def _listen(self, listener: web.Server, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(listener, host, port, backlog=4096)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            if error.errno == errno.EADDRINUSE:
                reason += "; is another proxy running?"
            raise ConfigError([f"cannot listen on {host}:{port}: {reason}"]) from error
        self._sockets.append(server)

    @property
    def port(self) -> int:
        """Where clients connect: the port that port 0 became."""
        return int(self._sockets[0].sockets[0].getsockname()[1])

    @property
    def admin_port(self) -> int:
        return int(self._sockets[1].sockets[0].getsockname()[1])

    # ---- stop

    async def stop(self) -> None:
        """Drain: say so, stop accepting, let answers finish, cut off the rest, settle, close."""
        settings, edge = self.settings.server, self._edge
        self._not_ready = "draining"
        await asyncio.sleep(settings.grace)
        if self._sockets:
            self._sockets[0].close()
        if self._api is not None and edge is not None:
            self._api.finish()
            running = len(edge.active)
            await _until_empty(edge.active, settings.drain)
            cut_off = len(edge.active)
            edge.stopping = True
            for task in list(edge.active):
                task.cancel()
            await _until_empty(edge.active, 2)
            await self._api.shutdown(0.1)
            if running:
                log.info("drained %d exchanges, cut off %d", running - cut_off, cut_off)
        await self._tasks.drain(5)
        if len(self._sockets) > 1:
            self._sockets[1].close()
        await self._stack.aclose()


async def _until_empty(active: set[asyncio.Task[object]], seconds: float) -> None:
    if active:
        await asyncio.wait(list(active), timeout=seconds)


async def _start(layer: Layer) -> None:
    try:
        await layer.plugin.start()
    except ConfigError:
        raise
    except Exception as error:
        log.exception("plugin %s cannot start", layer.name)
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError([f"plugin {layer.name} cannot start: {reason}"]) from error


async def _stop(layer: Layer) -> None:
    """Stop a plugin; if it fails, the others are still to be stopped."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await layer.plugin.stop()
    except BaseException as error:
        if is_cancellation(error):
            raise
        log.exception("plugin %s did not stop: %s", layer.name, type(error).__name__)


def _check_parser() -> None:
    # The pure Python parser takes bytes after `Upgrade` for a second request, among other things.
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(["aiohttp's C parser is missing; without it this is not safe to run"])


def run(configuration: Configuration) -> int:
    """Serve until SIGTERM or SIGINT; a second one exits at once.  Returns the exit code."""
    logs.start(configuration.settings.server.log_level)
    _raise_file_limit()
    try:
        uvloop.run(_serve(configuration))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


async def _serve(configuration: Configuration) -> None:
    server = Server(configuration)
    stop = asyncio.Event()

    def asked_to_stop() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    await server.start()
    gc.freeze()  # what is there now stays: the collector need not look at it again
    for line in startup_lines(configuration, port=server.port, admin_port=server.admin_port):
        print(line, file=sys.stderr, flush=True)
    await stop.wait()
    await server.stop()


def _raise_file_limit() -> None:
    """Every connection is a file, and the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
