"""A Redis that is there and does not take what it is given: full, read-only, of another kind."""

from __future__ import annotations

import asyncio

from proxy.plugin import StoreUnavailable
from proxy.telemetry import Metrics
from tests.support.redis import cluster, running
from tests.support.stores import (
    counted,
    refused,
    store_at,
)


async def test_a_full_server_takes_nothing_and_can_still_be_read(caplog):
    metrics = Metrics("openai")
    async with running() as server, store_at(server.url, metrics) as store:
        await store.put("a", b"1", ttl=60)
        await server.client.config_set("maxmemory", 1)
        for _ in range(5):
            await refused(store, store.put("b", b"1", ttl=60))
            assert await store.get("a") == b"1"
        assert await store.delete("a") == 1
    assert counted(metrics, "put", "full") == 5
    assert counted(metrics, "get", "ok") == 5
    assert caplog.text.count("put failed: full (OutOfMemoryError)") == 1


async def test_a_replica_takes_nothing(caplog):
    metrics = Metrics("openai")
    nobody = ("--replicaof", "127.0.0.1", "9")
    async with running(*nobody) as server, store_at(server.url, metrics) as store:
        assert await store.get("a") is None
        await refused(store, store.put("a", b"1", ttl=60))
        await server.client.execute_command("REPLICAOF", "NO", "ONE")
        assert await store.put("a", b"1", ttl=60)
    assert counted(metrics, "put", "read_only") == 1


async def test_values_of_another_type_read_as_nothing_and_are_written_over():
    async with running() as server, store_at(server.url) as store:
        for key in "ab":
            await server.client.rpush(key, "not", "ours")
        assert await store.get_many(["a", "b"]) == [None, None]
        assert await store.get("a", ttl=60) is None
        async with store.lock("a", ttl=60) as ours:
            assert not ours
        assert await store.put("a", b"1", ttl=60)
        async with store.lock("c", ttl=60) as ours:
            assert ours
            await server.client.delete("c")
            await server.client.rpush("c", "not", "ours")
        assert await store.get("a") == b"1"


async def test_a_server_of_a_cluster_that_is_taken_for_a_single_one_is_unavailable():
    metrics = Metrics("openai")
    async with cluster() as servers, store_at(servers[0].url, metrics) as store:
        keys = [f"{number}" for number in range(50)]
        found = await asyncio.gather(*map(store.get, keys), return_exceptions=True)
        assert {type(each) for each in found} <= {type(None), StoreUnavailable}
    assert counted(metrics, "get", "moved") > 0


async def test_a_password_is_used_and_a_wrong_one_is_told_of_without_it(caplog):
    async with running("--requirepass", "p@ss/word") as server:
        async with store_at(f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}/2") as store:
            assert await store.put("a", b"1", ttl=60)
        async with store_at(f"redis://:wrong@127.0.0.1:{server.port}") as store:
            await refused(store)
    assert "is gone (AuthenticationError)" in caplog.text
    assert "wrong" not in caplog.text
