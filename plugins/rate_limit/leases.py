"""Keeps the places of requests under way while they last, and gives back what could not be."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple, Self

from proxy.plugin import StoreUnavailable

from .buckets import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from .buckets import Buckets
    from .demand import Demand

PAUSE = 1.0
"""Seconds between two looks at what is to be done."""

RENEWAL = LEASE / 1e6 / 3
"""Seconds after which places are renewed: two attempts may fail."""

OWED = 10_000
"""Places that are given back late; more end by themselves."""


class _Place(NamedTuple):
    buckets: Buckets
    demands: Sequence[Demand]
    since: float


class Leases:
    """The places that this process holds, by their leases."""

    def __init__(self, defer: Callable[[Coroutine[Any, Any, None]], bool]) -> None:
        self._defer = defer
        self._held: dict[str, _Place] = {}
        self._owed: dict[str, _Place] = {}
        self._renewed = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._users = 1

    def hold(self, lease: str, buckets: Buckets, places: Sequence[Demand]) -> None:
        """Renew these places until they are given back."""
        now = asyncio.get_running_loop().time()
        if not self._held:
            self._renewed = now
        self._held[lease] = _Place(buckets, places, now)
        self._wind()

    def release(self, lease: str) -> None:
        """Let them be: they are given back."""
        self._held.pop(lease, None)

    def owe(self, lease: str, buckets: Buckets, places: Sequence[Demand]) -> None:
        """Give them back as soon as that is possible."""
        if len(self._owed) < OWED:
            self._owed[lease] = _Place(buckets, places, asyncio.get_running_loop().time())
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
        if self._owed or (self._held and now - self._renewed >= RENEWAL):
            self._defer(self._work(now))
        if self._held or self._owed:
            self._wind()

    async def _work(self, now: float) -> None:
        try:
            await self._give_back(now)
            if now - self._renewed >= RENEWAL:
                await self._renew()
                self._renewed = now
        except StoreUnavailable:
            return  # at the next look

    async def _give_back(self, now: float) -> None:
        for lease, place in list(self._owed.items()):
            if now - place.since < LEASE / 1e6:
                await place.buckets.settle(place.demands, lease, [0.0] * len(place.demands))
            self._owed.pop(lease, None)

    async def _renew(self) -> None:
        leases: defaultdict[tuple[Buckets, str], list[str]] = defaultdict(list)
        for lease, place in self._held.items():
            for demand in place.demands:
                leases[place.buckets, demand.key].append(lease)
        for (buckets, key), held in leases.items():
            still = [lease for lease in held if lease in self._held]
            if still:
                await buckets.renew(key, still)
