"""Notices when the event loop stands still, and names the plugin that holds it up."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

from .chain import RUNS_PLUGIN
from .throttle import Throttle

if TYPE_CHECKING:
    from prometheus_client import Histogram

    from .layer import Layer

log = logging.getLogger("dragoman.loop")

BEAT = 0.1
"""Seconds between signs of life."""

LIMIT = 0.1
"""Seconds without one that are worth a warning."""


class LoopWatch:
    """A thread that expects a sign of life from the event loop."""

    def __init__(self, lag: Histogram) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._lag = lag
        self._last = time.monotonic()
        self._stopped = threading.Event()
        self._said = Throttle()
        self._beat()
        threading.Thread(target=self._watch, name="loop watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self._timer.cancel()

    def _beat(self) -> None:
        now = time.monotonic()
        self._lag.observe(max(0.0, now - self._last - BEAT))
        self._last = now
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _watch(self) -> None:
        while not self._stopped.wait(BEAT):
            if time.monotonic() - self._last < LIMIT + BEAT:
                continue
            plugin = self._plugin_that_runs()
            if self._said.allows(plugin):
                blame = f" by the plugin {plugin}" if plugin else ""
                log.warning("the event loop is blocked%s", blame)

    def _plugin_that_runs(self) -> str | None:
        """The innermost plugin on the stack of the loop's thread."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # there is no other way
        while frame is not None:
            if frame.f_code in RUNS_PLUGIN:
                layer: Layer = frame.f_locals["layer"]
                return layer.name
            frame = frame.f_back
        return None
