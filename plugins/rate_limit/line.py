"""Where requests wait for their turn: callers take turns, and each is served in the order it came."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .buckets import Decision
    from .demand import Demand
    from .limiter import Limiter


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits."""

    caller: str
    demands: Sequence[Demand]
    lease: str
    answer: asyncio.Future[Decision]
    last: Decision | None
    due: float
    """loop.time() at which it may be let through, as far as is known."""
    keys: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = frozenset(demand.key for demand in self.demands)

    @property
    def blocking(self) -> set[str]:
        """The buckets that it waits for; nobody behind it takes from them."""
        return set() if self.last is None else {demand.key for demand in self.last.refusing}


class Line:
    """Serves those who wait.  While anybody waits, who comes joins the line."""

    def __init__(self, limiter: Limiter, most: int) -> None:
        self._limiter = limiter
        self._most = most
        self._queues: OrderedDict[str, deque[Waiter]] = OrderedDict()
        self._length = 0
        self._news = asyncio.Event()
        limiter.on_freed = self._look_again
        self.is_served = False

    def __len__(self) -> int:
        return self._length

    @property
    def is_full(self) -> bool:
        return self._length >= self._most

    async def wait(self, waiter: Waiter, seconds: float) -> Decision | None:
        """Wait for one's turn; after these seconds, the last refusal if there was any."""
        self._queues.setdefault(waiter.caller, deque()).append(waiter)
        self._length += 1
        self._news.set()
        try:
            async with asyncio.timeout(seconds):
                return await waiter.answer
        except TimeoutError:
            return waiter.answer.result() if _has_result(waiter.answer) else waiter.last
        except asyncio.CancelledError:
            if _has_result(waiter.answer):
                self._limiter.undo_later(waiter.answer.result(), waiter.lease)
            raise
        finally:
            self._leave(waiter)

    def _leave(self, waiter: Waiter) -> None:
        queue = self._queues.get(waiter.caller)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            self._length -= 1
            if not queue:
                del self._queues[waiter.caller]
            self._news.set()

    def _look_again(self) -> None:
        """Something was given back: whoever waits may try now."""
        for queue in self._queues.values():
            queue[0].due = 0.0
        self._news.set()

    async def serve(self) -> None:
        """Let requests through until nobody waits."""
        try:
            while self._queues:
                self._news.clear()
                due = await self._round()
                pause = due - asyncio.get_running_loop().time()
                if pause > 0:
                    await self._rest(pause)
                else:
                    await asyncio.sleep(0)  # others want to run, too
        finally:
            self.is_served = False

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _round(self) -> float:
        """Try the first of each caller once; when the next round is due."""
        clock = asyncio.get_running_loop().time
        blocked: set[str] = set()
        next_due = clock() + 1.0
        for caller in list(self._queues):
            queue = self._queues.get(caller)
            if not queue:
                continue
            waiter = queue[0]
            if not blocked.isdisjoint(waiter.keys):
                continue  # somebody before it waits for the same
            if waiter.due > clock():
                next_due = min(next_due, waiter.due)
                blocked |= waiter.blocking
                continue
            if await self._try(waiter):
                next_due = 0.0
            else:
                next_due = min(next_due, waiter.due)
                blocked |= waiter.blocking
        return next_due

    async def _try(self, waiter: Waiter) -> bool:
        """Let it through, if its limits do; its caller's next turn is after all others'."""
        decision = await self._limiter.reserve(waiter.demands, waiter.lease)
        if not decision.allowed:
            waiter.last = decision
            waiter.due = asyncio.get_running_loop().time() + decision.retry
            return False
        self._leave(waiter)
        if waiter.answer.done():  # the client has left meanwhile
            await self._limiter.undo(decision, waiter.lease)
            return True
        waiter.answer.set_result(decision)
        if waiter.caller in self._queues:
            self._queues.move_to_end(waiter.caller)
        return True


def _has_result(answer: asyncio.Future[Decision]) -> bool:
    return answer.done() and not answer.cancelled() and answer.exception() is None
