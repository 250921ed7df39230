"""Where plugins keep what outlives a request: in this process, or in a Redis for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from proxy.errors import ConfigError

from .address import Address
from .contract import Scripting, Store, StoreUnavailable
from .memory import MemoryStore
from .namespace import namespaced
from .versioned import Versioned

if TYPE_CHECKING:
    from proxy.settings import Store as StoreSettings
    from proxy.telemetry import Metrics

    from .redis import RedisStore

    OpenStore: TypeAlias = MemoryStore | RedisStore

__all__ = [
    "MemoryStore",
    "Scripting",
    "Store",
    "StoreUnavailable",
    "Versioned",
    "namespaced",
    "open_store",
]


async def open_store(settings: StoreSettings, metrics: Metrics) -> OpenStore:
    """The store of the configuration, to be closed.  It need not be there yet."""
    address = Address.parse(settings.url.get_secret_value())
    if address.kind == "memory":
        return MemoryStore(settings.max_memory)
    # In a thread: the import takes 0.3 s, certificates and the name of a node are waited for.
    store = await asyncio.to_thread(_redis, address, settings.timeout, metrics)
    await store.start()
    return store


def _redis(address: Address, timeout: float, metrics: Metrics) -> RedisStore:
    from .redis import RedisStore

    try:
        return RedisStore(address, timeout=timeout, metrics=metrics)
    except OSError as error:
        problem = f"store.url: the certificates cannot be read: {error.strerror or error}"
        raise ConfigError([problem]) from error
