"""What every store does, in memory and in real servers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from proxy.plugin import StoreUnavailable
from proxy.store import namespaced
from proxy.store.contract import MAX_VALUE
from tests.support.redis import BINARIES, running
from tests.support.stores import store_at


@pytest.fixture(params=["memory", *BINARIES])
async def store(request):
    async with AsyncExitStack() as stack:
        url = "memory://"
        if request.param != "memory":
            server = await stack.enter_async_context(running(binary=BINARIES[request.param]))
            url = server.url
        yield await stack.enter_async_context(store_at(url))


async def test_one_in_memory_is_nobody_elses(store, request):
    assert store.is_shared == ("[memory]" not in request.node.name)


async def test_what_was_put_is_there_until_it_is_deleted(store):
    assert await store.get("a") is None
    assert await store.put("a", b"\x00\xff", ttl=60)
    assert await store.put("a", b"", ttl=60)
    assert await store.get("a") == b""
    assert await store.delete("a", "b") == 1
    assert await store.delete("a") == 0
    assert await store.delete() == 0
    assert await store.get("a") is None


async def test_many_are_read_in_the_order_of_their_keys(store):
    await store.put("a", b"1", ttl=60)
    await store.put("b", b"2", ttl=60)
    assert await store.get_many(["b", "none", "a", "b"]) == [b"2", None, b"1", b"2"]
    assert await store.get_many([]) == []


async def test_any_text_is_a_key(store):
    keys = ["", " ", "a b", "{a}:é", "\n", "*", "\ud800", "k" * 10_000]
    for key in keys:
        await store.put(key, key.encode("utf-8", "surrogatepass"), ttl=60)
    expected = [key.encode("utf-8", "surrogatepass") for key in keys]
    assert await store.get_many(keys) == expected


async def test_one_that_is_there_is_not_put_only_if_absent(store):
    assert await store.put("a", b"1", ttl=0.05, only_if_absent=True)
    assert not await store.put("a", b"2", ttl=60, only_if_absent=True)
    assert await store.get("a") == b"1"
    await asyncio.sleep(0.1)
    assert await store.put("a", b"3", ttl=60, only_if_absent=True)


async def test_values_end_with_their_time_and_a_new_one_has_its_own(store):
    await store.put("a", b"1", ttl=0.05)
    await store.put("b", b"1", ttl=0.05)
    await store.put("b", b"2", ttl=60)
    assert await store.get_many(["a", "b"]) == [b"1", b"2"]
    await asyncio.sleep(0.1)
    assert await store.get_many(["a", "b"]) == [None, b"2"]


async def test_a_time_slides_where_that_is_asked_for(store):
    for key in "abc":
        await store.put(key, b"1", ttl=0.2)
    assert await store.get("a", ttl=60) == b"1"
    assert await store.touch("b", ttl=60)
    await asyncio.sleep(0.3)
    assert await store.get_many(["a", "b", "c"]) == [b"1", b"1", None]
    assert not await store.touch("c", ttl=60)
    assert await store.get("c", ttl=60) is None
    await store.touch("a", ttl=0.001)
    await asyncio.sleep(0.05)
    assert await store.get("a") is None


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan")])
async def test_a_time_to_live_is_a_positive_number(store, ttl):
    with pytest.raises(ValueError, match="positive number"):
        await store.put("a", b"1", ttl=ttl)


async def test_the_shortest_time_is_a_millisecond(store):
    assert await store.put("a", b"1", ttl=1e-9)


async def test_the_longest_value_is_kept_and_a_longer_one_is_not(store):
    longest = bytes(MAX_VALUE)
    await store.put("a", longest, ttl=60)
    assert await store.get("a") == longest
    with pytest.raises(StoreUnavailable, match="8,000,001 bytes"):
        await store.put("a", longest + b"x", ttl=60)


async def test_one_of_many_tasks_holds_a_lock_and_none_waits(store):
    inside = []

    async def work():
        async with store.lock("a", ttl=60) as ours:
            inside.append(ours)
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(work())
    assert sorted(inside) == [False] * 7 + [True]
    async with store.lock("a", ttl=60) as ours:
        assert ours


async def test_a_lock_ends_with_its_time_and_the_next_holder_keeps_it(store):
    async with store.lock("a", ttl=0.05) as first:
        assert first
        await asyncio.sleep(0.1)
        second = store.lock("a", ttl=60)
        assert await second.__aenter__()
    async with store.lock("a", ttl=60) as third:
        assert not third
    await second.__aexit__(None, None, None)
    async with store.lock("a", ttl=60) as fourth:
        assert fourth


async def test_a_lock_is_free_again_after_an_error(store):
    with pytest.raises(ZeroDivisionError):
        async with store.lock("a", ttl=60):
            1 / 0  # noqa: B018
    async with store.lock("a", ttl=60) as ours:
        assert ours


async def test_a_namespace_has_keys_and_locks_of_its_own(store):
    one, other = namespaced(store, "one:"), namespaced(store, "other:")
    assert one.is_shared == store.is_shared
    await one.put("a", b"1", ttl=60)
    await other.put("a", b"2", ttl=60)
    assert await store.get_many(["one:a", "other:a", "a"]) == [b"1", b"2", None]
    assert await one.get_many(["a", "b"]) == [b"1", None]
    assert await one.touch("a", ttl=60)
    async with one.lock("b", ttl=60) as first, other.lock("b", ttl=60) as second:
        assert first
        assert second
    assert await one.delete("a") == 1
    assert await other.get("a", ttl=60) == b"2"
