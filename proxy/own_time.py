"""A plugin's clock inside a stream."""

from __future__ import annotations

import asyncio
import time


class OwnTime:
    """Cancels the running task when a plugin takes longer than it may over one chunk.

    It looks now and then: to set a timer for each chunk would cost more than most plugins do.
    """

    __slots__ = ("_limit", "_loop", "_task", "_timer", "expired", "since")

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self.since: float | None = None
        """perf_counter() at which the plugin began to work; None while it waits."""
        self.expired = False
        self._look()

    def _look(self) -> None:
        if self._limit is None or self._task is None:
            return
        own = 0.0 if self.since is None else time.perf_counter() - self.since
        if own < self._limit:
            self._timer = self._loop.call_later(self._limit - own, self._look)
        else:
            self.expired = True
            self._task.cancel()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def verdict(self, error: BaseException) -> BaseException:
        """What really went wrong: TimeoutError, if it was this clock that cancelled."""
        if not (self.expired and isinstance(error, asyncio.CancelledError)):
            return error
        assert self._task is not None
        return error if self._task.uncancel() else TimeoutError()
