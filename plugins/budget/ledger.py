"""What has been spent, in counters on Redis or here; nothing is lost while Redis is gone."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache

from proxy.plugin import Scripting, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.plugin import Store

KNOWN = 100_000
"""Counters that are remembered: without Redis, all of them; with it, for when it is gone."""

MARGIN = 86_400
"""Seconds for which a counter outlives its period: requests end late."""

UNWRITTEN = 10_000
"""Amounts that wait for Redis; beyond that, they are only counted here."""

# KEYS: a counter, and what says that this amount is in it.  ARGV: the amount, and the counter's
# seconds to live, 0 for ever.  What is not answered in time may have been done: it comes again.
ADD = """
if redis.call("SET", KEYS[2], "", "NX", "EX", 3600) then
  redis.call("INCRBY", KEYS[1], ARGV[1])
  if ARGV[2] ~= "0" then redis.call("EXPIRE", KEYS[1], ARGV[2]) end
end
return redis.call("GET", KEYS[1])
"""


class Entry(NamedTuple):
    """An amount that is to be written."""

    key: str
    amount: int
    ttl: int


class Ledger:
    """Adds up whole numbers by key."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._scripting: Scripting | None = None
        if store.is_shared and isinstance(store, Scripting):
            self._scripting = store
        self._known: LRUCache[str, int] = LRUCache(KNOWN)
        self._unwritten: dict[str, Entry] = {}

    async def spent(self, keys: Sequence[str]) -> list[int]:
        """What has been added under each key; while Redis is gone, as far as this process knows."""
        if self._scripting is not None:
            try:
                values = await self._store.get_many(keys)
            except StoreUnavailable:
                values = []
            self._known.update({key: int(value or 0) for key, value in zip(keys, values)})  # noqa: B905
        return [self._known.get(key, 0) + self._waiting(key) for key in keys]

    async def add(self, key: str, amount: int, ttl: int) -> int:
        """Add to a counter that lives for so many seconds more, 0 for ever; its sum, as far as this
        process knows."""
        if self._scripting is None or len(self._unwritten) >= UNWRITTEN:
            self._known[key] = self._known.get(key, 0) + amount
        else:
            self._unwritten[secrets.token_hex(8)] = Entry(key, amount, ttl)
            await self.write()
        return self._known.get(key, 0) + self._waiting(key)

    async def write(self) -> None:
        """Write what waits, as far as Redis takes it."""
        for name in list(self._unwritten):
            entry = self._unwritten.get(name)
            if entry is None or self._scripting is None:
                continue
            keys = [entry.key, f"{entry.key}:{name}"]
            try:
                value = await self._scripting.run(ADD, keys, str(entry.amount), str(entry.ttl))
            except StoreUnavailable:
                return
            self._unwritten.pop(name, None)
            self._known[entry.key] = int(value)

    def _waiting(self, key: str) -> int:
        return sum(entry.amount for entry in self._unwritten.values() if entry.key == key)
