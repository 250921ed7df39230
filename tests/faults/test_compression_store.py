"""Summaries in a real Redis: shared by all processes, and missed by none when it is gone."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.test_compression import SYSTEM, grow, long_chat, say, sent
from tests.support.proxy import start_proxy
from tests.support.upstream import completion

OPTIONS = """
store.url = "{redis}"
store.secret = "a secret of our own, long enough"

[[plugins]]
use = "compression"
high = 1_300
low = 500
keep = 2
segment_tokens = 60
retrieval.enabled = false

[plugins.summariser]
model = "m"
base_url = "{model}"
"""
SUMMARY = "They talked at length."


@pytest.fixture
async def workers(redis, upstream, tmp_path):
    """Two proxies with one Redis, their upstreams, and the calls of the model that sums up."""

    async def sum_up(call):
        await call.answer(completion(SUMMARY))

    model = await upstream(sum_up)
    ups = [await upstream(lambda call: call.chat("Fine.")) for _ in range(2)]
    toml = OPTIONS.format(redis=redis.url, model=model.url)
    proxies = [await start_proxy(tmp_path, up.url, toml) for up in ups]
    yield proxies, ups, model.calls
    for proxy in proxies:
        await proxy.stop()


async def test_a_chat_that_moves_between_workers_has_each_summary_made_once(workers, redis):
    proxies, ups, made = workers
    history = [SYSTEM]
    for number in range(50):
        history = await grow(proxies[number % 2], 1, history, pause=0.02)
    assert SUMMARY in str(sent(ups[0])[-1])
    assert SUMMARY in str(sent(ups[1])[-1])
    keys = await redis.client.keys("dragoman:compression:*")
    kept = [key for key in keys if b"lock" not in key]
    assert len(kept) == len(made)
    assert min([await redis.client.ttl(key) for key in kept]) > 80_000
    assert b"Question" not in b"".join(keys)


async def test_both_workers_send_the_same_bytes(workers):
    proxies, ups, _ = workers
    history = await grow(proxies[0], 40, pause=0.02)
    history.append({"role": "user", "content": "And now?"})
    for proxy in proxies:
        await say(proxy, history)
    assert ups[0].calls[-1].body == ups[1].calls[-1].body
    assert SUMMARY in str(sent(ups[1])[-1])


@pytest.mark.parametrize("fault", ["gone", "frozen"])
async def test_without_redis_chats_go_on_and_are_shortened(workers, redis, fault):
    proxies, ups, _ = workers
    history = await grow(proxies[0], 16, pause=0.02)
    await (redis.kill() if fault == "gone" else asyncio.to_thread(redis.freeze))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    history = await grow(proxies[0], 20, history)
    await say(proxies[1], long_chat(30, 60))
    assert loop.time() - begun < 6
    assert len(sent(ups[0])[-1]) < 30
    assert len(sent(ups[1])[-1]) < 30
    if fault == "frozen":
        redis.thaw()


async def test_redis_restarted_empty_in_the_middle_of_a_chat_changes_no_prompt(workers, redis):
    """What is in use stays in use; what comes later is kept in the new one."""
    proxies, ups, _ = workers
    history = await grow(proxies[0], 30, pause=0.02)
    await say(proxies[0], [*history, {"role": "user", "content": "Now?"}])
    await redis.kill()
    await redis.start()
    await say(proxies[0], [*history, {"role": "user", "content": "Now?"}])
    assert ups[0].calls[-1].body == ups[0].calls[-2].body
    await asyncio.sleep(1.2)
    await grow(proxies[0], 20, history, pause=0.02)
    assert [k for k in await redis.client.keys("dragoman:compression:*") if b"lock" not in k]
