"""Clients that read slowly, write slowly, or do neither."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest

from tests.support.raw import Client, ask_chat, chat_body, metric, request
from tests.support.upstream import completion, head

QUICK = 'server.write_timeout = "500 ms"\ntelemetry.estimate_usage = false'
PIECE = b": " + b"x" * 65_533 + b"\n\n"
EVENTS = "text/event-stream"


async def patient_client(port: int) -> Client:
    """A client whose side of the connection holds little that it has not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return Client(*await asyncio.open_connection(sock=sock, limit=4096))


class Flood:
    """An upstream that never stops, as fast as it is let; `sent` counts its bytes."""

    def __init__(self, kind: str = EVENTS) -> None:
        self.kind = kind
        self.sent = 0
        self.closed = asyncio.Event()

    async def __call__(self, call):
        try:
            await call.send(
                head("200 OK", ("Content-Type", self.kind), ("Transfer-Encoding", "chunked"))
            )
            while True:
                await call.chunk(PIECE)
                self.sent += len(PIECE)
        finally:
            self.closed.set()


FORMS = {
    "chat": (EVENTS, request(chat_body(stream=True))),
    "another path": ("audio/mpeg", request(b"{}", target="/v1/audio/speech")),
}


@pytest.mark.parametrize(("kind", "data"), FORMS.values(), ids=FORMS)
async def test_a_client_that_does_not_read_slows_the_upstream_down(proxy, upstream, kind, data):
    flood = Flood(kind)
    running = await proxy((await upstream(flood)).url)
    async with await patient_client(running.server.port) as client:
        await client.send(data)
        await client.head()
        sent = -1
        while flood.sent > sent:  # until no more of it goes anywhere
            sent = flood.sent
            await asyncio.sleep(0.3)
        assert sent < 32_000_000  # what kernels buffer, and a little of ours
    await flood.closed.wait()


@pytest.mark.parametrize(("kind", "data"), FORMS.values(), ids=FORMS)
async def test_a_client_that_never_reads_is_given_up_and_its_upstream_call_too(
    proxy, upstream, kind, data
):
    flood = Flood(kind)
    running = await proxy((await upstream(flood)).url, QUICK)
    async with await patient_client(running.server.port) as client:
        await client.send(data)
        await client.head()
        async with asyncio.timeout(10):
            await flood.closed.wait()
        if kind == EVENTS:
            turn = (await running.turns())[0]
            assert (turn["status"], turn["termination"]) == (499, "client_slow")
        while await metric(running, "http_server_active_requests"):
            await asyncio.sleep(0.01)


async def test_a_client_that_never_reads_a_long_answer_in_one_piece_is_given_up(proxy, upstream):
    async def script(call):
        await call.answer(completion("x" * 20_000_000))

    running = await proxy((await upstream(script)).url, QUICK)
    async with await patient_client(running.server.port) as client:
        await client.send(request(chat_body()))
        turn = (await running.turns(seconds=10))[0]
    assert (turn["status"], turn["termination"]) == (499, "client_slow")


@pytest.mark.parametrize("form", ["stream", "one piece", "another path"])
async def test_a_client_that_reads_slowly_but_steadily_gets_everything(proxy, upstream, form):
    size = 24_000_000
    body = b"data: " + b"x" * size + b"\n\ndata: [DONE]\n\n"

    async def script(call):
        await call.answer(body, content_type=EVENTS if form == "stream" else "application/json")

    running = await proxy((await upstream(script)).url, QUICK)
    target = "/v1/embeddings" if form == "another path" else "/v1/chat/completions"
    loop = asyncio.get_running_loop()
    async with await patient_client(running.server.port) as client:
        await client.send(request(chat_body(stream=form == "stream"), target=target))
        start, received = loop.time(), 0
        while received < size:
            part = await client.reader.read(1 << 20)
            assert part, f"given up after {received} bytes and {loop.time() - start} s"
            received += len(part)
            # Never silent for as long as the limit, and in all much longer.
            await asyncio.sleep(max(0.0, start + 2 * received / size - loop.time()))
    assert loop.time() - start > 1.5


async def test_headers_that_only_drip_in_end_with_a_closed_connection(proxy, upstream):
    up = await upstream()
    running = await proxy(up.url, 'server.idle_timeout = "500 ms"')
    loop = asyncio.get_running_loop()
    async with await Client.open(running.server.port) as client:
        start = loop.time()
        closed = asyncio.get_running_loop().create_task(client.rest())
        for byte in request(chat_body()):
            if closed.done():
                break
            client.writer.write(bytes([byte]))
            await asyncio.wait([closed], timeout=0.05)
        assert await closed == b""
        assert loop.time() - start < 3
    assert up.calls == []


async def test_an_idle_connection_is_closed(proxy, upstream):
    running = await proxy((await upstream()).url, 'server.idle_timeout = "300 ms"')
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body()))
        assert (await client.answer()).status == 200
        assert await client.rest(5) == b""


@pytest.mark.parametrize("dripping", [False, True])
async def test_a_body_that_does_not_arrive_is_a_408(proxy, upstream, dripping):
    up = await upstream()
    running = await proxy(up.url, 'server.body_timeout = "400 ms"')
    async with await Client.open(running.server.port) as client:
        data = request(chat_body("x" * 1000))
        await client.send(data[:-900])
        answer = asyncio.get_running_loop().create_task(client.answer())
        while dripping and not answer.done():
            client.writer.write(b"x")
            await asyncio.wait([answer], timeout=0.02)
        assert ((await answer).status, (await answer).code) == (408, "request_timeout")
    assert up.connections == 0
    assert (await running.turns())[0]["termination"] == "request_timeout"


async def test_a_large_body_may_take_its_time(proxy, upstream):
    """A second for each 8 kB, besides what every body may take."""
    running = await proxy((await upstream()).url, 'server.body_timeout = "300 ms"')
    async with await Client.open(running.server.port) as client:
        data = request(chat_body("x" * 60_000))
        for start in range(0, len(data), 8_000):
            await client.send(data[start : start + 8_000])
            await asyncio.sleep(0.15)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("dripping", [False, True])
async def test_an_upload_on_another_path_that_does_not_arrive_is_a_408(proxy, upstream, dripping):
    up = await upstream()
    running = await proxy(up.url, 'server.body_timeout = "400 ms"')
    async with await Client.open(running.server.port) as client:
        await client.send(request(b"x" * 1000, target="/v1/files")[:-900])
        answer = asyncio.get_running_loop().create_task(client.answer(5))
        while dripping and not answer.done():
            client.writer.write(b"x")
            await asyncio.wait([answer], timeout=0.02)
        assert ((await answer).status, (await answer).code) == (408, "request_timeout")
    assert up.calls == []


async def test_a_slow_client_disturbs_no_other(proxy, upstream):
    flood = Flood()

    async def script(call):
        if call.json.get("stream"):
            await flood(call)
        else:
            await call.chat()

    up = await upstream(script)
    running = await proxy(up.url)
    async with AsyncExitStack() as stack:
        for _ in range(5):
            client = await stack.enter_async_context(await patient_client(running.server.port))
            await client.send(request(chat_body(stream=True)))
            await client.head()
        for _ in range(5):
            assert (await ask_chat(running)).status == 200
    while len(up._open) > 1:  # but for the one that is kept for the next call
        await asyncio.sleep(0.01)
