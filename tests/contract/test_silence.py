"""Silence is normal: reasoning models think for minutes, and nothing is said in their place."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from proxy.settings import Server, Upstream
from tests.support.upstream import completion
from tests.support.wire import connected, fetch

CHAT = "/v1/chat/completions"
ASK = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}'
FIRST = b'id: 7\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\n'
LAST = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
PING = b": ping\n"
BEATING = 'server.heartbeat = "50 ms"\n'


def test_the_limits_leave_a_model_time_to_think():
    upstream = Upstream.model_validate({"base_url": "http://upstream.test/v1"})
    assert upstream.connect_timeout == 5
    assert upstream.first_byte_timeout == 600
    assert upstream.idle_timeout == 300
    assert upstream.retries == 0
    assert Server().heartbeat == 0


IMPATIENT = 'upstream.idle_timeout = "100 ms"\nupstream.connect_timeout = "100 ms"\n'


@pytest.mark.parametrize("target", [CHAT, "/v1/responses"])
@pytest.mark.parametrize("head_first", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_may_be_silent_before_its_first_byte(
    plain, upstream, stream, head_first, target
):
    """The limit inside an answer says nothing of the time before it, nor does that to connect."""
    silence = 0.4

    async def think(call):
        if not stream:
            await asyncio.sleep(silence)
            await call.answer(completion("Hello."))
        elif head_first:
            await call.start_stream()
            await asyncio.sleep(silence)
            await call.chunk(LAST)
            await call.end_chunks()
        else:
            await asyncio.sleep(silence)
            await call.answer(LAST, content_type="text/event-stream")

    up = await upstream(think)
    running = await plain(up.url, IMPATIENT)
    answer = await fetch(running.base_url, "POST", target, body=ASK if stream else b"{}")
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == (LAST if stream else completion("Hello."))


async def test_an_upload_may_take_longer_than_an_answer_may_pause(plain, upstream):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url, IMPATIENT)
    async with connected(running.base_url) as client:
        await client.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        await asyncio.sleep(0.4)
        await client.send(b"}")
        assert (await client.answer()).status == 200
    assert up.calls[0].body == b"{}"


# ---- the heartbeat that an operator may ask for


def pausing(*chunks, headers=()):
    """A stream that goes on when it is told to."""
    go_on = asyncio.Event()

    async def stream(call):
        await call.start_stream(*headers)
        await call.chunk(chunks[0])
        await asyncio.wait_for(go_on.wait(), 10)
        for chunk in chunks[1:]:
            await call.chunk(chunk)
        await call.end_chunks()

    return stream, go_on


async def test_a_heartbeat_is_a_comment_of_one_line(plain, upstream):
    """An empty line after it would be an event with the `id` of the last: clients crash on it."""
    stream, go_on = pausing(FIRST, LAST)
    running = await plain((await upstream(stream)).url, BEATING)
    async with connected(running.base_url) as client:
        await client.post(CHAT, ASK)
        await client.head()
        body = await client.until(FIRST + PING + PING)
        go_on.set()
        body += await client.until(b"[DONE]\n\n")
    assert body.startswith(FIRST)
    assert body.replace(PING, b"") == FIRST + LAST
    assert b"\n\n" not in body.removeprefix(FIRST).removesuffix(LAST)


async def test_a_heartbeat_never_stands_inside_an_event(plain, upstream):
    stream, go_on = pausing(FIRST + b'data: {"choi', b'ces":[]}\n\n' + LAST)
    running = await plain((await upstream(stream)).url, BEATING)
    async with connected(running.base_url) as client:
        await client.post(CHAT, ASK)
        await client.head()
        body = await client.until(PING)
        go_on.set()
        body += await client.until(b"[DONE]\n\n")
    assert b'data: {"choices":[]}\n\n' + LAST in body
    assert body.replace(PING, b"") == FIRST + b'data: {"choices":[]}\n\n' + LAST


async def test_a_busy_stream_has_no_heartbeat(plain, upstream):
    async def stream(call):
        await call.start_stream()
        for _ in range(20):
            await call.chunk(FIRST)
            await asyncio.sleep(0.01)
        await call.chunk(LAST)
        await call.end_chunks()

    running = await plain((await upstream(stream)).url, 'server.heartbeat = "10 s"\n')
    answer = await fetch(running.base_url, "POST", CHAT, body=ASK)
    assert answer.body == FIRST * 20 + LAST


async def test_bytes_that_cannot_hold_a_comment_get_none(plain, upstream):
    """Inside gzip it would be garbage."""
    squeezed = gzip.compress(FIRST + LAST)
    gzipped = ("Content-Encoding", "gzip")
    stream, go_on = pausing(squeezed[:20], squeezed[20:], headers=(gzipped,))
    running = await plain((await upstream(stream)).url, BEATING)
    async with connected(running.base_url) as client:
        await client.post(CHAT, ASK, ("Accept-Encoding", "gzip"))
        await client.head()
        body = await client.part()
        await asyncio.sleep(0.3)  # six times the heartbeat
        go_on.set()
        while data := await client.part():
            body += data
    assert gzip.decompress(body) == FIRST + LAST


async def test_a_stream_with_a_length_gets_no_comment(plain, upstream):
    """It would take the place of the stream's last bytes."""
    go_on = asyncio.Event()

    async def stream(call):
        length = len(FIRST + LAST)
        await call.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (length, FIRST)
        )
        await asyncio.wait_for(go_on.wait(), 10)
        await call.send(LAST)

    running = await plain((await upstream(stream)).url, BEATING)
    async with connected(running.base_url) as client:
        await client.post(CHAT, ASK)
        await client.head()
        body = await client.part()
        await asyncio.sleep(0.3)
        go_on.set()
        while data := await client.part():
            body += data
    assert body == FIRST + LAST
