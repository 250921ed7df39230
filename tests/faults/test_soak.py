"""Thousands of clients that leave, and nothing of them is left."""

from __future__ import annotations

import asyncio
import gc

import psutil
import pytest

from tests.support.plugins import plugin
from tests.support.raw import Client, ask_chat, chat_body, metric, request
from tests.support.upstream import chunks

ABORTED = 2_000
AT_ONCE = 25
EVENT = chunks("one", {})[0]


async def endless(call):
    """It begins to answer, and goes on until its client is gone."""
    stream = call.body and call.json.get("stream")
    if stream is None or stream:
        await call.start_stream()
        await call.chunk(EVENT)
    await call.wait_closed(60)


REQUESTS = (
    (request(chat_body(stream=True)), True),
    (request(chat_body(stream=True)), False),
    (request(chat_body(stream=False)), False),
    (request(b'{"stream": true}', target="/v1/audio/speech"), True),
)


async def aborted(running, data: bytes, *, after_head: bool) -> None:
    async with await Client.open(running.server.port) as client:
        await client.send(data)
        if after_head:
            await client.head()


async def settled(running, up) -> None:
    """Wait until nobody is served and nothing is open; TimeoutError if that never happens."""
    async with asyncio.timeout(10):
        while await metric(running, "http_server_active_requests") or up._open:
            await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_two_thousand_aborted_streams_leave_nothing_behind(proxy, upstream, tmp_path):
    transform = "return (await call_next(request)).map_text(str.upper)"
    up = await upstream(endless)
    toml = f"telemetry.estimate_usage = false\n{plugin(tmp_path, transform)}"
    running = await proxy(up.url, toml)
    program = psutil.Process()
    idle_tasks = len(asyncio.all_tasks())

    async def abort(count: int) -> None:
        waiting = iter(range(count))

        async def one_after_the_other() -> None:
            for number in waiting:
                data, after_head = REQUESTS[number % len(REQUESTS)]
                await aborted(running, data, after_head=after_head)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(one_after_the_other())
        await settled(running, up)
        gc.collect()

    await abort(ABORTED // 4)
    resident = program.memory_info().rss
    await abort(ABORTED - ABORTED // 4)

    assert program.memory_info().rss - resident < 8_000_000
    assert len(asyncio.all_tasks()) <= idle_tasks + 2  # the last connection to the admin listener
    assert not running.server._generations[-1].edge.active
    assert len(running.server._tasks) == 0
    connector = running.server._connections.session.connector
    assert not connector._acquired
    assert await metric(running, "dragoman_body_bytes_in_flight") == 0
    turns = await running.turns(ABORTED * 3 // 4, seconds=10)
    assert {turn["termination"] for turn in turns} == {"client_closed"}
    up.script = lambda call: call.chat()
    assert (await ask_chat(running)).status == 200
