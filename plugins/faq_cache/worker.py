"""The embedder off the event loop: few questions wait, and none of them for long."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Skipped(Exception):
    """The work was not done; the message is the reason, for traces and metrics."""


class Worker:
    """As many threads as the embedder takes, and a bounded queue before them."""

    def __init__(self, *, threads: int, waiting: int, deadline: float) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="faq embedder")
        self._places = BoundedSemaphore(threads + waiting)
        self._deadline = deadline

    async def run(self, work: Callable[[], T]) -> T:
        """What the work returns.  Skipped if there is no place, no time, or it fails."""
        if not self._places.acquire(blocking=False):
            raise Skipped("semantic_busy")
        try:
            future = self._threads.submit(work)
        except RuntimeError:
            self._places.release()
            raise Skipped("semantic_stopped") from None
        future.add_done_callback(lambda _: self._places.release())  # late work has its place, too
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Skipped("semantic_slow") from None
        except Exception as error:  # each library has its own
            raise Skipped("semantic_failed") from error

    def stop(self) -> None:
        """Take no more work, and forget what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
