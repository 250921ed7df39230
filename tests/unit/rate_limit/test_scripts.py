"""Scripts on a store: run where the keys are, known by their hash, and never half."""

from __future__ import annotations

import pytest

from proxy.plugin import Scripting, StoreUnavailable
from proxy.store import namespaced
from tests.support.redis import running
from tests.support.stores import store_at

SET = 'redis.call("SET", KEYS[1], ARGV[1]); return {1, ARGV[1], KEYS[1]}'


async def test_a_script_is_run_also_by_a_server_that_has_forgotten_it():
    async with running() as server, store_at(server.url) as store:
        for value in (b"1", b"2"):
            assert await store.run(SET, ["a"], value.decode()) == [1, value, b"a"]
            await server.client.script_flush()
        stats = await server.client.info("commandstats")
        assert stats["cmdstat_eval"]["calls"] == 2
        await store.run(SET, ["a"], "3")
        await store.run(SET, ["a"], "4")
        stats = await server.client.info("commandstats")
        assert (stats["cmdstat_eval"]["calls"], stats["cmdstat_evalsha"]["calls"]) == (3, 4)


async def test_a_namespace_runs_scripts_on_its_own_keys_if_its_store_does():
    async with running() as server, store_at(server.url) as store, store_at("memory://") as memory:
        one = namespaced(store, "one:")
        assert isinstance(one, Scripting)
        assert await one.run(SET, ["a"], "x") == [1, b"x", b"one:a"]
        assert await one.get("a") == b"x"
        assert not isinstance(namespaced(memory, "one:"), Scripting)


async def test_a_script_that_fails_is_unavailable_and_the_server_is_not_gone():
    async with running() as server, store_at(server.url) as store:
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.run("return redis.call('INCR')", ["a"])
        assert await store.get("a") is None
