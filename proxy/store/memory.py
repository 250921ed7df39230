"""The store of one process, in its memory."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from cachetools import TLRUCache

from .contract import StoreUnavailable, check_size, milliseconds
from .lock import holding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

ENTRY = 800
"""Bytes that an entry costs besides its key and its value, at most."""


class _Entry(NamedTuple):
    value: bytes
    ttl: float
    size: int


class MemoryStore:
    """Forgets what has been unused for longest when it is full, and everything when it ends."""

    is_shared = False

    def __init__(self, max_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries: TLRUCache[str, _Entry] = TLRUCache(
            max_bytes, ttu=_expires, timer=clock, getsizeof=lambda entry: entry.size
        )

    async def close(self) -> None:
        self._entries.clear()

    async def get(self, key: str, *, ttl: float | None = None) -> bytes | None:
        entry = self._entries.get(key)
        if entry is not None and ttl is not None:
            await self.touch(key, ttl=ttl)
        return entry.value if entry else None

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    async def put(
        self, key: str, value: bytes, *, ttl: float, only_if_absent: bool = False
    ) -> bool:
        check_size(value)
        entry = _Entry(value, milliseconds(ttl) / 1000, ENTRY + len(key) + len(value))
        if only_if_absent and key in self._entries:
            return False
        try:
            self._entries[key] = entry
        except ValueError:
            raise StoreUnavailable("the value is longer than the memory of the store") from None
        return True

    async def touch(self, key: str, *, ttl: float) -> bool:
        entry = self._entries.get(key)
        return entry is not None and await self.put(key, entry.value, ttl=ttl)

    async def delete(self, *keys: str) -> int:
        return sum(self._entries.pop(key, None) is not None for key in keys)

    def lock(self, key: str, *, ttl: float) -> AbstractAsyncContextManager[bool]:
        acquire = partial(self.put, key, ttl=ttl, only_if_absent=True)
        return holding(acquire, partial(self._release, key))

    async def _release(self, key: str, token: bytes) -> None:
        if await self.get(key) == token:
            await self.delete(key)


def _expires(_: str, entry: _Entry, now: float) -> float:
    return now + entry.ttl
