"""A client that leaves ends at once what was done for it, in every phase and form."""

from __future__ import annotations

import asyncio

import pytest

from proxy.tasks import start
from tests.support.plugins import plugin, told
from tests.support.raw import Client, admin, ask_chat, chat_body, metric, request
from tests.support.upstream import chunks, completion, head

UNCOUNTED = "telemetry.estimate_usage = false"
SOON = 0.1
"""Seconds in which the upstream must have noticed."""


class Phase:
    """An upstream that stops in one phase of each exchange, and notes when its client is gone."""

    def __init__(self, opening: bytes = b"") -> None:
        self.opening = opening
        self.reached = asyncio.Event()
        self.closed = asyncio.Event()

    async def __call__(self, call):
        await call.send(self.opening)
        self.reached.set()
        await call.wait_closed(20)
        self.closed.set()

    async def seconds_to_close(self, running, data, gone, *, wait_for_head=False):
        """How long the upstream's connection outlives a client that sends this and goes."""
        self.reached.clear()
        self.closed.clear()
        loop = asyncio.get_running_loop()
        async with await Client.open(running.server.port) as client, asyncio.timeout(5):
            await client.send(data)
            await self.reached.wait()
            if wait_for_head:
                await client.head()
            gone(client)
            begin = loop.time()
            await self.closed.wait()
            return loop.time() - begin

    async def closes_soon(self, *scenario, **options):
        """The best of three: the others may have been the machine's fault."""
        return min([await self.seconds_to_close(*scenario, **options) for _ in range(3)]) < SOON


EVENT = chunks("one", {})[0]
STREAM = head("200 OK", ("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"))
BODY = completion("Hello.")
FULL = head("200 OK", ("Content-Type", "application/json"), ("Content-Length", str(len(BODY))))
PHASES = {
    "before the first byte": (b"", b""),
    "behind the head": (FULL, STREAM),
    "in the middle": (FULL + BODY[:9], STREAM + b"%x\r\n%b\r\n" % (len(EVENT), EVENT)),
}


@pytest.mark.parametrize("gone", [Client.leave, Client.reset])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", PHASES)
async def test_client_disconnect_cancels_upstream_call(proxy, upstream, phase, stream, gone):
    script = Phase(PHASES[phase][stream])
    running = await proxy((await upstream(script)).url, UNCOUNTED)
    has_head = stream and phase != "before the first byte"
    data = request(chat_body(stream=stream))
    assert await script.closes_soon(running, data, gone, wait_for_head=has_head)
    for turn in await running.turns(3):
        assert (turn["status"], turn["termination"]) == (499, "client_closed")


@pytest.mark.parametrize("phase", PHASES)
async def test_client_disconnect_cancels_the_call_of_another_path(proxy, upstream, phase):
    script = Phase(PHASES[phase][False])
    running = await proxy((await upstream(script)).url)
    data = request(method="GET", target="/v1/models")
    assert await script.closes_soon(running, data, Client.leave)


async def test_client_disconnect_during_an_upload_cancels_it(proxy, upstream):
    reached, closed = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1000)
        reached.set()
        while await reader.read(65_536):
            pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    running = await proxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    async with await Client.open(running.server.port) as client:
        data = request(b"x" * 100_000, target="/v1/files")
        await client.send(data[:-50_000])
        await reached.wait()
        client.leave()
        async with asyncio.timeout(5):
            await closed.wait()
    server.close()


async def test_client_disconnect_while_its_body_comes_in_reaches_no_upstream(proxy, upstream):
    up = await upstream()
    running = await proxy(up.url)
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body())[:-5])
        while await metric(running, "http_server_active_requests") == 0:
            await asyncio.sleep(0)
        client.leave()
        turn = (await running.turns())[0]
    assert (turn["status"], turn["termination"]) == (499, "client_closed")
    assert up.connections == 0
    assert await metric(running, "dragoman_body_bytes_in_flight") == 0


async def test_client_disconnect_between_two_tries_ends_them(proxy, upstream):
    tried = asyncio.Event()

    async def busy(call):
        await call.answer(status="429 Too Many Requests", headers=(("Retry-After", "1"),))
        tried.set()

    up = await upstream(busy)
    running = await proxy(up.url, "upstream.retries = 5")
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body()))
        await tried.wait()
        client.leave()
        turn = (await running.turns(seconds=0.5))[0]
    assert turn["termination"] == "client_closed"
    assert len(up.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_on_finish_is_called_once_when_the_client_leaves(proxy, upstream, tmp_path, stream):
    script = Phase(PHASES["in the middle"][stream])
    toml = plugin(
        tmp_path,
        """
        class It(Plugin):
            async def handle(self, request, call_next):
                try:
                    response = await call_next(request)
                except asyncio.CancelledError:
                    told.append("cancelled inside call_next")
                    raise
                response.on_finish(self.settle)
                return response.map_chunks(self.watched) if request.stream else response

            async def watched(self, chunks):
                try:
                    async for chunk in chunks:
                        yield chunk
                finally:
                    told.append("transform closed")

            async def settle(self, outcome):
                told.append(outcome.status)
        """,
    )
    running = await proxy((await upstream(script)).url, f"{UNCOUNTED}\n{toml}")
    data = request(chat_body(stream=stream))
    await script.seconds_to_close(running, data, Client.leave, wait_for_head=stream)
    await running.turns()
    assert told == (["transform closed", "cancelled"] if stream else ["cancelled inside call_next"])


async def test_tokens_that_the_upstream_made_for_a_client_that_left_are_counted(proxy, upstream):
    script = Phase(STREAM + b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in chunks("one two", {})))
    running = await proxy((await upstream(script)).url)
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body(stream=True)))
        while b"two" not in await client.reader.read(65_536):
            pass
        client.leave()
        turn = (await running.turns())[0]
    assert turn["usage_source"] == "estimated"
    assert turn["completion_tokens"] == 2
    assert turn["prompt_tokens"] > 0


async def test_a_check_alongside_ends_with_the_client(proxy, upstream, tmp_path):
    script = Phase()
    toml = plugin(
        tmp_path,
        """
        async def check():
            try:
                await asyncio.sleep(60)
            finally:
                told.append("check ended")
        return await alongside(check(), call_next(request))
        """,
    )
    running = await proxy((await upstream(script)).url, f"{UNCOUNTED}\n{toml}")
    assert await script.closes_soon(running, request(chat_body()), Client.leave)
    await running.turns(3)
    assert told == ["check ended"] * 3


async def test_one_client_that_leaves_disturbs_no_other(proxy, upstream):
    release = asyncio.Event()

    async def script(call):
        await release.wait()
        await call.answer(completion(call.json["messages"][0]["content"]))

    up = await upstream(script)
    running = await proxy(up.url, UNCOUNTED)
    clients = [await Client.open(running.server.port) for _ in range(20)]
    for number, client in enumerate(clients):
        await client.send(request(chat_body(f"number {number}")))
    while len(up.calls) < 20:
        await asyncio.sleep(0)
    for client in clients[::2]:
        client.reset()
    await running.turns(10)
    release.set()
    for number, client in list(enumerate(clients))[1::2]:
        answer = await client.answer()
        assert answer.json["choices"][0]["message"]["content"] == f"number {number}"
        client.leave()
    again = start(ask_chat(running, "once more"), name="another")
    assert (await again).json["choices"][0]["message"]["content"] == "once more"
    assert (await admin(running, "/healthz")).status == 200
