"""Limits of several proxies on one Redis: exact while it is there, and kept somehow when it is not."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial

import pytest

from tests.support.proxy import start_proxy
from tests.support.raw import Client, admin, chat_body, request
from tests.support.redis import behind_sentinel, cluster, until
from tests.support.workers import SHARED, by_worker, workers

STORE = """
store.url = "{url}"
store.secret = "a secret of our own, long enough"
store.timeout = "{timeout}"
telemetry.turn_log = false

[[plugins]]
use = "rate_limit"
{options}
"""
PATIENT = "3 s"
"""For tests of exactness: all proxies, clients and the upstream share one event loop."""
COST = 0.4
"""Seconds that a Redis which freezes may cost one request: two timeouts, and a busy machine."""


def limit(**given):
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in given.items()]
    return "[[plugins.limits]]\n" + "\n".join(['name = "x"', *lines]) + "\n"


@pytest.fixture
async def proxies(upstream, tmp_path):
    """Start several proxies with one store and these limits."""
    async with AsyncExitStack() as stack:

        async def start(url, options, *, count=3, script=None, timeout="100 ms"):
            up = await (upstream(script) if script else upstream())
            toml = STORE.format(url=url, options=options, timeout=timeout)
            started = [await start_proxy(tmp_path, up.url, toml) for _ in range(count)]
            for each in started:
                stack.push_async_callback(each.stop)
            return started

        yield start


async def send(proxy, caller="alice", **fields):
    """The answer to one request on a connection of its own."""
    async with await Client.open(proxy.server.port) as client:
        key = ("Authorization", f"Bearer {caller}")
        await client.send(request(chat_body(**fields), key))
        return await client.answer()


async def clients(proxies, seconds, number, caller="alice", **fields):
    """What many clients of all proxies get in a time, who come again at once: the statuses."""
    found = Counter()
    end = time.monotonic() + seconds

    async def use(proxy):
        async with await Client.open(proxy.server.port) as client:
            key = ("Authorization", f"Bearer {caller}")
            while time.monotonic() < end:
                await client.send(request(chat_body(**fields), key))
                answer = await client.answer()
                found[answer.status] += 1
                if answer.status == 429:
                    pause = int(answer.header("retry-after-ms") or 0) / 1e3
                    await asyncio.sleep(min(0.05, pause))

    async with asyncio.TaskGroup() as group:
        for index in range(number):
            group.create_task(use(proxies[index % len(proxies)]))
    return found


async def endless(call):
    """A stream that does not end, or an answer."""
    if call.json.get("stream"):
        await call.start_stream()
        await call.wait_closed(60)
    else:
        await call.chat("hello", (8, 1))


async def test_many_clients_of_several_proxies_get_the_limit_and_one_burst_to_the_request(
    proxies, redis
):
    started = await proxies(redis.url, limit(requests=60, period="10 s"), timeout=PATIENT)
    begun = time.monotonic()
    found = await clients(started, 3, 30)
    took = time.monotonic() - begun
    assert found.keys() == {200, 429}
    assert 60 + 6 * 3 - 1 <= found[200] <= 60 + int(6 * took)
    assert found[429] > 50


async def test_waiting_clients_of_several_proxies_use_the_limit_and_no_more(proxies, redis):
    options = 'max_wait = "10 s"\n' + limit(requests=60, period="3 s", burst="500 ms")
    started = await proxies(redis.url, options, timeout=PATIENT)
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(send(started[number % 3])) for number in range(50)]
    took = time.monotonic() - begun
    assert {task.result().status for task in asked} == {200}
    assert 2.0 <= took < 3.5


async def test_killed_clients_leave_no_reservation_behind(proxies, redis):
    options = limit(concurrent=500, tokens=1_000_000, requests=100_000, period="24 h")
    started = await proxies(redis.url, options, script=endless, timeout=PATIENT)

    async def come_and_go(proxy):
        async with await Client.open(proxy.server.port) as client:
            key = ("Authorization", "Bearer alice")
            await client.send(request(chat_body(max_tokens=2_000, stream=True), key))
            await asyncio.sleep(random.uniform(0, 0.02))
            client.reset()

    for _ in range(6):
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(come_and_go(started[number % 3]))

    async def nothing_is_held():
        places = list(await redis.client.keys("*concurrent"))
        return not sum([await redis.client.zcard(key) for key in places])

    await until(nothing_is_held, 5)
    answer = await send(started[0], max_tokens=1)
    # Each that came as far as the upstream has cost it the prompt, of some ten tokens, and no more.
    assert int(answer.header("x-ratelimit-remaining-tokens")) > 1_000_000 - 300 * 12
    assert await redis.client.keys("*concurrent") == []


async def test_places_of_a_process_that_was_killed_are_free_within_a_minute(proxies, redis):
    (proxy,) = await proxies(redis.url, limit(concurrent=2), count=1, script=endless)
    async with await Client.open(proxy.server.port) as client:
        key = ("Authorization", "Bearer alice")
        await client.send(request(chat_body(stream=True), key))
        assert (await client.head()).status == 200
        (places,) = await redis.client.keys("*concurrent")
        ((_, end),) = await redis.client.zrange(places, 0, -1, withscores=True)
        seconds, microseconds = await redis.client.time()
        assert 55 < end / 1e6 - seconds - microseconds / 1e6 <= 60
        assert 55_000 < await redis.client.pttl(places) <= 60_000


async def test_one_request_costs_one_script_and_a_second_one_to_settle(proxies, redis):
    (proxy,) = await proxies(redis.url, limit(requests=100), count=1)
    await send(proxy)

    async def calls():
        stats = await redis.client.info("commandstats")
        return sum(stats[name]["calls"] for name in stats if name.startswith("cmdstat_eval"))

    before = await calls()
    for _ in range(10):
        assert (await send(proxy)).status == 200
    assert await calls() - before == 10
    (metered,) = await proxies(redis.url, limit(tokens=100_000, requests=50), count=1)
    await send(metered)
    await asyncio.sleep(0.1)
    before = await calls()
    for _ in range(10):
        assert (await send(metered)).status == 200
    await until(lambda: settled(calls, before + 20), 5)


async def settled(calls, expected):
    found = await calls()
    assert found <= expected
    return found == expected


@pytest.mark.parametrize("fault", ["frozen", "killed"])
async def test_without_redis_each_process_keeps_its_part_and_nobody_waits(proxies, redis, fault):
    options = "processes = 3\n" + limit(requests=30, period="24 h")
    started = await proxies(redis.url, options)
    assert (await send(started[0])).header("x-ratelimit-remaining-requests") == "29"
    if fault == "frozen":
        redis.freeze()
    else:
        await redis.kill()
    begun = time.monotonic()
    for proxy in started:
        assert (await send(proxy)).status == 200
        assert (await send(proxy)).status == 200
    assert time.monotonic() - begun < len(started) * COST
    begun = time.monotonic()
    for proxy in started:
        statuses = [(await send(proxy)).status for _ in range(12)]
        assert statuses == [200] * 8 + [429] * 4
    assert time.monotonic() - begun < 1
    assert await fallbacks(started[0]) == 14
    if fault == "frozen":
        redis.thaw()
    else:
        await redis.start()
    begun = time.monotonic()
    for proxy in started:
        await until(partial(is_shared_again, proxy), 5)
    assert time.monotonic() - begun < 2
    left = [int((await send(p)).header("x-ratelimit-remaining-requests")) for p in started]
    assert left == sorted(left, reverse=True)


async def is_shared_again(proxy):
    answer = await send(proxy, "bob")
    return int(answer.header("x-ratelimit-remaining-requests")) > 10


async def test_places_that_end_while_redis_is_frozen_are_free_soon_after(proxies, redis):
    (proxy,) = await proxies(redis.url, limit(concurrent=2), count=1, script=endless)
    holding = [await Client.open(proxy.server.port) for _ in range(2)]
    for client in holding:
        key = ("Authorization", "Bearer alice")
        await client.send(request(chat_body(stream=True), key))
        assert (await client.head()).status == 200
    assert (await send(proxy)).status == 429
    redis.freeze()
    for client in holding:
        client.reset()
    await asyncio.sleep(0.5)
    redis.thaw()
    begun = time.monotonic()

    async def is_free():
        return not await redis.client.keys("*concurrent")

    await until(is_free, 5)
    assert time.monotonic() - begun < 3.5
    assert (await send(proxy)).status == 200


async def test_a_redis_that_is_killed_amid_requests_fails_none_of_them(proxies, redis):
    started = await proxies(redis.url, limit(requests=1_000_000, concurrent=1_000))
    load = asyncio.create_task(clients(started, 2.5, 12))
    await asyncio.sleep(0.5)
    await redis.kill()
    await asyncio.sleep(0.5)
    await redis.start()
    assert (await load).keys() == {200}


@pytest.mark.parametrize("shared", [False, True])
async def test_limits_on_a_cluster(proxies, shared):
    options = limit(requests=20, concurrent=50, period="24 h")
    if shared:
        options += limit(per="global", requests=30, period="24 h").replace('"x"', '"all"')
    async with cluster() as servers:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        started = await proxies(f"redis+cluster://{hosts}", options, timeout=PATIENT)
        found = await clients(started, 2.0, 9)
        assert found[200] == 20
        assert (await clients(started, 2.0, 9, "bob"))[200] == (10 if shared else 20)
        used = {key for server in servers for key in await server.client.keys("*requests")}
        assert len(used) == (3 if shared else 2)


@pytest.mark.slow
async def test_limits_behind_sentinel_hold_after_a_failover(proxies):
    async with behind_sentinel() as (master, replica, sentinel):
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/store"
        started = await proxies(url, limit(requests=20, period="24 h"), timeout=PATIENT)
        assert (await clients(started, 2.0, 6))[200] == 20
        await until(lambda: replica.client.keys("*requests"))
        master.freeze()
        assert (await send(started[0])).status == 200  # its own part, meanwhile

        async def is_back():
            before = await fallbacks(started[0])
            await send(started[0], "bob")
            return await fallbacks(started[0]) == before

        await until(is_back, 30)
        assert (await send(started[0])).status == 429


async def fallbacks(proxy):
    """How often it has decided without Redis."""
    lines = (await admin(proxy, "/metrics")).body.decode().splitlines()
    start = 'dragoman_rate_limit_decisions_total{buckets="fallback"'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


@pytest.mark.slow
async def test_places_that_a_killed_worker_held_are_free_when_their_leases_end(
    serve, upstream, redis
):
    async def silent(call):
        await call.start_stream()
        await call.wait_closed(100)

    up = await upstream(silent)
    toml = SHARED.format(url=up.url).replace("redis://127.0.0.1:1", redis.url)
    process = await serve(
        toml + '[[plugins]]\nuse = "rate_limit"\n' + limit(concurrent=8, per="global")
    )

    async def hold(stack):
        """A stream that takes a place, or None if none is free."""
        client = await stack.enter_async_context(await process.connect())
        await client.send(request(chat_body(stream=True)))
        return client if (await client.head()).status == 200 else None

    async with AsyncExitStack() as stack:
        holding = [await hold(stack) for _ in range(8)]
        assert None not in holding
        assert await hold(stack) is None
        served = by_worker(process, holding)
        victim = min(workers(process), key=lambda worker: len(served[worker.pid]))
        victim.kill()
        killed = time.monotonic()
        await process.hears("was ended by SIGKILL")
        assert await hold(stack) is None  # nobody can know yet that it will not come back
        places = len(served[victim.pid])
        found = 0
        while found < places:
            found += await hold(stack) is not None
            assert time.monotonic() - killed < 75
            await asyncio.sleep(0.5)
        assert time.monotonic() - killed > 30  # at least two renewals of the others'
        assert await hold(stack) is None
