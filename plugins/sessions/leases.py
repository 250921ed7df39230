"""Renews the leases of this process while their answers last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.plugin import StoreUnavailable

from .log import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from .log import Log, Place

PAUSE = 1.0
"""Seconds between two looks."""

RENEWAL = LEASE / 3
"""Seconds after which a lease is renewed: two attempts may fail."""


class Leases:
    """The leases that this process holds, by their tokens."""

    def __init__(self, log: Log, defer: Callable[[Coroutine[Any, Any, None]], bool]) -> None:
        self._log = log
        self._defer = defer
        self._held: dict[str, tuple[Place, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, place: Place, token: str) -> None:
        """Renew it until it is let go."""
        loop = asyncio.get_running_loop()
        self._held[token] = place, loop.time() + RENEWAL
        if self._timer is None:
            self._timer = loop.call_later(PAUSE, self._look)

    def let_go(self, token: str) -> None:
        self._held.pop(token, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        if any(due <= now for _, due in self._held.values()):
            self._defer(self._renew(now))
        if self._held:
            self._timer = loop.call_later(PAUSE, self._look)

    async def _renew(self, now: float) -> None:
        due = [(token, place) for token, (place, when) in self._held.items() if when <= now]
        for token, place in due:
            if token not in self._held:
                continue
            try:
                await self._log.renew(place, token)
            except StoreUnavailable:
                return  # at the next look
            if token in self._held:
                self._held[token] = place, now + RENEWAL
