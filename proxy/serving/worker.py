"""A worker: a process that was forked to serve a port with others, and ends with its parent."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import uvloop

from proxy import logs
from proxy.errors import ConfigError
from proxy.telemetry import shared

from .process import serve_until
from .reload import Reloading
from .server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.config import Configuration
    from proxy.seat import Seat

    from .reload import Reread

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""What the parent heeds.  A fork has them blocked until it knows what to do about them."""

READY = b"\0"
"""What a worker says when it serves; anything else is why it does not."""

ORPHAN_SECONDS = 15.0
"""How long an orphan may take to end, besides the time that running answers have."""


def become(
    configuration: Configuration, reread: Reread, seat: Seat, *, life: int, tell: int
) -> NoReturn:
    """Be a worker from here to the end of this process.

    `life` can be read from when the parent has ended; `tell` is for what it wants to know.
    """
    code = 1
    try:
        _forget_the_parent()
        logs.name_worker(seat.number)
        shared.share(seat.metrics, seat.number)
        uvloop.run(_serve(configuration, reread, seat, life, tell))
        code = 0
    except ConfigError as error:
        os.write(tell, str(error).encode())
        code = 2
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)  # what is still to be done at exit is the parent's


def _forget_the_parent() -> None:
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    # A terminal's goes to all processes; it is the parent's to say what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


async def _serve(
    configuration: Configuration, reread: Reread, seat: Seat, life: int, tell: int
) -> None:
    server = Server(configuration, seat=seat)
    stop, orphaned = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    reloading = Reloading(server, reread, tells=False)
    loop.add_signal_handler(signal.SIGHUP, reloading.ask)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def abandoned() -> None:
        orphaned.set()
        stop.set()

    drain = configuration.settings.server.drain
    ending = partial(_end_with_parent, life, loop, abandoned, drain + ORPHAN_SECONDS)
    threading.Thread(target=ending, name="parent", daemon=True).start()
    await server.start()
    gc.freeze()
    os.write(tell, READY)
    os.close(tell)
    await serve_until(stop, reloading)
    await server.stop(abandoned=orphaned.is_set())
    if orphaned.is_set():
        shutil.rmtree(seat.metrics, ignore_errors=True)


def _end_with_parent(
    life: int, loop: asyncio.AbstractEventLoop, abandoned: Callable[[], None], seconds: float
) -> None:
    """Wait for the parent's end; then stop, or if the event loop stands still, end anyway."""
    os.read(life, 1)
    with suppress(RuntimeError):  # the loop has ended by itself
        loop.call_soon_threadsafe(abandoned)
    time.sleep(seconds)
    os._exit(1)
