"""Every exchange, however it ends, is accounted for exactly once."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter

import pytest

from tests.support.plugins import plugin, told
from tests.support.raw import Client, ask, ask_chat, chat_body, metric, request, stop_reading
from tests.support.upstream import chunks, completion

EVENT = chunks("one", {})[0]


async def upstream_script(call):
    """The newest message says what shall happen."""
    match call.json["messages"][-1]["content"]:
        case "refuse":
            await call.answer(b'{"error": {"code": "no"}}', status="429 Too Many Requests")
        case "reset":
            call.reset()
        case "garbage":
            await call.send(b"garbage\r\n\r\n")
        case "silence":
            await call.wait_closed(20)
        case "break":
            await call.start_stream()
            await call.chunk(EVENT)
            call.writer.close()
        case "stop in the middle":
            await call.start_stream()
            await call.chunk(EVENT)
            await call.wait_closed(20)
        case "short":
            await call.answer(completion("x")[:-5])
        case "flood":
            await call.start_stream()
            while True:
                await call.chunk(b": " + b"x" * 65_000 + b"\n\n")
        case _:
            await call.chat()


PLUGIN = """
class It(Plugin):
    async def handle(self, request, call_next):
        match request.messages[-1]["content"]:
            case "answer": response = answer(request, "Here.")
            case "reject": raise ContentRejected("No.")
            case "fail": raise ValueError
            case "fail in the stream": response = (await call_next(request)).map_chunks(fail)
            case "mistake": raise APIError("odd")
            case _: response = await call_next(request)
        response.on_finish(self.settle)
        return response

    async def settle(self, outcome):
        told.append(outcome.status)

async def fail(chunks):
    async for chunk in chunks:
        yield chunk
        raise ValueError
"""


async def leave(running, data, *, after_head=False):
    async with await Client.open(running.server.port) as client:
        await client.send(data)
        if after_head:
            await client.head()
        else:
            while not await metric(running, "http_server_active_requests"):
                await asyncio.sleep(0)
        client.leave()


async def half_a_body(running, data):
    async with await Client.open(running.server.port) as client:
        await client.send(data[:-5])
        assert (await client.answer()).status == 408


async def too_slow(running, data):
    async with await Client.open(running.server.port) as client:
        await client.send(data)
        stop_reading(client.writer)
        while await metric(running, "http_server_active_requests"):
            await asyncio.sleep(0.05)


PACKED = (gzip.compress(chat_body()), ("Content-Encoding", "gzip"))
ENDS = {
    "a completion": (ask, "Hi", {}, 200, "completed"),
    "a stream": (ask, "Hi", {"stream": True}, 200, "completed"),
    "an error of the upstream": (ask, "refuse", {}, 429, "completed"),
    "a reset": (ask, "reset", {}, 502, "upstream_unreachable"),
    "garbage": (ask, "garbage", {}, 502, "upstream_invalid"),
    "silence": (ask, "silence", {}, 504, "upstream_timeout"),
    "silence in a stream": (
        ask,
        "stop in the middle",
        {"stream": True},
        200,
        "upstream_timeout",
    ),
    "a broken stream": (ask, "break", {"stream": True}, 200, "upstream_truncated"),
    "a client that leaves early": (leave, "silence", {}, 499, "client_closed"),
    "a client that leaves a stream": (
        lambda running, data: leave(running, data, after_head=True),
        "stop in the middle",
        {"stream": True},
        499,
        "client_closed",
    ),
    "a client that does not read": (too_slow, "flood", {"stream": True}, 499, "client_slow"),
    "a body that stays away": (half_a_body, "Hi", {}, 408, "request_timeout"),
    "a body that is too long": (ask, "x" * 20_000, {}, 413, "request_too_large"),
    "no JSON": (ask, b"{", {}, 400, "invalid_json"),
    "a packed body": (ask, PACKED, {}, 415, "unsupported_content_encoding"),
    "a local answer": (ask, "answer", {}, 200, "completed"),
    "a local answer as a stream": (ask, "answer", {"stream": True}, 200, "completed"),
    "a refusal": (ask, "reject", {}, 400, "content_policy_violation"),
    "a plugin that fails": (ask, "fail", {}, 503, "plugin_unavailable"),
    "a plugin that fails in a stream": (
        ask,
        "fail in the stream",
        {"stream": True},
        200,
        "plugin_unavailable",
    ),
    "an error of a plugin's own": (ask, "mistake", {}, 500, "refused"),
}
LIMITS = """
server.max_body = "10 kB"
server.body_timeout = "500 ms"
server.write_timeout = "500 ms"
upstream.first_byte_timeout = "500 ms"
upstream.idle_timeout = "500 ms"
telemetry.estimate_usage = false
"""


def bytes_of(what, options) -> bytes:
    if isinstance(what, bytes):
        return request(what)
    if isinstance(what, tuple):
        return request(*what)
    return request(chat_body(what, **options))


@pytest.mark.parametrize(
    ("act", "what", "options", "status", "termination"), ENDS.values(), ids=ENDS
)
async def test_an_exchange_is_accounted_for_once_however_it_ends(
    proxy, upstream, collector, tmp_path, act, what, options, status, termination
):
    toml = f'{LIMITS}\ntelemetry.endpoint = "{collector.url}"\n{plugin(tmp_path, PLUGIN)}'
    running = await proxy((await upstream(upstream_script)).url, toml)
    await act(running, bytes_of(what, options))
    turn = (await running.turns())[0]
    assert (turn["status"], turn["termination"]) == (status, termination)
    assert await metric(running, "http_server_request_duration_seconds_count") == 1
    assert await metric(running, "gen_ai_server_request_duration_seconds_count") == 1
    assert await metric(running, "dragoman_usage_source_total") == 1
    assert await metric(running, "http_server_active_requests") == 0
    assert await metric(running, "dragoman_body_bytes_in_flight") == 0
    await running.stop()
    with pytest.raises(AssertionError, match="only"):
        await running.turns(seconds=0)
    kinds = Counter(span.name for span in collector.spans if span.kind == "SERVER")
    assert kinds == {"POST /v1/chat/completions": 1}
    assert len(told) <= 1  # on_finish, where the plugin got so far


async def test_a_path_without_a_chat_is_counted_and_not_in_the_turn_log(proxy, upstream):
    async def script(call):
        await (call.chat() if call.body else call.answer())

    running = await proxy((await upstream(script)).url)
    for path in ("/v1/models", "/nowhere", "/v1/responses"):
        await ask(running, request(method="GET", target=path))
    assert (await ask_chat(running)).status == 200
    assert [turn["model"] for turn in await running.turns()] == ["gpt-4o-mini"]
    assert await metric(running, "http_server_request_duration_seconds_count") == 4
