"""More than there is: connections, files, pipelined requests, and time that jumps."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from contextlib import AsyncExitStack

import psutil
import pytest

from tests.support.raw import Client, ask, ask_chat, chat_body, metric, request
from tests.support.upstream import chunks, completion

UNCOUNTED = "telemetry.estimate_usage = false"
LIMITED = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
EVENTS = chunks("one two", {})


async def test_a_connection_beyond_the_limit_is_closed_and_the_others_stay(proxy, upstream):
    running = await proxy((await upstream()).url, "server.max_connections = 5")
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(await Client.open(running.server.port))
            for _ in range(5)
        ]
        for client in clients:
            await client.send(request(chat_body()))
            assert (await client.answer()).status == 200
        async with await Client.open(running.server.port) as one_more:
            assert await one_more.rest() == b""
        await clients[0].send(request(chat_body()))
        assert (await clients[0].answer()).status == 200
        clients[1].leave()
        assert await clients[1].rest() == b""
        async with asyncio.timeout(5):
            while not await served(running.server.port):
                await asyncio.sleep(0.01)


async def served(port: int) -> bool:
    """Is there room for a connection?"""
    async with await Client.open(port) as client:
        try:
            await client.send(request(method="GET", target="/nowhere"))
            return (await client.answer()).status == 404
        except (asyncio.IncompleteReadError, ConnectionError):
            return False


async def test_running_out_of_files_costs_new_connections_only_and_does_not_spin(serve, upstream):
    more = asyncio.Event()

    async def script(call):
        if not call.json.get("stream"):
            await call.answer(completion("Hello."))
            return
        await call.start_stream()
        await call.chunk(EVENTS[0])
        await more.wait()
        for event in EVENTS[1:]:
            await call.chunk(event)
        await call.end_chunks()

    up = await upstream(script)
    toml = f"""
    upstream.base_url = "{up.url}"
    server.port = 0
    server.admin_port = 0
    {UNCOUNTED}
    """
    process = await serve(toml, prefix=(sys.executable, "-c", LIMITED))
    async with AsyncExitStack() as stack:
        streaming = await stack.enter_async_context(await process.connect())
        await streaming.send(request(chat_body(stream=True)))
        await streaming.head()
        crowd = []
        for _ in range(100):
            try:
                crowd.append(await stack.enter_async_context(await process.connect()))
            except ConnectionError:
                break
        assert len(crowd) > 30
        program = psutil.Process(process.pid)
        before = program.cpu_times().user + program.cpu_times().system
        await asyncio.sleep(1)
        after = program.cpu_times().user + program.cpu_times().system
        assert after - before < 0.5
        more.set()
        assert b"[DONE]" in await streaming.reader.readuntil(b"0\r\n\r\n")
    async with asyncio.timeout(10):
        while not await served(process.port):
            await asyncio.sleep(0.05)
    async with await process.connect() as client:
        await client.send(request(chat_body()))
        assert (await client.answer()).status == 200
    assert process.said.count("\n") < 20


async def test_the_limit_of_files_is_raised_to_the_hard_one(serve, upstream):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = LIMITED.replace("(64, 64)", f"({min(256, soft)}, {hard})")
    toml = f'upstream.base_url = "{(await upstream()).url}"\nserver.port = 0\nserver.admin_port = 0'
    process = await serve(toml, prefix=(sys.executable, "-c", code))
    assert psutil.Process(process.pid).rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)


async def test_pipelined_requests_are_answered_in_order_and_not_all_at_once(proxy, upstream):
    started = 0

    async def script(call):
        nonlocal started
        started += 1
        await call.answer(completion(call.json["model"]))

    running = await proxy((await upstream(script)).url)
    async with await Client.open(running.server.port) as client:
        await client.send(b"".join(request(chat_body(model=f"m{n}")) for n in range(500)))
        for number in range(500):
            answer = await client.answer()
            assert answer.json["choices"][0]["message"]["content"] == f"m{number}"
    assert started == 500


async def test_a_flood_of_pipelined_requests_waits_where_it_came_from(proxy, upstream):
    """Behind a request that takes its time, others are not read without end."""
    release = asyncio.Event()

    async def script(call):
        await release.wait()
        await call.answer(completion("Hello."))

    up = await upstream(script)
    running = await proxy(up.url)
    async with await Client.open(running.server.port) as client:
        sent = 0

        async def flood():
            nonlocal sent
            data = request(chat_body("x" * 1000)) * 100
            while True:
                await client.send(data)
                sent += len(data)

        flooding = asyncio.get_running_loop().create_task(flood())
        before = -1
        while sent > before:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 32_000_000
        assert len(up.calls) == 1
        flooding.cancel()
        await asyncio.wait([flooding])


async def test_many_streams_at_once_all_start(proxy, upstream):
    """No limit of the client library stands between a client and the upstream."""
    release = asyncio.Event()

    async def script(call):
        await call.start_stream()
        await call.chunk(EVENTS[0])
        await release.wait()
        await call.end_chunks()

    running = await proxy((await upstream(script)).url, UNCOUNTED)
    async with AsyncExitStack() as stack:
        for _ in range(300):
            client = await stack.enter_async_context(await Client.open(running.server.port))
            await client.send(request(chat_body(stream=True)))
            await client.head()
        assert await metric(running, "http_server_active_requests") == 300
        release.set()


@pytest.mark.parametrize("jump", [-86_400 * 365, 86_400 * 365])
async def test_a_clock_that_jumps_changes_nothing(proxy, upstream, collector, monkeypatch, jump):
    offset = 0.0
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + offset)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(offset * 1e9))

    async def script(call):
        nonlocal offset
        await call.start_stream()
        await call.chunk(EVENTS[0])
        offset += jump
        for event in EVENTS[1:]:
            await call.chunk(event)
        await call.end_chunks()

    toml = f'{UNCOUNTED}\nupstream.idle_timeout = "2 s"\ntelemetry.endpoint = "{collector.url}"'
    running = await proxy((await upstream(script)).url, toml)
    answer = await ask_chat(running, stream=True)
    assert answer.events[-1] == b"[DONE]"
    turn = (await running.turns())[0]
    assert 0 < turn["total_ms"] < 2000
    assert 0 <= turn["overhead_ms"] < 2000
    assert await metric(running, "gen_ai_client_operation_duration_seconds_sum") < 2
    await running.stop()
    assert len(collector.spans) == 3
    for span in collector.spans:
        assert 0 <= span.end - span.start < 2e9


async def test_an_idle_crowd_costs_the_others_nothing(proxy, upstream):
    running = await proxy((await upstream()).url)
    async with AsyncExitStack() as stack:
        for _ in range(1000):
            await stack.enter_async_context(await Client.open(running.server.port))
        start = time.perf_counter()
        assert (await ask(running, request(chat_body()))).status == 200
        assert time.perf_counter() - start < 1
