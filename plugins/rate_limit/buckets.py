"""Leaky buckets, which is what GCRA reckons with, and places that requests hold until they end.

A bucket is a level and the time at which it had it: it leaks at the rate of the limit, and a request
is let through if what it needs still fits in.  A place is a lease with an end, so that those of a
process that crashed are free again.  Each decision is one step over all buckets of a request: it
takes from all, or from none.  `scripts` says the same in Lua, operation by operation, so that both
decide alike to the last bit.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .demand import Demand

LEASE = 60_000_000
"""Microseconds for which a place is held, unless it is renewed."""

POLL = 0.25
"""Seconds after which to ask again for a place: nobody knows when one is free."""

SWEEP = 4_096
"""Operations after which empty buckets are looked for."""


class Levels(NamedTuple):
    """How full the buckets are: before the request if it is refused, else with it."""

    allowed: bool
    levels: Sequence[float]


class Buckets(Protocol):
    """Where the buckets are."""

    async def reserve(self, demands: Sequence[Demand], lease: str) -> Levels:
        """Take from all buckets or from none, and hold places under the name of the lease."""

    async def settle(self, demands: Sequence[Demand], lease: str, surplus: Sequence[float]) -> None:
        """Give places back, and of what was charged the surplus; a negative one is taken."""

    async def renew(self, key: str, leases: Sequence[str]) -> None:
        """Hold places for longer."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request was let through, and how full that left the buckets."""

    demands: Sequence[Demand]
    levels: Sequence[float]
    allowed: bool
    buckets: Buckets

    @property
    def refusing(self) -> Sequence[Demand]:
        """The demands that did not fit."""
        if self.allowed:
            return ()
        pairs = zip(self.demands, self.levels, strict=True)
        return [demand for demand, level in pairs if level + demand.need > demand.capacity]

    @property
    def retry(self) -> float:
        """Seconds until all that was asked for fits, if nobody else takes it before."""
        pairs = zip(self.demands, self.levels, strict=True)
        return max((_seconds_until_it_fits(demand, level) for demand, level in pairs), default=0.0)


def _seconds_until_it_fits(demand: Demand, level: float) -> float:
    excess = level + demand.need - demand.capacity
    if excess <= 0:
        return 0.0
    return excess / demand.rate / 1e6 if demand.rate else POLL


def _microseconds() -> int:
    return time.monotonic_ns() // 1_000


class _Bucket(NamedTuple):
    level: float
    at: int
    empty: float
    """When it will have leaked empty."""


class LocalBuckets:
    """The buckets of one process, in its memory."""

    def __init__(self, clock: Callable[[], int] = _microseconds) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._places: dict[str, dict[str, int]] = {}
        self._until_sweep = SWEEP

    async def reserve(self, demands: Sequence[Demand], lease: str) -> Levels:
        now = self._clock()
        levels = [self._level(demand, now) for demand in demands]
        for demand, level in zip(demands, levels, strict=True):
            if level + demand.need > demand.capacity:
                return Levels(False, levels)
        for demand, level in zip(demands, levels, strict=True):
            if demand.rate:
                self._fill(demand, level + demand.charge, now)
            else:
                self._places.setdefault(demand.key, {})[lease] = now + LEASE
        self._sweep(now)
        filled = [level + demand.charge for demand, level in zip(demands, levels, strict=True)]
        return Levels(True, filled)

    async def settle(self, demands: Sequence[Demand], lease: str, surplus: Sequence[float]) -> None:
        now = self._clock()
        for demand, given in zip(demands, surplus, strict=True):
            if demand.rate:
                self._fill(demand, max(0.0, self._level(demand, now) - given), now)
            elif (places := self._places.get(demand.key)) is not None:
                places.pop(lease, None)

    async def renew(self, key: str, leases: Sequence[str]) -> None:
        end = self._clock() + LEASE
        self._places.setdefault(key, {}).update(dict.fromkeys(leases, end))

    def _level(self, demand: Demand, now: int) -> float:
        if not demand.rate:
            return self._held(demand.key, now)
        bucket = self._buckets.get(demand.key)
        if bucket is None:
            return 0.0
        return max(0.0, bucket.level - max(0, now - bucket.at) * demand.rate)

    def _held(self, key: str, now: int) -> float:
        places = self._places.get(key)
        if places is None:
            return 0.0
        for lease in [lease for lease, end in places.items() if end <= now]:
            del places[lease]
        return float(len(places))

    def _fill(self, demand: Demand, level: float, now: int) -> None:
        self._buckets[demand.key] = _Bucket(level, now, now + level / demand.rate)

    def _sweep(self, now: int) -> None:
        """Forget what is empty, now and then: a bucket that is not there is an empty one."""
        self._until_sweep -= 1
        if self._until_sweep:
            return
        self._buckets = {key: each for key, each in self._buckets.items() if each.empty > now}
        self._places = {key: places for key, places in self._places.items() if places}
        self._until_sweep = max(SWEEP, len(self._buckets))


def remaining(demand: Demand, level: float) -> int:
    """How much still fits into a bucket."""
    return max(0, math.floor(demand.capacity - level))
