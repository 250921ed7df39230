"""A part of a store, for one plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .contract import Scripting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from .contract import Store


def namespaced(store: Store, prefix: str) -> Store:
    """The store with `prefix` before each key, so that nobody else's keys are met.

    It runs scripts if the store does.
    """
    if isinstance(store, Scripting):
        return _ScriptingNamespace(store, prefix, store)
    return _Namespace(store, prefix)


@dataclass(frozen=True, slots=True)
class _Namespace:
    store: Store
    prefix: str

    @property
    def is_shared(self) -> bool:
        return self.store.is_shared

    async def get(self, key: str, *, ttl: float | None = None) -> bytes | None:
        return await self.store.get(self.prefix + key, ttl=ttl)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self.store.get_many([self.prefix + key for key in keys])

    async def put(
        self, key: str, value: bytes, *, ttl: float, only_if_absent: bool = False
    ) -> bool:
        full = self.prefix + key
        return await self.store.put(full, value, ttl=ttl, only_if_absent=only_if_absent)

    async def touch(self, key: str, *, ttl: float) -> bool:
        return await self.store.touch(self.prefix + key, ttl=ttl)

    async def delete(self, *keys: str) -> int:
        return await self.store.delete(*(self.prefix + key for key in keys))

    def lock(self, key: str, *, ttl: float) -> AbstractAsyncContextManager[bool]:
        return self.store.lock(self.prefix + key, ttl=ttl)


@dataclass(frozen=True, slots=True)
class _ScriptingNamespace(_Namespace):
    scripting: Scripting

    async def run(self, script: str, keys: Sequence[str], *arguments: str) -> Any:
        return await self.scripting.run(script, [self.prefix + key for key in keys], *arguments)
