"""A plugin's clock."""

from __future__ import annotations

import asyncio
import time


class OwnTime:
    """Cancels the running task when a plugin takes longer than it may, over a request or a chunk.

    It looks now and then: to set a timer whenever the plugin begins to work, and to cancel it when
    it waits, would cost more than most plugins do.
    """

    __slots__ = ("_limit", "_loop", "_task", "_timer", "expired", "since", "spent")

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self.since: float | None = None
        """perf_counter() at which the plugin began to work; None while it waits."""
        self.spent = 0.0
        """Seconds that it had worked before."""
        self.expired = False
        self._look()

    def _look(self) -> None:
        if self._limit is None or self._task is None:
            return
        left = self._limit - self.spent
        if self.since is not None:
            left -= time.perf_counter() - self.since
        if left > 0 or self.since is None:
            self._timer = self._loop.call_later(max(left, 0.01), self._look)
        else:
            self.expired = True
            self._task.cancel()

    def pause(self) -> None:
        """The plugin waits for what lies further in."""
        now = time.perf_counter()
        self.spent += now - (self.since or now)
        self.since = None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def withdraw(self) -> bool:
        """Take the cancellation back, if there was one; True if it was the only one."""
        return self.expired and self._task is not None and not self._task.uncancel()

    def verdict(self, error: BaseException) -> BaseException:
        """What really went wrong: TimeoutError, if it was this clock that cancelled."""
        is_ours = self.withdraw() and isinstance(error, asyncio.CancelledError)
        return TimeoutError() if is_ours else error
