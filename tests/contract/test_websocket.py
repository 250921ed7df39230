"""A WebSocket through the proxy: handshake, messages of any size, and how it ends."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

import pytest

from proxy.callers import fingerprint
from tests.support.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    accept,
    client_socket,
    handshake,
)
from tests.support.wire import connected

REALTIME = "/v1/realtime?model=gpt-realtime&x=%2F"
MINE = "dgm-of-a-client"
KEYS = (
    'upstream.api_key = "sk-of-the-operator"\n'
    f'[[keys]]\nname = "app"\nsha256 = "{fingerprint(MINE)}"\n'
)


@asynccontextmanager
async def joined(plain, upstream, *headers, protocol=None, toml=""):
    """Both ends of one WebSocket: the client's, the upstream's, its request and its answer."""
    ends = asyncio.Queue()
    finished = asyncio.Event()

    async def serve(call):
        chosen = [("Sec-WebSocket-Protocol", protocol)] if protocol else []
        ends.put_nowait((await accept(call, ("x-upstream", "1"), *chosen), call))
        await finished.wait()

    running = await plain((await upstream(serve)).url, toml)
    async with connected(running.base_url) as client, asyncio.timeout(20):
        answer = await handshake(client, REALTIME, *headers)
        assert answer.status == 101, answer
        theirs, call = await ends.get()
        yield client_socket(client), theirs, call, answer
        finished.set()


# ---- the handshake


async def test_a_handshake_passes_its_path_and_headers(plain, upstream):
    sent = [
        ("Authorization", "Bearer sk-own"),
        ("OpenAI-Beta", "realtime=v1"),
        ("User-Agent", "x/1"),
        ("Origin", "https://app.test"),
        ("X-Tag", "1"),
        ("X-Tag", "2"),
    ]
    async with joined(plain, upstream, *sent) as (_, _, call, answer):
        assert call.target == REALTIME
        assert [field for field in call.headers if field in sent] == sent
        names = {name.lower() for name, _ in call.headers}
        assert not {"accept", "accept-encoding", "content-type"} & names
        assert answer.header("x-upstream") == "1"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("realtime, openai-insecure-api-key.sk-own, openai-beta.realtime-v1", "realtime"),
        ("a, b", "b"),
        ("realtime", None),
        (None, None),
    ],
)
async def test_the_upstream_chooses_the_protocol(plain, upstream, offered, chosen):
    name = "Sec-WebSocket-Protocol"
    headers = [(name, offered)] if offered else []
    async with joined(plain, upstream, *headers, protocol=chosen) as (_, _, call, answer):
        seen = ", ".join(value for key, value in call.headers if key.lower() == name.lower())
        assert seen.replace(" ", "") == (offered or "").replace(" ", "")
        assert answer.all(name) == ([chosen] if chosen else [])


async def test_a_browsers_key_among_the_protocols_is_not_passed_where_it_is_ours(plain, upstream):
    offered = ("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{MINE}")
    async with joined(plain, upstream, offered, protocol="realtime", toml=KEYS) as ends:
        _, _, call, answer = ends
        assert call.header("sec-websocket-protocol") == "realtime"
        assert call.header("authorization") == "Bearer sk-of-the-operator"
        assert MINE.encode() not in call.head
        assert answer.header("sec-websocket-protocol") == "realtime"


async def test_a_websocket_needs_a_key_where_others_do(plain, upstream):
    up = await upstream()
    running = await plain(up.url, KEYS)
    async with connected(running.base_url) as client:
        assert (await handshake(client, REALTIME)).status == 401
    assert up.connections == 0


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 No", "404 Not Found", "429 Slow Down"])
async def test_a_refusal_of_the_upstream_is_the_clients(plain, upstream, status):
    error = b'{"error": {"message":"no",  "code":"invalid_api_key"}}'
    told = (("retry-after", "7"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
    up = await upstream(lambda call: call.answer(error, status=status, headers=told))
    running = await plain(up.url)
    async with connected(running.base_url) as client:
        answer = await handshake(client, REALTIME)
        assert f"{answer.status} {answer.reason}" == status
        assert await client.part() == error
        assert answer.header("retry-after") == "7"
        assert answer.all("set-cookie") == ["a=1", "b=2"]
        assert answer.header("content-type") == "application/json"


async def test_an_upstream_that_is_not_there_is_a_502(plain):
    running = await plain("http://127.0.0.1:9/v1")
    async with connected(running.base_url) as client:
        assert (await handshake(client, REALTIME)).status == 502


# ---- messages


@pytest.mark.parametrize("kind", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 5_000_000])
async def test_a_message_of_any_size_passes_both_ways(plain, upstream, kind, size):
    data = os.urandom(size // 2).hex().encode() + b"x" * (size % 2)
    async with joined(plain, upstream) as (ours, theirs, *_):
        for source, sink in ((ours, theirs), (theirs, ours)):
            async with asyncio.TaskGroup() as group:
                group.create_task(source.send(kind, data))
                message = group.create_task(sink.message())
            assert message.result() == (kind, data)


async def test_text_stays_text(plain, upstream):
    event = '{"type":"response.text.delta",  "delta":"日本 🎉"}'.encode()
    async with joined(plain, upstream) as (ours, theirs, *_):
        await theirs.send(TEXT, event)
        frame = await ours.receive()
        assert (frame.kind, frame.payload) == (TEXT, event)


async def test_a_message_in_fragments_arrives_whole(plain, upstream):
    async with joined(plain, upstream) as (ours, theirs, *_):
        await ours.send(TEXT, b"one ", final=False)
        await ours.send(0, b"two ", final=False)
        await ours.send(PING, b"between")
        await ours.send(0, b"three")
        kinds = {}
        for _ in range(2):
            frame = await theirs.receive()
            kinds[frame.kind] = frame.payload
        assert kinds == {TEXT: b"one two three", PING: b"between"}


async def test_many_messages_keep_their_order(plain, upstream):
    async with joined(plain, upstream) as (ours, theirs, *_):
        for number in range(500):
            await theirs.send(TEXT, b"%d" % number)
        got = [(await ours.receive()).payload for _ in range(500)]
    assert got == [b"%d" % number for number in range(500)]


@pytest.mark.parametrize("kind", [PING, PONG])
@pytest.mark.parametrize("from_client", [True, False])
async def test_pings_and_pongs_go_from_end_to_end(plain, upstream, kind, from_client):
    async with joined(plain, upstream) as (ours, theirs, *_):
        source, sink = (ours, theirs) if from_client else (theirs, ours)
        await source.send(kind, b"data")
        frame = await sink.receive()
        assert (frame.kind, frame.payload) == (kind, b"data")


# ---- the end


@pytest.mark.parametrize("from_client", [True, False])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, ""),
        (1000, "done"),
        (1001, "going away"),
        (1008, "policy"),
        (1011, "internal error"),
        (1013, "try again"),
        (3000, "invalid_request_error.invalid_api_key"),
        (4000, "ünï"),
        (4999, "x" * 123),
        (None, ""),
    ],
)
async def test_a_close_code_and_its_reason_pass(plain, upstream, from_client, code, reason):
    async with joined(plain, upstream) as (ours, theirs, *_):
        source, sink = (ours, theirs) if from_client else (theirs, ours)
        await source.send(TEXT, b"last words")
        await source.close(code, reason)
        assert (await sink.receive()).payload == b"last words"
        frame = await sink.receive()
        # aiohttp sends no close frame without a code: it becomes one that all is well.
        assert (frame.kind, frame.code, frame.reason) == (CLOSE, code or 1000, reason)
        await sink.close(code)
        assert (await source.receive()).kind == CLOSE  # and the handshake of the end is whole


@pytest.mark.parametrize("from_client", [True, False])
async def test_an_end_without_a_close_frame_ends_the_other_side(plain, upstream, from_client):
    async with joined(plain, upstream) as (ours, theirs, *_):
        source, sink = (ours, theirs) if from_client else (theirs, ours)
        source.abort()
        frame = await sink.receive()
        # The upstream may be told that the client went away; a client must see that it broke.
        assert frame is None or (from_client and frame.kind == CLOSE)
