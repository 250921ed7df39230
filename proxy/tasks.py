"""Background tasks: named, referenced, drained.  The only place that makes tasks."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
log = logging.getLogger("dragoman")


def start(coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start a task that the caller keeps and awaits."""
    return asyncio.get_running_loop().create_task(coroutine, name=name)


def is_cancellation(error: BaseException) -> bool:
    """Is the running task cancelled, and not only told of one that was?"""
    task = asyncio.current_task()
    cancelling = task is not None and task.cancelling() > 0
    return cancelling and isinstance(error, asyncio.CancelledError)


class Tasks:
    """Work that nobody waits for until the server stops."""

    def __init__(self, *, limit: int = 10_000) -> None:
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run it; an error is logged, and ends nothing but itself."""
        task = start(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def defer(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> bool:
        """Run it if fewer than `limit` tasks are under way; False if it was refused."""
        if len(self._running) >= self._limit:
            coroutine.close()
            self.refused += 1
            return False
        self.spawn(coroutine, name=name)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed: %s", task.get_name(), type(error).__name__, exc_info=error)

    async def settle(self, seconds: float) -> None:
        """Wait for what is under way now, and for what that has begun by its end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        for _ in range(2):
            if self._running:
                await asyncio.wait(set(self._running), timeout=max(0.0, deadline - loop.time()))

    async def drain(self, seconds: float) -> None:
        """Wait for what is under way and what that begins; cancel what has not ended by then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._running and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        late = set(self._running)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
