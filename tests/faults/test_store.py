"""A Redis that is slow, full, gone, somewhere else or something else: nobody waits, nothing breaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from time import perf_counter

from proxy.plugin import StoreUnavailable
from proxy.telemetry import Metrics
from tests.support.plugins import plugin, told
from tests.support.raw import admin, ask_chat, metric
from tests.support.redis import running
from tests.support.stores import (
    FROZEN_COST,
    RECOVERY,
    TIMEOUT,
    counted,
    recovery,
    refused,
    store_at,
)


async def test_a_frozen_server_costs_two_timeouts_once_and_is_used_again_when_it_thaws(caplog):
    caplog.set_level("INFO", "dragoman.store")
    metrics = Metrics("openai")
    async with running() as server, store_at(server.url, metrics, timeout=TIMEOUT) as store:
        await store.put("a", b"1", ttl=60)
        server.freeze()
        waited = [await refused(store) for _ in range(20)]
        assert waited[0] >= TIMEOUT
        assert sum(waited) < FROZEN_COST
        assert sum(waited[2:]) < TIMEOUT
        await asyncio.sleep(1.5)
        assert await refused(store) < TIMEOUT
        server.thaw()
        assert await recovery(store) < RECOVERY
        assert await store.get("a") == b"1"
    assert (counted(metrics, "get", "timeout"), counted(metrics, "get", "gone")) == (2, 19)
    said = [record.getMessage().removeprefix(f"store {server.url} ") for record in caplog.records]
    assert said[-2:] == ["is gone (TimeoutError); plugins do without it", "is back"]
    assert len(said) == 3


async def test_a_frozen_server_holds_up_many_clients_at_once_no_longer_than_one():
    async with running() as server, store_at(server.url, timeout=TIMEOUT) as store:
        await store.put("a", b"1", ttl=60)
        server.freeze()
        began = perf_counter()
        found = await asyncio.gather(*(store.get("a") for _ in range(200)), return_exceptions=True)
        assert perf_counter() - began < FROZEN_COST
        assert all(isinstance(each, StoreUnavailable) for each in found)
        server.thaw()
        assert await recovery(store) < RECOVERY


async def test_a_process_that_stood_still_does_not_do_without_its_store_for_long():
    async with running() as server, store_at(server.url, timeout=TIMEOUT) as store:
        reading = [asyncio.create_task(store.get("a")) for _ in range(20)]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(time.sleep, 2 * TIMEOUT)
        found = await asyncio.gather(*reading, return_exceptions=True)
        assert isinstance(found[-1], StoreUnavailable)
        assert await recovery(store) < 0.5


async def test_a_server_that_comes_and_goes_is_waited_for():
    async with running() as server, store_at(server.url, timeout=TIMEOUT) as store:
        for pause in (0, 0.9):
            server.freeze()
            for _ in range(3):
                await refused(store)
            server.thaw()
            assert await recovery(store) >= pause


async def test_a_server_that_was_killed_is_used_again_when_it_is_back():
    async with running() as server, store_at(server.url) as store:
        await store.put("a", b"1", ttl=60)
        await server.kill()
        assert sum([await refused(store) for _ in range(20)]) < FROZEN_COST
        await server.start()
        assert await recovery(store) < RECOVERY


async def test_a_restart_between_two_operations_is_not_noticed():
    async with running() as server, store_at(server.url) as store:
        async with asyncio.TaskGroup() as group:  # many connections
            for number in range(20):
                group.create_task(store.put(f"{number}", b"1", ttl=60))
        await server.kill()
        await server.start()
        assert [await store.get("0") for _ in range(20)] == [None] * 20


async def test_a_server_that_is_killed_in_the_midst_of_operations_fails_them_cleanly():
    outcomes = set()

    async def use(store, number):
        while not stop.is_set():
            try:
                await store.put(f"{number}", b"%d" % number, ttl=60)
                outcomes.add("none" if await store.get(f"{number}") is None else "found")
            except StoreUnavailable:
                outcomes.add("unavailable")
                await asyncio.sleep(0.01)

    stop = asyncio.Event()
    async with running() as server, store_at(server.url) as store:
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(use(store, number))
            await asyncio.sleep(0.3)
            await server.kill()
            await asyncio.sleep(0.2)
            await server.start()
            await recovery(store)
            stop.set()
        assert await store.get("49") in (b"49", None)
    assert {"found", "unavailable"} <= outcomes <= {"found", "unavailable", "none"}


async def test_a_server_that_does_not_take_connections_is_not_waited_for_at_start(caplog):
    # A listener whose backlog is full takes no more connections, and refuses none.
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        began = perf_counter()
        async with store_at(f"redis://127.0.0.1:{listener.getsockname()[1]}") as store:
            assert perf_counter() - began < 2
            assert await refused(store) < TIMEOUT
    assert "is gone (TimeoutError)" in caplog.text


async def test_something_that_is_no_redis_is_unavailable():
    async def speak_http(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(speak_http, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with store_at(f"redis://127.0.0.1:{port}") as store:
        await refused(store)
        await refused(store, store.get_many(["a", "b"]))
    server.close()


async def test_a_proxy_starts_without_its_store_is_ready_and_uses_it_when_it_comes(
    proxy, upstream, tmp_path
):
    table = plugin(
        tmp_path,
        """
        try:
            await self.services.store.put("a", b"1", ttl=60)
            told.append("kept")
        except StoreUnavailable:
            told.append("did without")
        return await call_next(request)
        """,
        name="memo",
    )
    async with running() as server:
        await server.kill()
        behind = await proxy((await upstream()).url, f'store.url = "{server.url}"\n{table}')
        assert (await ask_chat(behind)).status == 200
        assert (await admin(behind, "/readyz")).status == 200
        await server.start()
        async with asyncio.timeout(5):
            while "kept" not in told:
                assert (await ask_chat(behind)).status == 200
                await asyncio.sleep(0.05)
        assert told[0] == "did without"
        assert await server.client.keys("*") == [b"dragoman:memo:a"]
        assert await metric(behind, "dragoman_store_operations_total") >= 2
