"""Sessions of several proxies on one Redis: they survive restarts, faults and those who leave."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest

from plugins.sessions import leases
from proxy.explain.run import explain
from proxy.startup import load
from tests.support.proxy import start_proxy
from tests.support.raw import Client, ask, chat_body, metric, request
from tests.support.redis import behind_sentinel, cluster, until
from tests.support.upstream import chunks
from tests.support.wire import fetch

STORE = """
store.url = "{url}"
store.secret = "a secret of our own, long enough"
store.timeout = "{timeout}"
telemetry.estimate_usage = false
{more}

[[plugins]]
use = "sessions"
{options}
"""
PATIENT = "3 s"


@pytest.fixture
async def proxies(upstream, tmp_path):
    """Start several proxies with one store and one upstream."""
    async with AsyncExitStack() as stack:

        async def start(url, options="", *, count=1, script=None, timeout=PATIENT, more=""):
            up = await (upstream(script) if script else upstream())
            toml = STORE.format(url=url, options=options, timeout=timeout, more=more)
            started = [await start_proxy(tmp_path, up.url, toml) for _ in range(count)]
            for each in started:
                stack.push_async_callback(each.stop)
            return up, *started

        yield start


def named(session="s1"):
    return ("x-dragoman-session", session), ("Authorization", "Bearer alice")


async def say(proxy, text, session="s1", *more, **fields):
    answer = await ask(proxy, request(chat_body(text, **fields), *named(session), *more))
    assert answer.status == 200, answer.body
    return answer


async def begin(proxy, text, session="s1"):
    """A stream that has begun."""
    client = await Client.open(proxy.server.port)
    await client.send(request(chat_body(text, stream=True), *named(session)))
    assert (await client.head()).status == 200
    return client


async def read(client, until_):
    seen = b""
    async with asyncio.timeout(10):
        while until_ not in seen:
            seen += await client.reader.read(65_536)
    return seen


def sent(up):
    return [message["content"] for message in up.calls[-1].json["messages"]]


async def turns(proxy, session="s1"):
    """The turns of a session: their states, and what was said in them."""
    root = proxy.base_url.removesuffix("/v1")
    answer = await fetch(root, "GET", f"/dragoman/v1/sessions/{session}", named()[1])
    if answer.status == 404:
        return []
    return [
        (turn["state"], *(m["message"]["content"] for m in turn["messages"]))
        for turn in json.loads(answer.body)["turns"]
    ]


async def has(proxy, count, session="s1"):
    async def enough():
        return len(await turns(proxy, session)) >= count

    await until(enough)


def gated(*, breaks=False):
    """A script that streams two words, and when it is told to the rest, or nothing more."""
    go = asyncio.Event()

    async def script(call):
        if not call.json.get("stream"):
            await call.chat("yes")
            return
        await call.start_stream()
        events = chunks("one two three", call.json)
        for event in events[:3]:
            await call.chunk(event)
        await go.wait()
        if breaks:
            call.reset()
            return
        for event in events[3:]:
            await call.chunk(event)
        await call.end_chunks()

    return script, go


# ---- where a session lives


async def test_a_session_moves_between_proxies_and_survives_them(redis, proxies):
    up, one, two = await proxies(redis.url, count=2)
    await say(one, "a")
    await say(two, "b", stream=True)
    await say(one, "c")
    assert sent(up) == ["a", "Hello.", "b", "Hello.", "c"]
    await one.stop()
    await two.stop()
    up, three = await proxies(redis.url)
    await say(three, "d")
    assert sent(up) == ["a", "Hello.", "b", "Hello.", "c", "Hello.", "d"]


async def test_keys_tell_nothing_of_callers_and_sessions_and_go_away(redis, proxies):
    _, proxy = await proxies(redis.url, 'ttl = "5 min"\n')
    await say(proxy, "a", "secret-name")
    await until(redis.client.keys)
    (key,) = await redis.client.keys()
    assert b"alice" not in key
    assert b"secret-name" not in key
    assert 290_000 < await redis.client.pttl(key) <= 300_000
    await redis.client.pexpire(key, 1)
    await asyncio.sleep(0.02)
    assert await turns(proxy, "secret-name") == []


async def test_a_request_costs_one_script_to_enter_and_one_to_leave(redis, proxies):
    _, proxy = await proxies(redis.url)
    await say(proxy, "a")
    await has(proxy, 1)

    async def calls():
        stats = await redis.client.info("commandstats")
        return sum(
            stats[n]["calls"] for n in stats if n.startswith(("cmdstat_eval", "cmdstat_mget"))
        )

    before = await calls()
    for number in range(10):
        await say(proxy, f"{number}", stream=number % 2 == 0)
    await until(lambda: _reaches(calls, before + 20))


async def _reaches(calls, expected):
    found = await calls()
    assert found <= expected
    return found == expected


async def test_a_session_of_many_turns_has_a_limit(redis, proxies):
    up, proxy = await proxies(redis.url, "max_turns = 3\n")
    for number in range(6):
        answer = await say(proxy, f"{number}")
    assert answer.header("x-dragoman-history") == "appended;supplied=6;forgotten=2"
    assert sent(up) == ["2", "Hello.", "3", "Hello.", "4", "Hello.", "5"]


async def test_explain_reads_a_session_and_leaves_it_alone(redis, proxies, tmp_path):
    up, proxy = await proxies(redis.url)
    await say(proxy, "one")
    await has(proxy, 1)
    (key,) = await redis.client.keys()
    before = await redis.client.get(key)
    flags = {"--upstream": up.url}
    configuration = await asyncio.to_thread(load, tmp_path / "dragoman.toml", flags, {})
    told = await explain(configuration, chat_body("two"), named())
    (account,) = told.accounts
    assert (account.effect, account.notes["sessions.supplied"]) == ("modify", 2)
    assert told.sent is not None
    assert told.sent.messages == 3
    assert await redis.client.keys() == [key]
    assert await redis.client.get(key) == before


# ---- one at a time


async def test_requests_at_two_proxies_wait_for_one_another(redis, proxies):
    script, go = gated()
    up, one, two = await proxies(redis.url, count=2, script=script)
    client = await begin(one, "first")
    async with asyncio.TaskGroup() as group:
        second = group.create_task(say(two, "second"))
        await asyncio.sleep(0.1)
        assert len(up.calls) == 1
        go.set()
    assert second.result().status == 200
    assert sent(up) == ["first", "one two three", "second"]
    client.reset()


async def test_many_requests_of_one_session_at_once_are_all_remembered(redis, proxies):
    up, *started = await proxies(redis.url, count=2)
    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(say(started[number % 2], f"{number}"))
    await has(started[0], 12)
    lengths = sorted(len(call.json["messages"]) for call in up.calls)
    assert lengths == [2 * n + 1 for n in range(12)]


async def test_requests_at_two_proxies_refuse_one_another(redis, proxies):
    script, go = gated()
    up, one, two = await proxies(redis.url, 'concurrent = "refuse"\n', count=2, script=script)
    client = await begin(one, "first")
    for proxy in (one, two):
        refused = await ask(proxy, request(chat_body("second"), *named()))
        assert (refused.status, refused.code) == (409, "session_busy")
    go.set()
    await read(client, b"[DONE]")
    await say(two, "second")
    assert sent(up) == ["first", "one two three", "second"]
    client.reset()


async def test_a_session_is_held_while_an_answer_lasts_and_not_for_long_by_who_is_dead(
    redis, proxies, monkeypatch
):
    monkeypatch.setattr(leases, "RENEWAL", 0.3)
    monkeypatch.setattr(leases, "PAUSE", 0.1)
    script, go = gated()
    up, one, two = await proxies(redis.url, count=2, script=script)
    client = await begin(one, "first")
    (key,) = await redis.client.keys("*:lease")
    assert 0 < await redis.client.pttl(key) <= 30_000
    await redis.client.pexpire(key, 2_000)

    async def is_renewed():
        return await redis.client.pttl(key) > 20_000

    await until(is_renewed)
    monkeypatch.setattr(leases, "RENEWAL", 1e9)  # as if that process were gone
    await asyncio.sleep(0.5)
    await redis.client.pexpire(key, 1)
    await say(two, "second")
    assert sent(up) == ["second"]
    go.set()
    await read(client, b"[DONE]")

    await until(lambda: _is(one, 'turns_total{outcome="lost"}', 1))
    assert [turn[1] for turn in await turns(two)] == ["second"], "who lost it does not write"
    client.reset()


# ---- answers that break


@pytest.mark.parametrize("who", ["upstream", "client"])
@pytest.mark.parametrize("keep", [False, True])
async def test_a_turn_that_broke_off_is_kept_apart(redis, proxies, who, keep):
    script, go = gated(breaks=True)
    options = 'incomplete = "keep"\n' if keep else ""
    up, proxy = await proxies(redis.url, options, script=script)
    await say(proxy, "before")
    client = await begin(proxy, "first")
    await read(client, b" two")
    if who == "client":
        client.reset()
    else:
        go.set()
        await read(client, b"upstream_truncated")
    await has(proxy, 2)
    states = await turns(proxy)
    assert states == [("complete", "before", "yes"), ("incomplete", "first", "one two")]
    await say(proxy, "second")
    broken = ["first", "one two"] if keep else []
    assert sent(up) == ["before", "yes", *broken, "second"]
    client.reset()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_an_answer_leaves_nothing(redis, proxies, stream):
    async def script(call):
        if call.json["messages"][-1]["content"] == "first":
            await call.wait_closed(30)
        else:
            await call.chat("yes")

    up, proxy = await proxies(redis.url, script=script)
    async with await Client.open(proxy.server.port) as client:
        await client.send(request(chat_body("first", stream=stream), *named()))
        await until(lambda: _there(up))
    await say(proxy, "second")
    assert sent(up) == ["second"]


async def _there(up):
    return len(up.calls)


async def test_an_error_of_the_upstream_leaves_nothing(redis, proxies):
    async def script(call):
        if call.json["messages"][-1]["content"] == "first":
            await call.answer(b'{"error": {"message": "no"}}', status="500 Internal Server Error")
        else:
            await call.chat("yes")

    up, proxy = await proxies(redis.url, script=script)
    assert (await ask(proxy, request(chat_body("first"), *named()))).status == 500
    await say(proxy, "second")
    assert sent(up) == ["second"]


# ---- a store that breaks


@pytest.mark.parametrize("fault", ["frozen", "killed"])
async def test_without_redis_requests_go_on_without_history_and_say_so(redis, proxies, fault):
    up, proxy = await proxies(redis.url, timeout="100 ms")
    await say(proxy, "a")
    await has(proxy, 1)
    if fault == "frozen":
        redis.freeze()
    else:
        await redis.kill()
    for text in ("b", "c"):
        answer = await say(proxy, text, stream=text == "c")
        assert answer.header("x-dragoman-degraded") == "sessions"
        assert answer.header("x-dragoman-history") is None
        assert sent(up) == [text]
    whole = [
        {"role": r, "content": t}
        for r, t in [("user", "a"), ("assistant", "Hello."), ("user", "d")]
    ]
    await say(proxy, "", messages=whole)
    assert sent(up) == ["a", "Hello.", "d"]
    if fault == "frozen":
        redis.thaw()
    else:
        await redis.start()

    async def is_back():
        return (await say(proxy, "probe", "other")).header("x-dragoman-degraded") is None

    await until(is_back)
    whole += [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "e"}]
    answer = await say(proxy, "", messages=whole)
    kept = fault == "frozen"
    assert answer.header("x-dragoman-history").startswith("resent" if kept else "new")
    await say(proxy, "f")
    assert sent(up) == ["a", "Hello.", "d", "Hello.", "e", "Hello.", "f"], "who resends heals it"


@pytest.mark.parametrize("fault", ["frozen", "killed"])
async def test_a_redis_that_breaks_amid_an_answer_costs_the_client_nothing(
    redis, proxies, caplog, fault
):
    script, go = gated()
    _, proxy = await proxies(redis.url, script=script, timeout="100 ms")
    client = await begin(proxy, "first")
    if fault == "frozen":
        redis.freeze()
    else:
        await redis.kill()
    go.set()
    assert b'" three"' in await read(client, b"[DONE]")
    if fault == "frozen":
        await asyncio.sleep(0.5)
        redis.thaw()
        await has_soon(proxy, ("complete", "first", "one two three"))
    else:  # and with it went who was in the session
        await redis.start()
        await until(lambda: _is(proxy, 'turns_total{outcome="lost"}', 1), 20)
        assert await turns(proxy) == []
    assert "three" not in caplog.text
    client.reset()


async def _is(proxy, name, expected):
    return await metric(proxy, f"dragoman_session_{name}") == expected


async def test_that_there_was_no_history_is_on_the_trace(proxies, collector):
    traced = f'telemetry.endpoint = "{collector.url}"'
    _, proxy = await proxies("redis://127.0.0.1:1", more=traced, timeout="100 ms")
    await say(proxy, "a")
    spans = await collector.wait_for(4)
    (span,) = [span for span in spans if "dragoman.sessions.degraded" in span.attributes]
    assert span.attributes["dragoman.plugin.name"] == "sessions"
    assert await metric(proxy, 'dragoman_session_requests_total{history="unavailable"}') == 1


async def test_what_became_of_a_turn_is_on_the_trace(redis, proxies, collector):
    traced = f'telemetry.endpoint = "{collector.url}"'
    _, proxy = await proxies(redis.url, more=traced)
    await say(proxy, "the content")
    await collector.wait_for(3)
    await say(proxy, "more of it", stream=True)
    spans = await collector.wait_for(7)
    (span,) = [s for s in spans if s.attributes.get("dragoman.sessions.history") == "appended"]
    assert span.attributes["dragoman.sessions.written"] == "complete"
    assert span.attributes["dragoman.sessions.supplied"] == 2
    assert "the content" not in str(spans)


async def has_soon(proxy, turn):
    async def there():
        try:
            return turn in await turns(proxy)
        except KeyError:
            return False

    await until(there, 20)


async def test_a_process_that_was_killed_holds_its_sessions_no_longer_than_its_lease(
    redis, proxies, serve
):
    script, _ = gated()
    up, proxy = await proxies(redis.url, script=script)
    toml = f'upstream.base_url = "{up.url}"\nserver.port = 0\nserver.admin_port = 0\n'
    process = await serve(toml + STORE.format(url=redis.url, options="", timeout=PATIENT, more=""))
    client = await process.connect()
    await client.send(request(chat_body("first", stream=True), *named()))
    assert (await client.head()).status == 200
    await process.kill()
    (key,) = await redis.client.keys("*:lease")
    assert 0 < await redis.client.pttl(key) <= 30_000
    async with asyncio.TaskGroup() as group:
        second = group.create_task(say(proxy, "second"))
        await asyncio.sleep(0.2)
        assert len(up.calls) == 1, "it waits for who is dead"
        await redis.client.pexpire(key, 1)
    assert second.result().status == 200
    client.reset()


async def test_sessions_on_a_cluster(proxies):
    async with cluster() as servers:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        up, one, two = await proxies(f"redis+cluster://{hosts}", count=2)
        for session in "abcdef":
            await say(one, "1", session)
            await say(two, "2", session, stream=True)
            await say(one, "3", session)
            assert sent(up) == ["1", "Hello.", "2", "Hello.", "3"]
            await has(two, 3, session)
            root = two.base_url.removesuffix("/v1")
            path = f"/dragoman/v1/sessions/{session}/messages/1"
            assert (await fetch(root, "DELETE", path, named()[1])).status == 200
        used = [server for server in servers if await server.client.keys("*:text")]
        assert len(used) > 1


@pytest.mark.slow
async def test_sessions_behind_sentinel_survive_a_failover(proxies):
    async with behind_sentinel() as (master, replica, sentinel):
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/store"
        script, go = gated()
        up, proxy = await proxies(url, script=script, timeout="500 ms")
        await say(proxy, "a")
        await has(proxy, 1)
        client = await begin(proxy, "b")
        await until(lambda: replica.client.keys("*:lease"))
        await until(lambda: replica.client.keys("*:text"))
        master.freeze()
        go.set()
        assert b'" three"' in await read(client, b"[DONE]")
        answer = await say(proxy, "probe", "other")
        assert answer.header("x-dragoman-degraded") == "sessions"

        async def is_back():
            return (await say(proxy, "probe", "other")).header("x-dragoman-degraded") is None

        await until(is_back, 30)
        await has_soon(proxy, ("complete", "b", "one two three"))
        await say(proxy, "c")
        assert sent(up) == ["a", "yes", "b", "one two three", "c"]
        client.reset()
