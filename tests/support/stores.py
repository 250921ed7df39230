"""A store as the proxy opens it, and how it takes the failures of its server."""

from __future__ import annotations

import contextlib
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

from proxy.plugin import StoreUnavailable
from proxy.settings import Store as StoreSettings
from proxy.store import open_store
from proxy.telemetry import Metrics

from .redis import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from proxy.store import Store

TIMEOUT = 0.1
FROZEN_COST = 0.4
"""Two timeouts, and what a busy machine adds."""
RECOVERY = 2.0


@contextlib.asynccontextmanager
async def store_at(
    url: str, metrics: Metrics | None = None, *, timeout: float = 2
) -> AsyncIterator[Any]:
    """Without a timeout, one that is patient with a busy machine."""
    section = StoreSettings.model_validate({"url": url, "timeout": timeout})
    store = await open_store(section, metrics or Metrics("openai"))
    try:
        yield store
    finally:
        await store.close()


def counted(metrics: Metrics, operation: str, outcome: str) -> float:
    labels = {"operation": operation, "outcome": outcome}
    return metrics.registry.get_sample_value("dragoman_store_operations_total", labels) or 0


async def refused(store: Store, operation: Awaitable[object] | None = None) -> float:
    """How long it takes to say that the store is unavailable."""
    began = perf_counter()
    with pytest.raises(StoreUnavailable):
        await (operation or store.get("a"))
    return perf_counter() - began


async def recovery(store: Store) -> float:
    """How long it takes until the store is used again."""

    async def answers() -> bool:
        with contextlib.suppress(StoreUnavailable):
            return await store.put("probe", b"1", ttl=60)
        return False

    began = perf_counter()
    await until(answers)
    return perf_counter() - began
