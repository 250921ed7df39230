"""All plugins of a configuration on one Redis that breaks: each goes on without it, and none loses
what was confirmed."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from functools import partial
from itertools import count

import pytest

from proxy.callers import fingerprint
from proxy.keys.table import KeyTable, StoredKey
from proxy.serving.reload import Change
from proxy.startup import load
from tests.support import upstream as wire
from tests.support.proxy import start_proxy
from tests.support.raw import Client, admin, chat_body, request
from tests.support.redis import running, until
from tests.support.stores import store_at

KEY = "dgm-of-ann"
TOKENS = (30, 5)
TIMEOUT = 0.5
SETTINGS = """
upstream.api_key = "sk-of-the-operator"
upstream.pace.requests = {pace}
store.url = "{url}"
store.secret = "a secret of our own, long enough"
store.timeout = "500 ms"
store.keys = true
telemetry.estimate_usage = false
telemetry.turn_log = false

[[plugins]]
use = "rate_limit"
[[plugins.limits]]
name = "fair"
requests = 100_000
tokens = 10_000_000
concurrent = {limit}

[[plugins]]
use = "budget"
[[plugins.budgets]]
name = "own"
tokens = 1_000_000
soft = {soft}
[[plugins.budgets]]
name = "all"
per = "global"
tokens = 1_000_000

[[plugins]]
use = "faq_cache"
responses.enabled = true
responses.ttl = "{limit} s"

[[plugins]]
use = "sessions"
max_turns = {limit}

[[plugins]]
use = "sampling"
feedback.refresh = "200 ms"
[[plugins.scenes]]
name = "s"
models = ["*"]
tune.temperature = [0.0, 1.0]
tune.min_feedback = {limit}

[[plugins]]
use = "compression"
high = {limit}_000
low = 200
"""


@pytest.fixture
async def redis():
    async with running() as server:
        async with store_at(server.url) as store:
            key = {"name": "ann", "sha256": fingerprint(KEY), "created": "2026-01-01T00:00:00Z"}
            await KeyTable(store).change(lambda _: (StoredKey.model_validate(key),))
        yield server


class Proxy:
    """One with all plugins, and what it has answered."""

    def __init__(self, started, folder, url):
        self.started = started
        self.answered = 0
        self.ids = []
        self._folder = folder
        self._url = url
        self._numbers = count(1)

    async def send(self, body, target, method="POST", session="a"):
        async with await Client.open(self.started.server.port) as client:
            headers = (("Authorization", f"Bearer {KEY}"), ("x-dragoman-session", session))
            await client.send(request(body, *headers, method=method, target=target))
            return await client.answer(30)

    async def chat(self, session="a", **fields):
        text = f"This is question number {next(self._numbers)}."
        body = chat_body(text, model="gpt-4o", **fields)
        answer = await self.send(body, "/v1/chat/completions", session=session)
        assert answer.status == 200, answer
        self.answered += 1
        self.ids.append(answer.json["id"])
        return answer

    async def is_whole(self):
        """Does it do again all that needs Redis?"""
        answer = await self.chat("another")
        return answer.header("x-dragoman-degraded") is None

    async def feedback(self):
        body = json.dumps({"response_id": self.ids[-1], "score": 1}).encode()
        return (await self.send(body, "/dragoman/v1/feedback")).status

    async def history(self):
        answer = await self.send(None, "/dragoman/v1/sessions/a", "GET")
        turns = answer.json["turns"]
        assert {turn["state"] for turn in turns} <= {"complete"}
        return [each["message"]["content"] for turn in turns for each in turn["messages"]]

    async def usage(self):
        total = json.loads((await admin(self.started, "/admin/usage?by=")).body)["total"]
        return total["requests"], total["prompt_tokens"] + total["completion_tokens"]

    async def adopt(self, **options):
        """Have it serve by another configuration."""
        path = self._folder / "dragoman.toml"
        path.write_text(settings(self._url, **options))
        now = self.started.server.configuration
        flags = {"--upstream": str(now.settings.upstream.base_url), "--admin-port": "0"}
        read = await asyncio.to_thread(load, path, flags, {})
        await self.started.server.adopt(Change.of(now, read).configuration)


def settings(url, **options):
    return SETTINGS.format(url=url, **{"pace": 100_000, "limit": 100, "soft": 0.8, **options})


@pytest.fixture
async def proxy(upstream, tmp_path, redis):
    numbers = count(1)

    async def numbered(call):
        body = wire.completion("Hello", TOKENS)
        await call.answer(body.replace(b"chatcmpl-test", b"chatcmpl-%d" % next(numbers)))

    async with AsyncExitStack() as stack:
        up = await upstream(numbered)
        started = await start_proxy(tmp_path, up.url, settings(redis.url))
        stack.push_async_callback(started.stop)
        yield Proxy(started, tmp_path, redis.url)


async def breaks(redis, fault):
    if fault == "frozen":
        redis.freeze()
    elif fault == "killed":
        await redis.kill()
    else:
        await redis.client.config_set("maxmemory-policy", "noeviction")
        await redis.client.config_set("maxmemory", 1)


async def mends(redis, fault):
    if fault == "frozen":
        redis.thaw()
    elif fault == "killed":
        await redis.start()
    else:
        await redis.client.config_set("maxmemory", 0)


@pytest.mark.parametrize("fault", ["frozen", "killed", "full"])
async def test_all_plugins_go_on_without_it_and_lose_nothing(proxy, redis, fault, caplog):
    for _ in range(3):
        assert (await proxy.chat()).header("x-dragoman-degraded") is None
    await asyncio.sleep(0.1)
    before = await proxy.history()
    assert len(before) == 6
    await breaks(redis, fault)
    begun = time.monotonic()
    answer = await proxy.chat()
    # It hangs for two of its operations at most, however many there are.
    assert time.monotonic() - begun < 2 * TIMEOUT + 1
    assert answer.header("x-dragoman-degraded") == "sessions"
    assert answer.header("x-ratelimit-remaining-requests") is not None
    begun = time.monotonic()
    for _ in range(10):
        assert (await proxy.chat()).header("x-dragoman-degraded") == "sessions"
    assert time.monotonic() - begun < 4 * TIMEOUT
    assert await proxy.feedback() == 503
    assert (await proxy.send(None, "/v1/models", "GET")).status == 200
    await mends(redis, fault)
    begun = time.monotonic()
    await until(proxy.is_whole)
    assert time.monotonic() - begun < 3
    if fault != "killed":  # then it has forgotten all
        assert await proxy.history() == before
    assert (await proxy.chat()).header("x-dragoman-history") is not None
    assert await proxy.feedback() == 200

    async def is_counted():
        return await proxy.usage() == (proxy.answered, proxy.answered * sum(TOKENS))

    if fault != "killed":
        await until(is_counted)
        await until(partial(is_spent, redis, proxy))
    await until(partial(nothing_is_held, redis))
    assert "a callback of" not in caplog.text


@pytest.mark.parametrize("changed", ["limit", "pace", "soft"])
async def test_another_configuration_is_taken_up_while_it_is_gone(proxy, redis, changed):
    await proxy.chat()
    await asyncio.sleep(0.1)
    before = await proxy.history()
    await breaks(redis, "frozen")
    await proxy.chat()  # it finds out
    new = {"limit": 90, "pace": 90_000, "soft": 0.5}[changed]
    begun = time.monotonic()
    await proxy.adopt(**{changed: new})
    for _ in range(5):
        assert (await proxy.chat()).header("x-dragoman-degraded") == "sessions"
    assert time.monotonic() - begun < 2 * TIMEOUT + 2
    assert await proxy.send(None, "/v1/models", "GET")
    await mends(redis, "frozen")
    await until(proxy.is_whole)
    assert await proxy.history() == before
    await until(partial(is_spent, redis, proxy))
    await until(partial(nothing_is_held, redis))


async def is_spent(redis, proxy):
    """Do the counters of both budgets say what was used?"""
    keys = [*await redis.client.keys("*}:own:*"), *await redis.client.keys("*}:all:*")]
    return [int(v) for v in await redis.client.mget(keys)] == [proxy.answered * sum(TOKENS)] * 2


async def nothing_is_held(redis):
    return not await redis.client.keys("*concurrent") and not await redis.client.keys("*lease*")
