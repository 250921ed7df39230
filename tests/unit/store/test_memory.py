"""The store in memory is bounded, and forgets the right things."""

from __future__ import annotations

import pytest

from proxy.plugin import StoreUnavailable
from proxy.store.memory import ENTRY, MemoryStore


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


async def test_what_was_unused_for_longest_is_forgotten_when_it_is_full():
    store = MemoryStore(3 * (ENTRY + 11))
    for key in "abc":
        await store.put(key, bytes(10), ttl=60)
    await store.get("a")
    await store.put("d", bytes(10), ttl=60)
    found = await store.get_many(["a", "b", "c", "d"])
    assert [value is not None for value in found] == [True, False, True, True]


async def test_keys_count_too():
    store = MemoryStore(10_000)
    for number in range(100):
        await store.put(f"{number:01000}", b"", ttl=60)
    found = await store.get_many([f"{number:01000}" for number in range(100)])
    assert sum(value is not None for value in found) == 10_000 // (ENTRY + 1000)


async def test_one_that_does_not_fit_is_refused_and_nothing_is_forgotten_for_it():
    store = MemoryStore(2_000)
    await store.put("a", b"1", ttl=60)
    with pytest.raises(StoreUnavailable):
        await store.put("b", bytes(2_000), ttl=60)
    assert await store.get("a") == b"1"


async def test_times_are_those_of_the_clock():
    clock = Clock()
    store = MemoryStore(100_000, clock=clock)
    await store.put("a", b"1", ttl=10)
    clock.now += 9.9
    assert await store.get("a", ttl=10) == b"1"
    clock.now += 9.9
    assert await store.get("a") == b"1"
    clock.now += 0.2
    assert await store.get("a") is None
