"""Connections to the upstream are many, are used again, and are never mixed up."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.support.upstream import chunks
from tests.support.wire import Broken, connected, fetch

CHAT = "/v1/chat/completions"
ASK = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}'
STREAM = b"".join(chunks("Hello.", {"stream_options": {"include_usage": True}}))

QUIET = "telemetry.turn_log = false\n"  # nobody reads it here, and its pipe would fill


@pytest.mark.parametrize("target", [CHAT, "/v1/embeddings"])
@pytest.mark.parametrize("body", [b"{}", ASK], ids=["in one piece", "stream"])
async def test_a_connection_serves_one_request_after_another(plain, upstream, target, body):
    up = await upstream()
    running = await plain(up.url)
    for _ in range(5):  # each on a connection of its own to us
        assert (await fetch(running.base_url, "POST", target, body=body)).status == 200
    assert len(up.calls) == 5
    assert up.connections == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "429 No", "500 No"])
async def test_errors_and_empty_answers_do_not_cost_a_connection(plain, upstream, status):
    up = await upstream(lambda call: call.answer(b"", status=status))
    running = await plain(up.url)
    for target in (CHAT, "/v1/embeddings") * 3:
        await fetch(running.base_url, "POST", target, body=ASK)
    assert up.connections == 1


async def test_one_connection_of_a_client_serves_whatever_it_asks(plain, upstream):
    up = await upstream()
    running = await plain(up.url)
    async with connected(running.base_url) as client:
        for method, target, body in (
            ("POST", CHAT, b"{}"),
            ("POST", CHAT, ASK),
            ("GET", "/v1/models", None),
            ("GET", "/nowhere", None),
            ("HEAD", "/v1/models", None),
            ("POST", CHAT, ASK),
        ):
            up.script = _head if method == "HEAD" else _chat
            await client.ask(method, target, body=body)
            answer = await client.answer(method)
            assert answer.complete
            assert (answer.status == 404) == (target == "/nowhere")


async def _head(call):
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")


async def _chat(call):
    await (call.chat() if call.body else call.answer())


async def test_a_connection_that_the_upstream_closed_is_not_used_again(plain, upstream):
    closed = asyncio.Event()

    async def once(call):
        await call.chat()
        call.writer.close()
        await call.wait_closed()
        closed.set()

    up = await upstream(once)
    running = await plain(up.url)
    for _ in range(4):
        closed.clear()
        assert (await fetch(running.base_url, "POST", CHAT, body=b"{}")).status == 200
        await asyncio.wait_for(closed.wait(), 5)
    assert up.connections == 4


async def test_an_upstream_that_wants_its_connection_closed_has_it_closed(plain, upstream):
    closed = asyncio.Event()

    async def once(call):
        await call.answer(headers=(("Connection", "close"),))
        await call.wait_closed()
        closed.set()

    running = await plain((await upstream(once)).url)
    answer = await fetch(running.base_url, "POST", CHAT, body=b"{}")
    await asyncio.wait_for(closed.wait(), 5)
    assert answer.status == 200
    assert answer.header("connection") is None  # ours to the client stays


async def test_a_client_that_wants_its_connection_closed_has_it_closed(plain, upstream):
    up = await upstream()
    running = await plain(up.url)
    for body in (b"{}", ASK):
        async with connected(running.base_url) as client:
            await client.post(CHAT, body, ("Connection", "close"))
            assert (await client.answer()).complete
            await client.wait_closed()
    assert up.connections == 1


@pytest.mark.parametrize("target", [CHAT, "/v1/responses"])
async def test_a_hundred_and_fifty_streams_all_start(plain, upstream, target):
    started, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def stream(call):
        await call.start_stream()
        await call.chunk(STREAM[:20])
        started.release()
        await go_on.wait()
        await call.chunk(STREAM[20:])
        await call.end_chunks()

    running = await plain((await upstream(stream)).url, QUIET)

    async def listen():
        return (await fetch(running.base_url, "POST", target, body=ASK)).body

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(listen()) for _ in range(150)]
        async with asyncio.timeout(30):
            for _ in tasks:
                await started.acquire()
        go_on.set()
    assert [task.result() for task in tasks] == [STREAM] * 150


@pytest.mark.parametrize("target", [CHAT, "/v1/responses"])
async def test_answers_are_never_mixed_up_when_clients_leave(plain, upstream, target):
    """Connections are taken up again by others: what one was still to get is none of theirs."""
    chance = random.Random(7)
    waits = {number: chance.random() / 200 for number in range(400)}

    async def echo(call):
        number = call.json["number"]
        await call.start_stream()
        for part in range(4):
            await asyncio.sleep(waits[number])
            await call.chunk(b'data: {"number":%d,"part":%d}\n\n' % (number, part))
        await call.chunk(b"data: [DONE]\n\n")
        await call.end_chunks()

    running = await plain((await upstream(echo)).url, QUIET)

    async def one(number):
        """Ask, and leave at some point or stay."""
        body = b'{"stream":true,"stream_options":{"include_usage":true},"number":%d}' % number
        async with connected(running.base_url) as client:
            await client.post(target, body)
            if number % 3 == 0:
                await asyncio.sleep(waits[number])
            elif number % 3 == 1:
                await client.head()
                await client.part()
            else:
                return (await client.answer()).body
        return None

    async def some(numbers):
        return [(number, await one(number)) for number in numbers]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(some(range(start, 400, 20))) for start in range(20)]
    stayed = [(n, body) for task in tasks for n, body in task.result() if body is not None]
    assert len(stayed) == 133
    for number, body in stayed:
        parts = b"".join(b'data: {"number":%d,"part":%d}\n\n' % (number, p) for p in range(4))
        assert body == parts + b"data: [DONE]\n\n"


async def test_an_answer_that_nobody_waits_for_is_not_the_next_clients(plain, upstream):
    """The upstream answers the first request after its client has left, on the same connection."""
    left = asyncio.Event()

    async def late(call):
        if not left.is_set():
            await asyncio.wait_for(left.wait(), 10)
        await call.answer(call.body)

    running = await plain((await upstream(late)).url)
    async with connected(running.base_url) as client:
        await client.post(CHAT, b'{"model":"first"}')
    left.set()
    answer = await fetch(running.base_url, "POST", CHAT, body=b'{"model":"second"}')
    assert answer.body == b'{"model":"second"}'


async def test_a_client_sees_a_stream_break_that_broke(plain, upstream):
    """`Broken` is what the other tests of this folder rely on to tell."""

    async def stream(call):
        await call.start_stream()
        await call.chunk(b"data: {}\n\n")
        call.writer.close()

    running = await plain((await upstream(stream)).url)
    async with connected(running.base_url) as client:
        await client.post("/v1/responses", ASK)
        await client.head()
        assert await client.part() == b"data: {}\n\n"
        with pytest.raises(Broken):
            await client.part()
