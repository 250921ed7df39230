"""The table of keys on real servers: nothing is lost, nothing is guessed, nothing ends by itself."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from functools import partial

import pytest

from proxy.callers import fingerprint
from proxy.errors import ConfigError
from proxy.keys.changes import with_new, without
from proxy.keys.table import PREFIX, KeyTable, StoredKey, UnreadableTable
from tests.support.redis import BINARIES, behind_sentinel, cluster, running
from tests.support.stores import store_at

NOW = datetime(2026, 11, 27, tzinfo=UTC)
TABLE = f"{PREFIX}table"


def key(number, **settings):
    return StoredKey(name=f"k{number}", sha256=fingerprint(f"{number}"), created=NOW, **settings)


def adding(number, **settings):
    return partial(with_new, made=key(number, **settings), now=NOW)


@pytest.fixture(params=BINARIES)
async def redis(request):
    async with running(binary=BINARIES[request.param]) as server:
        yield server


@pytest.fixture
async def table(redis):
    async with store_at(redis.url, timeout=5) as store:
        yield KeyTable(store)


async def test_what_was_put_in_is_read_as_it_was_and_unchanged_needs_no_reading(table):
    made = key(1, groups=("free", "eu"), models=("gpt-4o*", "ключ"), expires="9999-12-31")
    await table.change(lambda keys: (*keys, made))
    state = await table.read()
    assert state.keys == (made,)
    assert await table.news(state.revision) is None
    await table.change(adding(2))
    news = await table.news(state.revision)
    assert news is not None
    assert [each.name for each in news.keys] == ["k1", "k2"]


async def test_a_table_that_was_never_made_is_empty_and_so_is_one_without_keys(table):
    assert (await table.read()).keys == ()
    await table.change(adding(1))
    await table.change(lambda keys: without(keys, "k1"))
    state = await table.read()
    assert (state.keys, await table.news(state.revision)) == ((), None)


async def test_changes_from_several_machines_at_once_are_all_made(redis):
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(store_at(redis.url, timeout=5)) for _ in range(3)]
        tables = [KeyTable(store) for store in stores]
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(tables[number % 3].change(adding(number)))
        async with asyncio.TaskGroup() as group:
            for number in range(0, 30, 2):
                remove = partial(without, name=f"k{number}")
                group.create_task(tables[number % 3].change(remove))
        names = {each.name for each in (await tables[0].read()).keys}
    assert names == {f"k{number}" for number in range(1, 30, 2)}


async def test_of_two_who_want_the_same_name_one_gets_it(table):
    made = [key(1), key(1).model_copy(update={"sha256": "f" * 64})]
    changes = [table.change(partial(with_new, made=each, now=NOW)) for each in made]
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert [type(each) for each in outcomes if isinstance(each, Exception)] == [ConfigError]
    assert len((await table.read()).keys) == 1


async def test_keys_never_end_by_themselves_and_their_uses_do(table, redis):
    await table.change(adding(1))
    await table.note_use([key(1).sha256], date(2026, 11, 27))
    assert await table.last_uses([key(n).sha256 for n in (1, 2)]) == [date(2026, 11, 27), None]
    lives = {name: await redis.client.ttl(name) for name in await redis.client.keys("*")}
    assert lives.pop(TABLE.encode()) == -1
    assert all(seconds > 86_400 for seconds in lives.values())
    assert len(lives) == 1
    assert key(1).sha256 not in repr(lives)


DAMAGED = {
    "no table": b"x",
    "not JSON": b"0" * 32 + b"{",
    "another version": b"0" * 32 + b'{"v":2,"keys":[]}',
    "no keys": b"0" * 32 + b'{"v":1}',
    "a key without a hash": b"0" * 32 + b'{"v":1,"keys":[{"name":"a"}]}',
    "a restriction nobody knows": b"0" * 32
    + b'{"v":1,"keys":[{"name":"a","sha256":"%s","created":"2026-11-27","paths":["/v1/models"]}]}'
    % (b"0" * 64),
}


@pytest.mark.parametrize("value", DAMAGED.values(), ids=DAMAGED)
async def test_a_table_that_cannot_be_read_is_neither_guessed_nor_overwritten(table, redis, value):
    await redis.client.set(TABLE, value)
    with pytest.raises(UnreadableTable):
        await table.read()
    with pytest.raises(UnreadableTable):
        await table.change(adding(1))
    assert await redis.client.get(TABLE) == value


async def test_under_memory_pressure_a_redis_that_evicts_what_has_an_end_keeps_the_table():
    options = ("--maxmemory", "3mb", "--maxmemory-policy", "volatile-lru")
    async with running(*options) as server, store_at(server.url, timeout=5) as store:
        table = KeyTable(store)
        await table.change(adding(1))
        for number in range(1_000):
            await store.put(f"{number}", b"x" * 10_000, ttl=1_000)
        assert (await server.client.info("stats"))["evicted_keys"] > 100
        assert len((await table.read()).keys) == 1


async def test_it_works_on_a_cluster_and_behind_sentinel():
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(cluster())
        _, _, sentinel = await stack.enter_async_context(behind_sentinel())
        for url in (
            f"redis+cluster://127.0.0.1:{servers[0].port}",
            f"redis+sentinel://127.0.0.1:{sentinel.port}/store",
        ):
            store = await stack.enter_async_context(store_at(url, timeout=5))
            table = KeyTable(store)
            for number in range(5):
                await table.change(adding(number))
            state = await table.read()
            assert [each.name for each in state.keys] == [f"k{n}" for n in range(5)]
            assert await table.news(state.revision) is None
            used = [each.sha256 for each in state.keys]
            await table.note_use(used, date(2026, 11, 27))
            assert await table.last_uses(used) == [date(2026, 11, 27)] * 5
