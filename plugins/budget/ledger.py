"""What has been spent, in counters on Redis or here; nothing is lost while Redis is gone."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache

from proxy.plugin import Scripting, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proxy.plugin import Store

KNOWN = 100_000
"""Counters that are remembered: without Redis, all of them; with it, for when it is gone."""

MARGIN = 86_400
"""Seconds for which a counter outlives its period: requests end late."""

UNWRITTEN = 10_000
"""Places whose amounts wait for Redis; those of others are only counted here then."""

HELP = 20
"""Places of others that one who was written looks after, when Redis is back."""

# KEYS: where it stands which batch of this process was the last here, and the counters.  ARGV: the
# number of the batch; then an amount for each counter, and its seconds to live, 0 for ever.  What is
# not answered in time may have been done: it comes again, before any batch with a higher number.
ADD = """
local is_new = tonumber(redis.call("GET", KEYS[1]) or 0) < tonumber(ARGV[1])
local sums = {}
for i = 2, #KEYS do
  local amount, lives = ARGV[2*i-2], ARGV[2*i-1]
  if is_new then
    redis.call("INCRBY", KEYS[i], amount)
    if lives ~= "0" then redis.call("EXPIRE", KEYS[i], lives) end
  end
  sums[#sums+1] = redis.call("GET", KEYS[i]) or "0"
end
if is_new then redis.call("SET", KEYS[1], ARGV[1], "EX", 3600) end
return sums
"""


class Entry(NamedTuple):
    """An amount that is to be written."""

    key: str
    amount: int
    ttl: int
    """Seconds that its counter lives from then on; 0 for ever."""


class Batch(NamedTuple):
    """What one script writes.  It may have been written, so it stays as it is."""

    number: int
    entries: dict[str, Entry]


@dataclass(slots=True)
class Place:
    """Counters that lie on one server, and what is to be written there."""

    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    batch: Batch | None = None
    next: dict[str, Entry] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.batch is None and not self.next

    def waiting(self, key: str) -> int:
        parts = [self.next] if self.batch is None else [self.batch.entries, self.next]
        return sum(part[key].amount for part in parts if key in part)

    def add(self, entry: Entry) -> None:
        before = self.next.get(entry.key)
        amount = entry.amount + (before.amount if before else 0)
        self.next[entry.key] = entry._replace(amount=amount)


class Ledger:
    """Adds up whole numbers by key.  Keys with the same part in braces are written together, and
    what comes while that is under way goes with the next ones."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._scripting: Scripting | None = None
        if store.is_shared and isinstance(store, Scripting):
            self._scripting = store
        self._known: LRUCache[str, int] = LRUCache(KNOWN)
        self._places: dict[str, Place] = {}
        self._late: dict[str, None] = {}
        """Where something could not be written; in the order of coming."""
        self._process = secrets.token_hex(8)
        self._number = 0

    async def spent(self, keys: Sequence[str]) -> list[int]:
        """What has been added under each key; while Redis is gone, as far as this process knows."""
        if self._scripting is not None:
            try:
                values = await self._store.get_many(keys)
            except StoreUnavailable:
                values = []
            self._known.update({key: int(value or 0) for key, value in zip(keys, values)})  # noqa: B905
        return [self._sum(key) for key in keys]

    async def add(self, entries: Sequence[Entry]) -> list[int]:
        """Add to counters; the sum of each, as far as this process knows."""
        tags = dict.fromkeys(_tag(entry.key) for entry in entries)
        for entry in entries:
            place = self._place(_tag(entry.key))
            if place is None:
                self._known[entry.key] = self._known.get(entry.key, 0) + entry.amount
            else:
                place.add(entry)
        if await self._write(tags):
            late = list(self._late)[:HELP]
            for tag in late:  # so that no other writes them, too
                self._late.pop(tag, None)
            await self._write(late)
        return [self._sum(entry.key) for entry in entries]

    async def write(self) -> None:
        """Write what waits, as far as Redis takes it."""
        await self._write(list(self._places))

    def _place(self, tag: str) -> Place | None:
        """Where amounts wait to be written; None if they are only counted here."""
        is_full = tag not in self._places and len(self._places) >= UNWRITTEN
        if self._scripting is None or is_full:
            return None
        return self._places.setdefault(tag, Place())

    async def _write(self, tags: Iterable[str]) -> bool:
        """Write what waits at these places.  False if Redis is gone."""
        left = [tag for tag in tags if tag in self._places]
        try:
            while left:
                await self._write_place(left[-1])
                left.pop()
        except StoreUnavailable:
            return False
        finally:
            self._late.update(dict.fromkeys(left))
        return True

    async def _write_place(self, tag: str) -> None:
        """StoreUnavailable."""
        place = self._places.get(tag)
        if place is None:
            return
        async with place.writing:
            while not place.is_done:
                await self._write_batch(tag, place)
            if self._places.get(tag) is place:
                del self._places[tag]
                self._late.pop(tag, None)

    async def _write_batch(self, tag: str, place: Place) -> None:
        assert self._scripting is not None
        if place.batch is None:
            self._number += 1
            place.batch, place.next = Batch(self._number, place.next), {}
        entries = place.batch.entries.values()
        keys = [f"{tag}:by:{self._process}", *(entry.key for entry in entries)]
        words = [str(word) for entry in entries for word in (entry.amount, entry.ttl)]
        sums = await self._scripting.run(ADD, keys, str(place.batch.number), *words)
        for entry, value in zip(entries, sums, strict=True):
            self._known[entry.key] = int(value)
        place.batch = None

    def _sum(self, key: str) -> int:
        place = self._places.get(_tag(key))
        return self._known.get(key, 0) + (place.waiting(key) if place else 0)


def _tag(key: str) -> str:
    """The part by which Redis Cluster places a key, with its braces; of a key without one, all."""
    head, brace, _ = key.partition("}")
    return head + brace
