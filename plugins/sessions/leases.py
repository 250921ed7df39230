"""Renews the leases of this process while answers last, and gives back what could not be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

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


OWED = 10_000
"""Leases that are given back late; more end by themselves."""


class Leases:
    """The leases that this process holds, by their tokens."""

    def __init__(self, log: Log, defer: Callable[[Coroutine[Any, Any, None]], bool]) -> None:
        self._log = log
        self._defer = defer
        self._held: dict[str, tuple[Place, float]] = {}
        self._owed: dict[str, Place] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._users = 1

    def hold(self, place: Place, token: str) -> None:
        """Renew it until it is let go."""
        self._held[token] = place, asyncio.get_running_loop().time() + RENEWAL
        self._wind()

    def let_go(self, token: str) -> None:
        self._held.pop(token, None)

    def owe(self, place: Place, token: str) -> None:
        """Give it back as soon as that is possible.

        What was asked of a Redis that froze is done when it thaws, and a lease may be taken then
        that nobody knows of.
        """
        if len(self._owed) < OWED:
            self._owed[token] = place
            self._wind()

    def shared(self) -> Self:
        """The same for one more, who closes it, too."""
        self._users += 1
        return self

    def close(self) -> None:
        self._users -= 1
        if self._timer is not None and not self._users:
            self._timer.cancel()

    def _wind(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        if self._owed or any(due <= now for _, due in self._held.values()):
            self._defer(self._work(now))
        if self._owed or self._held:
            self._wind()

    async def _work(self, now: float) -> None:
        due = [(token, place) for token, (place, when) in self._held.items() if when <= now]
        try:
            for token, place in list(self._owed.items()):
                await self._log.release(place, token)
                self._owed.pop(token, None)
            for token, place in due:
                if token in self._held:
                    await self._log.renew(place, token)
                if token in self._held:
                    self._held[token] = place, now + RENEWAL
        except StoreUnavailable:
            return  # at the next look
