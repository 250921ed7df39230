"""A WebSocket whose one side goes away, misbehaves, or outlives the proxy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.frames import CLOSE, TEXT, accept, client_socket, handshake
from tests.support.raw import ask, ask_chat, metric, request, stop_reading
from tests.support.wire import connected

if TYPE_CHECKING:
    from tests.support.frames import Socket

TARGET = "/v1/realtime?model=gpt-realtime"


class Echo:
    """An upstream that says back what it hears; `gone` when its client is."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.socket: Socket | None = None

    async def __call__(self, call):
        self.socket = socket = await accept(call)
        while (frame := await socket.receive()) is not None:
            if frame.kind == CLOSE:
                await socket.send(CLOSE, frame.payload)
                break
            await socket.send(frame.kind, frame.payload)
        self.gone.set()


async def gone(echo: Echo) -> None:
    async with asyncio.timeout(5):
        await echo.gone.wait()


async def test_a_client_that_vanishes_ends_the_upstreams_side(proxy, upstream):
    echo = Echo()
    running = await proxy((await upstream(echo)).url)
    async with connected(running.base_url) as client:
        assert (await handshake(client, TARGET)).status == 101
        socket = client_socket(client)
        await socket.send(TEXT, b"hello")
        assert await socket.message() == (TEXT, b"hello")
    await gone(echo)
    while await metric(running, "http_server_active_requests"):
        await asyncio.sleep(0.01)


async def test_an_upstream_that_vanishes_ends_the_clients_side_without_a_close_frame(
    proxy, upstream
):
    echo = Echo()
    running = await proxy((await upstream(echo)).url)
    async with connected(running.base_url) as client:
        await handshake(client, TARGET)
        assert echo.socket is not None
        echo.socket.abort()
        async with asyncio.timeout(5):
            assert await client_socket(client).receive() is None


@pytest.mark.parametrize("count", [1, 5])
async def test_messages_on_their_way_when_the_client_vanishes_fail_quietly(proxy, upstream, count):
    async def talk(call):
        socket = await accept(call)
        while True:
            await socket.send(TEXT, b"x" * 10_000)

    running = await proxy((await upstream(talk)).url)
    for _ in range(count):
        async with connected(running.base_url) as client:
            await handshake(client, TARGET)
            await client_socket(client).receive()
    while await metric(running, "http_server_active_requests"):
        await asyncio.sleep(0.01)


async def test_a_client_that_does_not_read_slows_the_upstream_down(proxy, upstream):
    sent = 0
    closed = asyncio.Event()

    async def talk(call):
        nonlocal sent
        socket = await accept(call)
        try:
            while True:
                await socket.send(TEXT, b"x" * 65_536)
                sent += 65_536
        finally:
            closed.set()

    running = await proxy((await upstream(talk)).url)
    async with connected(running.base_url) as client:
        await handshake(client, TARGET)
        stop_reading(client.writer)
        before = -1
        while sent > before:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 32_000_000
    async with asyncio.timeout(5):
        await closed.wait()


async def test_a_client_that_never_reads_is_given_up(proxy, upstream):
    closed = asyncio.Event()

    async def talk(call):
        socket = await accept(call)
        try:
            while True:
                await socket.send(TEXT, b"x" * 65_536)
        finally:
            closed.set()

    running = await proxy((await upstream(talk)).url, 'server.write_timeout = "500 ms"')
    async with connected(running.base_url) as client:
        await handshake(client, TARGET)
        stop_reading(client.writer)
        async with asyncio.timeout(5):
            await closed.wait()


async def test_a_socket_that_outlives_the_proxy_is_closed_and_nothing_else_is_said(proxy, upstream):
    echo = Echo()
    running = await proxy((await upstream(echo)).url, 'server.drain = "100 ms"')
    async with connected(running.base_url) as client:
        await handshake(client, TARGET)
        await running.stop()
        async with asyncio.timeout(5):
            rest = await client.reader.read()
    assert b"HTTP/1.1" not in rest
    await gone(echo)


HANDSHAKES = {
    "no key": (("Sec-WebSocket-Version", "13"),),
    "a bad key": (("Sec-WebSocket-Key", "x"), ("Sec-WebSocket-Version", "13")),
    "another version": (("Sec-WebSocket-Key", "A" * 22 + "=="), ("Sec-WebSocket-Version", "99")),
    "no version": (("Sec-WebSocket-Key", "A" * 22 + "=="),),
}


@pytest.mark.parametrize("headers", HANDSHAKES.values(), ids=HANDSHAKES)
async def test_a_handshake_that_is_none_is_a_400(proxy, upstream, headers):
    async def script(call):
        await accept(call)
        await call.wait_closed()

    up = await upstream(script)
    running = await proxy(up.url)
    fields = (("Upgrade", "websocket"), ("Connection", "Upgrade"), *headers)
    answer = await ask(running, request(None, *fields, method="GET", target=TARGET))
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")


REFUSALS = {
    "an error": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}",
    "no upgrade": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("data", REFUSALS.values(), ids=REFUSALS)
async def test_an_upstream_that_refuses_the_handshake_is_passed_on(proxy, upstream, data):
    async def script(call):
        await call.send(data)

    running = await proxy((await upstream(script)).url)
    async with connected(running.base_url) as client:
        answer = await handshake(client, TARGET)
        assert answer.status == int(data[9:12])


INVALID = {
    "a wrong accept": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
    "garbage": b"garbage\r\n\r\n",
}


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID)
async def test_an_upstream_that_answers_nonsense_is_a_502(proxy, upstream, data):
    async def script(call):
        await call.send(data)

    running = await proxy((await upstream(script)).url)
    async with connected(running.base_url) as client:
        assert (await handshake(client, TARGET)).status == 502


async def test_an_upstream_that_cannot_be_reached_is_a_502(proxy, upstream):
    up = await upstream()
    running = await proxy(up.url)
    await up.stop()
    async with connected(running.base_url) as client:
        assert (await handshake(client, TARGET)).status == 502


async def test_frames_that_are_none_end_the_socket_on_both_sides(proxy, upstream):
    echo = Echo()

    async def script(call):
        await (echo(call) if call.header("upgrade") else call.chat())

    running = await proxy((await upstream(script)).url)
    async with connected(running.base_url) as client:
        await handshake(client, TARGET)
        await client.send(b"\xff" * 64)
        await gone(echo)
    assert (await ask_chat(running)).status == 200
