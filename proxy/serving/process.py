"""One process that serves until a signal stops it."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING

import uvloop

from proxy import logs, tasks
from proxy.errors import ConfigError
from proxy.startup import startup_lines

from .hangup import Terminal
from .reload import Reloading
from .server import Server

if TYPE_CHECKING:
    from proxy.config import Configuration

    from .reload import Reread


def run(configuration: Configuration, reread: Reread) -> int:
    """Serve until SIGTERM or SIGINT; a second one exits at once.  SIGHUP reads the configuration
    again.  Returns the exit code."""
    logs.start(configuration.settings.server.log_level)
    raise_file_limit()
    try:
        uvloop.run(_serve(configuration, reread))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


async def _serve(configuration: Configuration, reread: Reread) -> None:
    server = Server(configuration)
    stop = asyncio.Event()

    def asked_to_stop() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    reloading = Reloading(server, reread)
    terminal = Terminal()
    loop.add_signal_handler(
        signal.SIGHUP, lambda: stop.set() if terminal.is_closed() else reloading.ask()
    )
    await server.start()
    gc.freeze()  # what is there now stays: the collector need not look at it again
    for line in startup_lines(configuration, port=server.port, admin_port=server.admin_port):
        print(line, file=sys.stderr, flush=True)
    await serve_until(stop, reloading)
    await server.stop()


async def serve_until(stop: asyncio.Event, reloading: Reloading) -> None:
    """Let a server that has started serve until it is to stop."""
    rereading = tasks.start(reloading.run(), name="reading the configuration again")
    await stop.wait()
    rereading.cancel()
    await asyncio.wait([rereading])


def raise_file_limit() -> None:
    """Every connection is a file, and the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
