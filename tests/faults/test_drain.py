"""SIGTERM: say so, stop accepting, let answers finish, cut off the rest, leave."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.plugins import plugin, told
from tests.support.raw import Client, ask, ask_chat, chat_body, refused, request, stop_reading
from tests.support.upstream import chunks, completion

EVENTS = chunks("one two", {})
UNCOUNTED = "telemetry.estimate_usage = false"


class Held:
    """An upstream that begins an answer, and ends it when it is told to."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()

    async def __call__(self, call):
        stream = call.body and call.json.get("stream")
        kind = ("Content-Type", "text/event-stream" if stream else "application/json")
        if stream or call.method == "GET":
            await call.send(
                b"HTTP/1.1 200 OK\r\n%b: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
                % tuple(part.encode() for part in kind)
            )
            await call.chunk(EVENTS[0])
        self.begun.set()
        closing = asyncio.get_running_loop().create_task(call.wait_closed(60))
        releasing = asyncio.get_running_loop().create_task(self.release.wait())
        await asyncio.wait((closing, releasing), return_when=asyncio.FIRST_COMPLETED)
        if closing.done():
            self.closed.set()
        elif stream:
            for event in EVENTS[1:]:
                await call.chunk(event)
            await call.end_chunks()
        else:
            await call.answer(completion("Hello."))
        for task in (closing, releasing):
            task.cancel()
        await asyncio.wait((closing, releasing))


def setup(url: str, *, grace: str = "0 s", drain: str = "10 s") -> str:
    return f"""
    upstream.base_url = "{url}"
    server.port = 0
    server.admin_port = 0
    server.grace = "{grace}"
    server.drain = "{drain}"
    {UNCOUNTED}
    """


async def ready(process) -> int:
    async with await Client.open(process.admin_port) as client:
        await client.send(request(method="GET", target="/readyz"))
        return (await client.answer()).status


async def test_sigterm_lets_running_answers_finish_and_accepts_no_more(serve, upstream):
    held = Held()
    up = await upstream(held)
    process = await serve(setup(up.url, grace="400 ms"))
    assert await ready(process) == 200
    async with await process.connect() as stream, await process.connect() as idle:
        await idle.send(request(method="GET", target="/nowhere"))
        assert (await idle.answer()).status == 404  # it is kept alive
        await stream.send(request(chat_body(stream=True)))
        await held.begun.wait()
        process.terminate()
        while await ready(process) == 200:
            await asyncio.sleep(0.01)
        assert not await refused(process.port)  # in the grace period
        while not await refused(process.port):
            await asyncio.sleep(0.02)
        assert await idle.rest() == b""
        assert await ready(process) == 503
        held.release.set()
        answer = await stream.answer()
        assert answer.events[-1] == b"[DONE]"
        assert not answer.broken
    assert await process.exits() == 0
    turn = (await process.turns())[0]
    assert (turn["status"], turn["termination"]) == (200, "completed")
    assert "drained 1 exchanges, cut off 0" in process.said


async def test_what_does_not_finish_is_told_that_we_are_shutting_down(serve, upstream):
    held = Held()
    up = await upstream(held)
    process = await serve(setup(up.url, drain="300 ms"))
    bodies = (chat_body(stream=True), chat_body())
    async with await process.connect() as stream, await process.connect() as whole:
        for client, body in zip((stream, whole), bodies, strict=True):
            await client.send(request(body))
        while len(up.calls) < 2:
            await asyncio.sleep(0.01)
        await stream.head()
        process.terminate()
        answer = await whole.answer()
        assert (answer.status, answer.code) == (503, "shutting_down")
        rest = await stream.rest()
        assert b'"code":"shutting_down"' in rest
        assert b"[DONE]" not in rest
        assert b"HTTP/1.1" not in rest
    assert await process.exits() == 0
    assert {t["termination"] for t in await process.turns(2)} == {"shutting_down"}
    assert "drained 0 exchanges, cut off 2" in process.said


async def test_a_second_sigterm_exits_at_once(serve, upstream):
    held = Held()
    up = await upstream(held)
    process = await serve(setup(up.url, drain="60 s"))
    async with await process.connect() as client:
        await client.send(request(chat_body(stream=True)))
        await client.head()
        process.terminate()
        while not await refused(process.port):
            await asyncio.sleep(0.02)
        process.terminate()
        assert await process.exits(3) == 1


async def test_sigterm_before_the_first_request_exits_at_once(serve, upstream):
    process = await serve(setup((await upstream()).url))
    process.terminate()
    assert await process.exits(5) == 0


async def stops(running) -> float:
    """How long it takes to stop."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    await running.stop()
    return loop.time() - start


async def test_another_paths_answer_that_is_cut_off_is_an_aborted_connection(proxy, upstream):
    held = Held()
    running = await proxy((await upstream(held)).url, 'server.drain = "100 ms"')
    async with await Client.open(running.server.port) as client:
        await client.send(request(method="GET", target="/v1/models"))
        await client.head()
        assert await stops(running) < 5
        rest = await client.rest()
    assert b"HTTP/1.1" not in rest
    assert not rest.endswith(b"0\r\n\r\n")
    async with asyncio.timeout(5):
        await held.closed.wait()


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_that_does_not_read_does_not_hold_up_the_stop(proxy, upstream, reads):
    async def flood(call):
        await call.start_stream()
        while True:
            await call.chunk(b": " + b"x" * 65_000 + b"\n\n")

    running = await proxy((await upstream(flood)).url, f'server.drain = "100 ms"\n{UNCOUNTED}')
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body(stream=True)))
        await client.head()
        if not reads:
            stop_reading(client.writer)
            await asyncio.sleep(0.3)
        assert await stops(running) < 5


async def test_plugins_settle_before_the_end(proxy, upstream, tmp_path):
    """on_finish, what it defers, and stop(), in this order."""
    code = """
    class It(Plugin):
        async def handle(self, request, call_next):
            response = await call_next(request)
            response.on_finish(self.settle)
            return response

        async def settle(self, outcome):
            await asyncio.sleep(0.1)
            told.append(outcome.status)
            self.services.defer(self.later(), name="later")

        async def later(self):
            await asyncio.sleep(0.1)
            told.append("deferred")

        async def stop(self):
            told.append("stopped")
    """
    running = await proxy((await upstream()).url, plugin(tmp_path, code))
    assert (await ask_chat(running)).status == 200
    await running.stop()
    assert told == ["completed", "deferred", "stopped"]


@pytest.mark.parametrize(
    "stop", ["raise ValueError", "await asyncio.sleep(60)", "raise SystemExit"]
)
async def test_a_plugin_whose_stop_fails_does_not_keep_the_others_from_theirs(
    proxy, upstream, tmp_path, stop, monkeypatch, caplog
):
    monkeypatch.setattr("proxy.serving.generation.STOP_SECONDS", 0.2)
    bad = f"""
    class It(Plugin):
        async def stop(self):
            {stop}
    """
    good = """
    class It(Plugin):
        async def stop(self):
            told.append("stopped")
    """
    names = ("outer", "unlucky", "inner")
    toml = "".join(plugin(tmp_path, bad if n == "unlucky" else good, name=n) for n in names)
    running = await proxy((await upstream()).url, toml)
    assert await stops(running) < 3
    assert told == ["stopped"] * 2
    assert "plugin unlucky" in caplog.text


async def test_requests_during_the_grace_period_are_served(proxy, upstream):
    running = await proxy((await upstream()).url, 'server.grace = "500 ms"')
    stopping = asyncio.get_running_loop().create_task(running.stop())
    await asyncio.sleep(0.05)
    answer = await ask(running, request(chat_body()))
    assert answer.status == 200
    assert not stopping.done()
    await stopping
