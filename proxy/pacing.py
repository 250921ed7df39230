"""Requests to the upstream wait for their turn, so that an account's limit there is not exceeded."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter
from cachetools import LRUCache

from . import asked
from .errors import RateLimited
from .store import Scripting, StoreUnavailable, namespaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .exchange import Exchange
    from .settings import Upstream
    from .store import Store
    from .telemetry import Metrics

MAX_HOLD = 600.0
"""Seconds; an upstream that asks for more is tried again after these."""

ACCOUNTS = 10_000
"""Accounts that are known at once, where clients bring the upstream's keys."""

# KEYS: when the next request would be due if all came evenly (what GCRA calls the theoretical
# arrival time), and what is there while the upstream wants none.  ARGV: microseconds between two
# requests, and how much earlier than due one may come.  The answer: microseconds to wait for each;
# if both are 0, the turn is taken.  What is due later than can be is from before the server's clock
# was set back.
TAKE = """
local time = redis.call("TIME")
local now = time[1] * 1000000 + time[2]
local interval, early = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = math.max(now, tonumber(redis.call("GET", KEYS[1]) or 0))
if due > now + interval + early then
  due = now + interval + early
  redis.call("SET", KEYS[1], string.format("%.0f", due), "PX", math.ceil((due - now) / 1000) + 1000)
end
local wait = math.max(0, math.ceil(due - early - now))
local held = math.max(0, redis.call("PTTL", KEYS[2])) * 1000
if wait == 0 and held == 0 then
  due = due + interval
  redis.call("SET", KEYS[1], string.format("%.0f", due), "PX", math.ceil((due - now) / 1000) + 1000)
end
return {wait, held}
"""

# KEYS: what is there while the upstream wants no request.  ARGV: for how many milliseconds.
HOLD = """
if redis.call("PTTL", KEYS[1]) < tonumber(ARGV[1]) then
  redis.call("SET", KEYS[1], "", "PX", ARGV[1])
end
return 1
"""


class Account:
    """One account at the upstream, and the line of those who wait for it in this process."""

    def __init__(self, tag: str, limiter: AsyncLimiter, interval: float) -> None:
        self.keys = (f"{{{tag}}}:next", f"{{{tag}}}:held")
        self.line = asyncio.Lock()  # it serves in the order of coming
        self.alone = limiter
        """For when there is no Redis that all processes ask."""
        self.waiting = 0
        self.held_until = -math.inf
        """loop.time() before which the upstream wants no request."""
        self._interval = interval

    @property
    def held(self) -> float:
        """Seconds for which the upstream wants no request."""
        return max(0.0, self.held_until - asyncio.get_running_loop().time())

    @property
    def expected(self) -> float:
        """Seconds that one who comes now will wait, at least."""
        return self.held + self.waiting * self._interval

    def hold(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + min(seconds, MAX_HOLD)
        self.held_until = max(self.held_until, until)


class Pacer:
    """Lets requests go to the upstream at the pace of `[upstream] pace`.

    With a key of ours there is one account; else each client's key is an account of its own.
    """

    def __init__(self, settings: Upstream, store: Store, metrics: Metrics) -> None:
        pace = settings.pace
        assert pace.requests is not None
        self._pace = pace
        self._interval = pace.period / pace.requests
        self._burst = max(1.0, pace.burst / self._interval)
        self._one_account = settings.api_key is not None
        self._base_url = str(settings.base_url)
        self._store: Scripting | None = None
        shared = namespaced(store, "dragoman-pace:")
        if shared.is_shared and isinstance(shared, Scripting):
            self._store = shared
        self._accounts: LRUCache[str, Account] = LRUCache(ACCOUNTS)
        self._seconds = metrics.paced

    def _account(self, exchange: Exchange) -> Account:
        who = "" if self._one_account or exchange.caller is None else exchange.caller.id
        account = self._accounts.get(who)
        if account is None:
            text = f"{self._base_url}\n{who}".encode("utf-8", "surrogatepass")
            alone = self._interval * (self._pace.processes if self._store is not None else 1)
            limiter = AsyncLimiter(self._burst, self._burst * alone)
            tag = blake2b(text, digest_size=12).hexdigest()
            account = self._accounts[who] = Account(tag, limiter, self._interval)
        return account

    async def turn(self, exchange: Exchange) -> None:
        """Wait for the turn of a request.  RateLimited if it would not come within `max_wait`.

        Who is cancelled leaves the line, and the next one moves up.
        """
        account = self._account(exchange)
        if account.expected > self._pace.max_wait:
            self._seconds.labels("refused").observe(0)
            raise self._refusal(account.expected)
        clock = asyncio.get_running_loop().time
        begun, outcome = clock(), "left"
        account.waiting += 1
        try:
            async with asyncio.timeout(self._pace.max_wait) as limit, account.line:
                await self._take(account, limit.when() or 0.0)
            outcome = "sent"
        except TimeoutError:
            outcome = "refused"
            raise self._refusal(account.expected) from None
        finally:
            account.waiting -= 1
            waited = clock() - begun
            exchange.upstream_seconds += waited
            exchange.paced_seconds += waited
            self._seconds.labels(outcome).observe(waited)

    async def _take(self, account: Account, deadline: float) -> None:
        """Take a turn; TimeoutError as soon as it is known that there is none in time."""
        clock = asyncio.get_running_loop().time
        while True:
            pause = account.held or await self._ask(account)
            if not pause:
                return
            if clock() + pause > deadline:
                raise TimeoutError
            await asyncio.sleep(pause)

    async def _ask(self, account: Account) -> float:
        """Seconds to wait before asking again; 0 if the turn is taken."""
        if self._store is not None:
            early = (self._burst - 1) * self._interval
            words = (f"{self._interval * 1e6:.3f}", f"{early * 1e6:.3f}")
            with suppress(StoreUnavailable):
                wait, held = map(int, await self._store.run(TAKE, account.keys, *words))
                if held:
                    account.hold(held / 1e6)
                return max(wait, held) / 1e6
        await account.alone.acquire()
        return account.held  # what was heard meanwhile

    async def learn(self, exchange: Exchange, status: int, headers: Mapping[str, str]) -> None:
        """Hold back those who come, if the answer of the upstream asks for it."""
        seconds = min(asked.pause(status, headers), MAX_HOLD)
        if seconds <= 0:
            return
        account = self._account(exchange)
        account.hold(seconds)
        if self._store is not None:
            with suppress(StoreUnavailable):
                milliseconds = str(math.ceil(seconds * 1e3))
                await self._store.run(HOLD, account.keys[1:], milliseconds)

    def _refusal(self, seconds: float) -> RateLimited:
        seconds = max(1.0, seconds)
        told = {
            "Retry-After": str(math.ceil(seconds)),
            "retry-after-ms": str(math.ceil(seconds * 1e3)),
        }
        return RateLimited(
            f"Too many requests are waiting for the upstream. Please try again in {seconds:.3g}s.",
            headers=told,
        )
