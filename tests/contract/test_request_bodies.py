"""The body of a request reaches the upstream as it was sent, and while it is sent."""

from __future__ import annotations

import asyncio
import gzip
import os

import pytest

from tests.support.wire import chunked, connected, fetch, request_head

CHAT = "/v1/chat/completions"
FILES = "/v1/files"
BODY = b'{"model":"m","messages":[]}'
PASS = '[[plugins]]\nuse = "sampling"\n'


@pytest.mark.parametrize("toml", ["", PASS], ids=["no plugins", "a plugin that passes"])
@pytest.mark.parametrize(
    "body",
    [
        b'{ "messages" :[],\n\t"model":"m" }\r\n',
        b'{"messages":[],"seed":12345678901234567890,"top_p":1.0,"n":1e0,"temperature":-0}',
        b'{"messages":[{"content":"\\u00e9\\/\xc3\xa9\\ud83d\\ude00","role":"user"}],"user":null}',
        b'{"zebra":[{"b":1,"a":[]}],"messages":null,"model":"m","extra_body":{"k":0.10}}',
        b'{"messages":[{"role":"martian","content":[{"type":"hologram"}],"\\u0000":1}]}',
        b'{"messages":[],"metadata":{"a":"' + b"x" * 5_000_000 + b'"}}',
    ],
    ids=["spaces", "numbers", "escapes", "order and unknown fields", "unknown roles", "5 MB"],
)
async def test_a_body_keeps_its_bytes(plain, upstream, body, toml):
    up = await upstream()
    running = await plain(up.url, toml)
    await fetch(running.base_url, "POST", CHAT, body=body)
    assert up.calls[0].body == body


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "x-odd"])
@pytest.mark.parametrize("target", [CHAT, FILES])
async def test_a_compressed_body_passes_with_its_header(plain, upstream, target, coding):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url)
    data = gzip.compress(BODY)
    await fetch(running.base_url, "POST", target, ("Content-Encoding", coding), body=data)
    assert up.calls[0].body == data
    assert up.calls[0].header("content-encoding") == coding


async def test_a_compressed_body_that_plugins_cannot_read_is_refused(plain, upstream):
    up = await upstream()
    running = await plain(up.url, PASS)
    data, gzipped = gzip.compress(BODY), ("Content-Encoding", "gzip")
    answer = await fetch(running.base_url, "POST", CHAT, gzipped, body=data)
    assert answer.status == 415
    assert answer.json["error"]["code"] == "unsupported_content_encoding"
    assert up.calls == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"messages":[]}{}',
        b"{'messages':[]}",
        b'{"messages":[],}',
        b'{"temperature":NaN}',
        b'{"model":"a","model":"b"}',
        b'{"messages":[{"role":"user","role":"system"}]}',
        b'{"user":"\\ud800"}',
        b'{"user":"\xff"}',
        b'\xef\xbb\xbf{"messages":[]}',
        b'{"messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
    ids=lambda body: repr(body[:24]),
)
async def test_a_body_that_plugins_cannot_read_is_refused_and_else_passes(plain, upstream, body):
    up = await upstream(lambda call: call.answer())
    reading, passing = await plain(up.url, PASS), await plain(up.url)
    refused = await fetch(reading.base_url, "POST", CHAT, body=body)
    assert refused.status == 400
    assert refused.json["error"]["type"] == "invalid_request_error"
    assert refused.json["error"]["code"] == "invalid_json"
    assert up.calls == []
    assert (await fetch(passing.base_url, "POST", CHAT, body=body)).status == 200
    assert up.calls[0].body == body


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"messages":null,"model":7}',
        b'{"messages":"Hi","stream":"yes"}',
        b'{"messages":[null,[],7,{"role":"martian"},{"content":{}}]}',
        b'{"messages":[{"role":"tool","tool_call_id":[]}],"n":-1,"stream_options":3}',
    ],
)
async def test_an_odd_body_is_the_upstreams_to_judge(plain, upstream, body):
    error = b'{"error":{"message":"Missing required parameter."}}'
    up = await upstream(lambda call: call.answer(error, status="400 Bad Request"))
    running = await plain(up.url, PASS)
    answer = await fetch(running.base_url, "POST", CHAT, body=body)
    assert (answer.status, answer.body) == (400, error)
    assert up.calls[0].body == body


# ---- uploads


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("target", [FILES, "/v1/audio/transcriptions"])
async def test_an_upload_is_forwarded_while_it_comes(plain, upstream, target, framing):
    """Each part must be at the upstream before the next is sent."""
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(call):
        while data := await call.part():
            arrived.put_nowait(data)
        await call.answer(b"done")

    up = await upstream(listen)
    up.whole_bodies = False
    running = await plain(up.url)
    parts = [f"--b\r\npart {number}\r\n".encode() for number in range(4)]
    length = ("Content-Length", str(sum(map(len, parts))))
    field = length if framing == "length" else ("Transfer-Encoding", "chunked")
    multipart = ("Content-Type", 'multipart/form-data; boundary="b"')
    async with connected(running.base_url) as client:
        await client.send(request_head("POST", target, [("Host", "x"), multipart, field]))
        for part in parts:
            await client.send(part if framing == "length" else chunked([part])[:-5])
            async with asyncio.timeout(10):
                assert await arrived.get() == part
        if framing == "chunked":
            await client.send(b"0\r\n\r\n")
        assert (await client.answer()).body == b"done"
    assert up.calls[0].header(field[0]) == field[1]
    assert up.calls[0].header("content-type") == multipart[1]


@pytest.mark.parametrize("target", [FILES, CHAT])
async def test_a_body_may_be_longer_than_what_plugins_may_read(plain, upstream, target):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url, 'server.max_body = "1 MB"\n')
    body = b'{"messages":[]}' + os.urandom(3_000_000)
    for sent in (body, None):
        async with connected(running.base_url) as client:
            if sent is not None:
                await client.post(target, body)
            else:
                fields = [("Host", "x"), ("Transfer-Encoding", "chunked")]
                await client.send(request_head("POST", target, fields) + chunked([body]))
            assert (await client.answer()).status == 200
    assert [call.body == body for call in up.calls] == [True, True]


async def test_twenty_megabytes_pass(plain, upstream):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url)
    body = os.urandom(1_000_000) * 20
    assert (await fetch(running.base_url, "POST", FILES, body=body)).status == 200
    assert up.calls[0].body == body


# ---- Expect: 100-continue


@pytest.mark.parametrize("target", [CHAT, FILES])
async def test_a_client_that_waits_for_leave_gets_it(plain, upstream, target):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url)
    fields = [("Host", "x"), ("Expect", "100-continue"), ("Content-Length", str(len(BODY)))]
    async with connected(running.base_url) as client:
        await client.send(request_head("POST", target, fields))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(BODY)
        answer = await client.answer()
    assert (answer.status, answer.interim) == (200, [])
    assert up.calls[0].body == BODY
    assert up.calls[0].header("expect") is None


async def test_a_client_whose_body_nobody_wants_is_not_asked_for_it(plain, upstream):
    up = await upstream()
    running = await plain(up.url, LIMITED)
    fields = [("Host", "x"), ("Expect", "100-continue"), ("Content-Length", "5000")]
    async with connected(running.base_url) as client:
        await client.send(request_head("POST", CHAT, fields))
        answer = await client.answer()
    assert (answer.status, answer.interim) == (413, [])


LIMITED = 'server.max_body = "1 kB"\n' + PASS


# ---- refusals before the end of the body


async def test_our_refusal_of_a_long_body_reaches_a_client_that_still_sends(plain, upstream):
    up = await upstream()
    running = await plain(up.url, LIMITED)
    async with connected(running.base_url) as client:
        await client.post(CHAT, b'{"messages":"' + b"x" * 4_000_000 + b'"}')
        answer = await client.answer()
    assert answer.status == 413
    assert answer.json["error"]["code"] == "request_too_large"
    assert up.calls == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("manner", ["reads the rest", "closes", "resets"])
async def test_an_upstreams_refusal_of_a_long_upload_reaches_the_client(
    plain, upstream, manner, framing
):
    refusal = b'{"error":{"message":"too large"}}'

    async def refuse(call):
        await call.part()
        await call.answer(refusal, status="413 Payload Too Large")
        if manner == "reads the rest":
            while await call.part():
                pass
        elif manner == "closes":
            call.writer.close()
        else:
            call.reset()

    up = await upstream(refuse)
    up.whole_bodies = False
    running = await plain(up.url)
    body = bytes(6_000_000)
    field = ("Content-Length", str(len(body)))
    if framing == "chunked":
        field, body = ("Transfer-Encoding", "chunked"), chunked([body[:60_000]] * 100)
    async with connected(running.base_url) as client:
        await client.send(request_head("POST", FILES, [("Host", "x"), field]))
        sending = asyncio.ensure_future(client.send(body))  # it may never end
        answer = await client.answer()
        sending.cancel()
    assert (answer.status, answer.body) == (413, refusal)
    assert len(up.calls) == 1
