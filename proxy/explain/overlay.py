"""The store of a trial: it is read, and what would be written to it stays here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from proxy.store import Store

_ROOM = 64_000_000


class Overlay:
    """What is in a store, under what was written meanwhile; the store itself stays as it is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written = MemoryStore(_ROOM)
        self._deleted: set[str] = set()

    @property
    def is_shared(self) -> bool:
        return self._store.is_shared

    async def get(self, key: str, *, ttl: float | None = None) -> bytes | None:  # noqa: ARG002  # it keeps nothing for longer
        """The value; it lives no longer for that."""
        return (await self.get_many([key]))[0]

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        written = await self._written.get_many(keys)
        if all(value is not None for value in written):
            return written
        kept = await self._store.get_many(keys)
        return [
            value if value is not None else None if key in self._deleted else below
            for key, value, below in zip(keys, written, kept, strict=True)
        ]

    async def put(
        self, key: str, value: bytes, *, ttl: float, only_if_absent: bool = False
    ) -> bool:
        if only_if_absent and await self.get(key) is not None:
            return False
        return await self._written.put(key, value, ttl=ttl)

    async def touch(self, key: str, *, ttl: float) -> bool:  # noqa: ARG002  # it is not for long
        return await self.get(key) is not None

    async def delete(self, *keys: str) -> int:
        there = sum(value is not None for value in await self.get_many(keys))
        await self._written.delete(*keys)
        self._deleted.update(keys)
        return there

    def lock(self, key: str, *, ttl: float) -> AbstractAsyncContextManager[bool]:
        return self._written.lock(key, ttl=ttl)
