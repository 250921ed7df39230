"""Temperatures that several proxies learn together on one Redis, and what they do without it."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from itertools import count

import pytest

from tests.support import upstream as wire
from tests.support.proxy import start_proxy
from tests.support.raw import Client, admin, chat_body, request
from tests.support.redis import cluster, until

SETTINGS = """
store.url = "{url}"
store.secret = "a secret of our own, long enough"
store.timeout = "{timeout}"
telemetry.turn_log = false

[[plugins]]
use = "sampling"
defaults.temperature = 0.7
feedback.refresh = "200 ms"

[[plugins.scenes]]
name = "s"
models = ["*"]
tune.temperature = [0.0, 1.0]
tune.min_feedback = 1
tune.explore = 0.0
{options}
"""
COST = 3
"""Seconds within which something that waits for Redis at most twice is over on a busy machine."""

_numbers = count(1)


async def numbered(call):
    """Each answer with an id of its own."""
    body = wire.completion("Hello").replace(b"chatcmpl-test", b"chatcmpl-%d" % next(_numbers))
    await call.answer(body)


@pytest.fixture
async def proxies(upstream, tmp_path):
    """Start several proxies that learn together."""
    async with AsyncExitStack() as stack:

        async def start(url, *, count=2, timeout="3 s", options=""):
            up = await upstream(numbered)
            toml = SETTINGS.format(url=url, timeout=timeout, options=options)
            started = [await start_proxy(tmp_path, up.url, toml) for _ in range(count)]
            for each in started:
                stack.push_async_callback(each.stop)
            return started

        yield start


async def send(proxy, body, target="/v1/chat/completions", key="alice"):
    async with await Client.open(proxy.server.port) as client:
        headers = ("Authorization", f"Bearer {key}")
        await client.send(request(body, headers, target=target))
        return await client.answer()


async def say(proxy):
    """The id of an answer, and the temperature that it was made with; None if it was not tuned."""
    answer = await send(proxy, chat_body())
    told = answer.header("x-dragoman-sampling")
    return answer.json["id"], None if told is None else float(told.rpartition("=")[2])


async def give(proxy, response_id, key="alice", **fields):
    body = json.dumps({"response_id": response_id, **fields}).encode()
    return await send(proxy, body, "/dragoman/v1/feedback", key)


async def answer_with(proxy, temperature):
    """An answer that was made with this temperature, while both still are."""
    async with asyncio.timeout(20):
        while True:
            response_id, made_with = await say(proxy)
            if made_with == temperature:
                return response_id


async def learned(proxy):
    """Feedback by temperature, as operators see it at this proxy."""
    told = (await admin(proxy, "/admin/sampling")).json
    found = {each["temperature"]: each for each in told["scenes"]["s"]["temperatures"]}
    return told["is_current"], {name: each["feedback"] for name, each in found.items()}


async def test_what_one_proxy_is_told_another_knows(proxies, redis):
    one, other = await proxies(redis.url)
    cold, hot = await answer_with(one, 0.0), await answer_with(one, 1.0)
    assert (await give(other, hot, thumbs="up")).status == 200
    assert (await give(one, cold, thumbs="down")).status == 200
    for proxy in (one, other):
        assert await learned(proxy) == (True, {0.0: 1, 1.0: 1})
    # Many more, so that nothing but the best is drawn.
    for _ in range(15):
        response_id, temperature = await say(one)
        assert (await give(one, response_id, score=1 if temperature else -1)).status == 200

    async def knows():
        return [(await say(other))[1] for _ in range(12)].count(1.0) >= 11

    await until(knows)
    assert (await give(other, hot, "bob", thumbs="down")).status == 404


async def test_a_second_feedback_replaces_the_first_wherever_it_is_given(proxies, redis):
    one, other = await proxies(redis.url)
    response_id, temperature = await say(one)
    assert not (await give(one, response_id, thumbs="up")).json["replaced"]
    assert (await give(other, response_id, thumbs="down")).json["replaced"]
    assert (await learned(one))[1][temperature] == 1


async def test_requests_wait_for_nothing_in_redis(proxies, redis):
    (proxy,) = await proxies(redis.url, count=1)
    await say(proxy)

    async def calls():
        stats = await redis.client.info("commandstats")
        names = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_get", "cmdstat_mget")
        return sum(stats.get(name, {}).get("calls", 0) for name in names)

    before, begun = await calls(), time.monotonic()
    for _ in range(50):
        await say(proxy)
    ticks = (time.monotonic() - begun) / 0.2
    # One script each 200 ms and none for a request, which only leaves a trial behind.
    assert await calls() - before <= ticks + 2

    async def all_trials_are_there():
        return len(await redis.client.keys("*:trial:*")) == 51

    await until(all_trials_are_there)


async def test_what_was_chosen_is_added_up_over_all_proxies(proxies, redis):
    started = await proxies(redis.url)

    async def chosen(proxy):
        told = (await admin(proxy, "/admin/sampling")).json["scenes"]["s"]["temperatures"]
        return sum(each["chosen"] for each in told)

    for expected in (10, 20):
        for proxy in started:
            for _ in range(5):
                await say(proxy)

        async def is_all(expected=expected):
            return [await chosen(proxy) for proxy in started] == [expected] * 2

        await until(is_all)


async def test_a_reset_is_for_all(proxies, redis):
    one, other = await proxies(redis.url)
    response_id, _ = await say(one)
    await give(one, response_id, thumbs="up")
    async with await Client.open(other.server.admin_port) as client:
        await client.send(request(target="/admin/sampling/s/reset"))
        assert (await client.answer()).status == 200
    assert await learned(one) == (True, {0.0: 0, 1.0: 0})
    assert not (await give(one, response_id, thumbs="up")).json["learned"]


async def test_a_frozen_scene_uses_the_best_so_far_and_learns_no_more(proxies, redis):
    (learning,) = await proxies(redis.url, count=1)
    for temperature, thumbs in ((0.0, "up"), (1.0, "down")):
        response_id = await answer_with(learning, temperature)
        assert (await give(learning, response_id, thumbs=thumbs)).json["learned"]
    (frozen,) = await proxies(redis.url, count=1, options="tune.freeze = true")
    for _ in range(10):
        response_id, temperature = await say(frozen)
        assert temperature == 0.0
        told = await give(frozen, response_id, thumbs="down")
        assert (told.status, told.json["learned"]) == (200, False)
    assert await learned(learning) == (True, {0.0: 1, 1.0: 1})


@pytest.mark.parametrize("fault", ["frozen", "killed"])
async def test_without_redis_requests_go_on_by_what_was_known_and_feedback_is_to_come_back(
    proxies, redis, fault
):
    (proxy,) = await proxies(redis.url, count=1, timeout="100 ms")
    for temperature, thumbs in ((0.0, "down"), (1.0, "up")):
        before = await answer_with(proxy, temperature)
        assert (await give(proxy, before, thumbs=thumbs)).status == 200
    if fault == "frozen":
        redis.freeze()
    else:
        await redis.kill()
    meanwhile = [await say(proxy) for _ in range(20)]
    assert None not in {temperature for _, temperature in meanwhile}
    begun = time.monotonic()
    refused = await give(proxy, before, thumbs="down")
    assert time.monotonic() - begun < COST
    assert (refused.status, refused.header("retry-after")) == (503, "1")
    assert refused.code == "plugin_unavailable"
    assert await learned(proxy) == (False, {0.0: 1, 1.0: 1})
    if fault == "frozen":
        redis.thaw()
    else:
        await redis.start()

    async def is_back():
        return (await give(proxy, meanwhile[0][0], thumbs="up")).status == 200

    await until(is_back)
    for response_id, _ in meanwhile[1:]:
        told = await give(proxy, response_id, thumbs="up")
        assert (told.status, told.json["learned"]) == (200, True)
    is_current, feedback = await learned(proxy)
    # A Redis that was killed has lost what it knew, and none of what it has confirmed since.
    assert (is_current, sum(feedback.values())) == (True, 22 if fault == "frozen" else 20)


async def test_a_proxy_that_starts_without_redis_uses_the_default_until_it_is_there(proxies, redis):
    await redis.kill()
    (proxy,) = await proxies(redis.url, count=1, timeout="100 ms")
    assert (await say(proxy))[1] is None
    assert (await admin(proxy, "/admin/sampling")).status == 503
    await redis.start()

    async def is_tuned():
        return (await say(proxy))[1] is not None

    await until(is_tuned)


async def test_on_a_cluster(proxies):
    async with cluster() as servers:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        one, other = await proxies(f"redis+cluster://{hosts}")
        for _ in range(10):
            response_id, _ = await say(one)
            assert (await give(other, response_id, thumbs="up")).json["learned"]
        assert sum((await learned(one))[1].values()) == 10
