"""Bodies that are too long, too many, packed, or no JSON."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from tests.support.plugins import plugin
from tests.support.raw import CHAT, Client, ask, ask_chat, chat_body, metric, request
from tests.support.upstream import completion

IN_FLIGHT = "dragoman_body_bytes_in_flight"


@pytest.fixture
def passing(tmp_path):
    """The table of a plugin that passes everything on."""
    return plugin(tmp_path, "return await call_next(request)", name="passing")


def chunked(body: bytes, size: int = 10_000) -> bytes:
    """The same as request(), in HTTP's chunked coding."""
    parts = (body[start : start + size] for start in range(0, len(body), size))
    head = request(None, ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"))
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("encode", [request, chunked])
async def test_a_body_over_the_limit_is_a_413_where_plugins_would_read_it(
    proxy, upstream, passing, encode
):
    up = await upstream()
    running = await proxy(up.url, f'server.max_body = "10 kB"\n{passing}')
    answer = await ask(running, encode(chat_body("x" * 20_000)))
    assert (answer.status, answer.code) == (413, "request_too_large")
    assert up.connections == 0
    assert (await running.turns())[0]["termination"] == "request_too_large"
    assert await metric(running, IN_FLIGHT) == 0
    assert (await ask(running, encode(chat_body("x" * 9_000)))).status == 200


async def test_a_413_reaches_a_client_that_is_still_sending(proxy, upstream, passing):
    running = await proxy((await upstream()).url, f'server.max_body = "10 kB"\n{passing}')
    async with await Client.open(running.server.port) as client:
        sending = asyncio.get_running_loop().create_task(
            client.send(chunked(b"x" * 20_000_000, 100_000))
        )
        answer = await client.answer()
        assert (answer.status, answer.code) == (413, "request_too_large")
        await sending


async def test_a_413_comes_instead_of_100_continue(proxy, upstream, passing):
    running = await proxy((await upstream()).url, f'server.max_body = "10 kB"\n{passing}')
    head = request(None, ("Content-Length", "20000"), ("Expect", "100-continue"))
    async with await Client.open(running.server.port) as client:
        await client.send(head)
        assert (await client.answer()).status == 413


@pytest.mark.parametrize("encode", [request, chunked])
async def test_a_body_of_any_length_passes_where_nobody_reads_it(proxy, upstream, encode):
    up = await upstream()
    running = await proxy(up.url, 'server.max_body = "10 kB"')
    body = chat_body("x" * 50_000)
    answer = await ask(running, encode(body))
    assert answer.status == 200
    assert up.calls[0].body == body
    assert await metric(running, IN_FLIGHT) == 0


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
async def test_a_packed_body_is_a_415_where_plugins_would_read_it(proxy, upstream, passing, coding):
    up = await upstream()
    running = await proxy(up.url, passing)
    answer = await ask(running, request(gzip.compress(chat_body()), ("Content-Encoding", coding)))
    assert (answer.status, answer.code) == (415, "unsupported_content_encoding")
    assert up.connections == 0


async def test_a_packed_body_passes_as_it_came_where_nobody_reads_it(proxy, upstream):
    async def script(call):
        await call.answer(completion("Hello."))

    up = await upstream(script)
    running = await proxy(up.url)
    for path in (CHAT, "/v1/embeddings"):
        body = gzip.compress(chat_body())
        data = request(body, ("Content-Encoding", "gzip"), target=path)
        assert (await ask(running, data)).status == 200
        assert up.calls[-1].body == body
        assert up.calls[-1].header("Content-Encoding") == "gzip"


@pytest.mark.parametrize("plugins", [False, True])
async def test_a_gzip_bomb_is_not_unpacked(proxy, upstream, passing, plugins):
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * 1_000_000) for _ in range(100)) + packer.flush()

    async def script(call):
        await call.answer(b"{}")

    up = await upstream(script)
    running = await proxy(up.url, passing if plugins else "")
    answer = await ask(running, request(bomb, ("Content-Encoding", "gzip")))
    assert answer.status == (415 if plugins else 200)
    assert [len(call.body) for call in up.calls] == ([] if plugins else [len(bomb)])


async def test_many_large_bodies_at_once_are_refused_beyond_the_budget(proxy, upstream, passing):
    release = asyncio.Event()

    async def script(call):
        await release.wait()
        await call.chat()

    up = await upstream(script)
    limits = 'server.max_body = "100 kB"\nserver.max_body_in_flight = "200 kB"'
    running = await proxy(up.url, f"{limits}\n{passing}")
    body = chat_body("x" * 90_000)
    async with (
        await Client.open(running.server.port) as one,
        await Client.open(running.server.port) as two,
    ):
        for client in (one, two):
            await client.send(request(body))
        while len(up.calls) < 2:
            await asyncio.sleep(0)
        assert await metric(running, IN_FLIGHT) == 2 * len(body)
        answer = await ask(running, request(body))
        assert (answer.status, answer.code) == (503, "overloaded")
        assert answer.header("Retry-After") == "1"
        release.set()
        assert (await one.answer()).status == (await two.answer()).status == 200
    assert await metric(running, IN_FLIGHT) == 0
    assert (await ask(running, request(body))).status == 200
    assert len(up.calls) == 3
    assert [t["termination"] for t in await running.turns(4)].count("overloaded") == 1


BAD = {
    "nothing": b"",
    "half of it": chat_body()[:-1],
    "something behind it": chat_body() + b"x",
    "no object": b"[1, 2]",
    "null": b"null",
    "a number": b"7",
    "no UTF-8": b'{"model": "\xff\xfe"}',
    "UTF-16": chat_body().decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + chat_body(),
    "NaN": b'{"temperature": NaN}',
    "Infinity": b'{"temperature": -Infinity}',
    "duplicate names": b'{"model": "canary-1", "model": "canary-2"}',
    "duplicate names further in": b'{"messages": [{"role": "user", "role": "system"}]}',
    "a lone surrogate": b'{"model": "\\ud800"}',
    "a raw NUL": b'{"model": "canary\0"}',
    "nesting": b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b"}",
    "much nesting": b'{"a": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
    "a million values": b'{"a": [' + b"[]," * 600_000 + b"[]]}",
    "a single quote": b"{'model': 'canary'}",
    "a multipart form": b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ncanary\r\n--x--',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
async def test_what_is_no_strict_json_is_a_400_where_plugins_would_read_it(
    proxy, upstream, passing, body, caplog
):
    up = await upstream()
    running = await proxy(up.url, passing)
    answer = await ask(running, request(body))
    assert (answer.status, answer.code) == (400, "invalid_json")
    assert up.connections == 0
    assert b"canary" not in answer.body
    assert "canary" not in caplog.text
    assert (await running.turns())[0]["termination"] == "invalid_json"


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
async def test_what_is_no_json_passes_as_it_came_where_nobody_reads_it(proxy, upstream, body):
    async def refuse(call):
        await call.answer(b'{"error": {"code": "theirs"}}', status="400 Bad Request")

    up = await upstream(refuse)
    running = await proxy(up.url)
    answer = await ask(running, request(body))
    assert (answer.status, answer.json) == (400, {"error": {"code": "theirs"}})
    assert up.calls[0].body == body


ODD = {
    "no messages": b'{"model": "m"}',
    "messages that are none": b'{"model": "m", "messages": 5}',
    "messages of numbers": b'{"messages": [1, null, "a", []]}',
    "unknown fields": b'{"messages": [{"role": "oracle", "content": [{"type": "smell"}]}], "x": 1}',
    "an escaped NUL": b'{"messages": [{"role": "user", "content": "a\\u0000b"}]}',
    "long numbers": b'{"seed": 12345678901234567890123, "temperature": 1.00, "x": 1e400}',
    "an odd model": b'{"model": {"name": 5}, "messages": []}',
    "a stream that is none": b'{"stream": "yes", "stream_options": 7}',
    "stream options that are none": b'{"stream": true, "stream_options": [1]}',
    "spaces": b' \n{ "model" :\t"m" , "messages" : [ ] }\r\n ',
    "an empty object": b"{}",
}


@pytest.mark.parametrize("plugins", [False, True])
@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
async def test_what_is_odd_but_json_passes_as_it_came(proxy, upstream, passing, body, plugins):
    async def script(call):
        await call.answer(completion("Hello."))

    up = await upstream(script)
    running = await proxy(up.url, passing if plugins else "")
    answer = await ask(running, request(body))
    assert answer.status == 200
    assert up.calls[0].body == body


async def test_a_number_that_is_too_large_to_be_written_again_is_a_400(proxy, upstream, tmp_path):
    """It is legal JSON, but a plugin that changes its field cannot say it again."""
    toml = plugin(tmp_path, "return await call_next(request.replace(seed=request.get('seed')))")
    up = await upstream()
    running = await proxy(up.url, toml)
    answer = await ask(running, request(b'{"messages": [], "seed": 1e400}'))
    assert (answer.status, answer.code) == (400, "invalid_json")
    assert up.connections == 0


BAD_CHUNKS = [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}XX0\r\n\r\n", b"-2\r\n{}\r\n"]


@pytest.mark.parametrize("bad", BAD_CHUNKS)
@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings"])
async def test_a_body_that_is_not_framed_as_http_says_is_a_400(proxy, upstream, bad, path):
    up = await upstream()
    running = await proxy(up.url)
    head = request(None, ("Transfer-Encoding", "chunked"), target=path)
    answer = await ask(running, head + bad)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert up.calls == []


@pytest.mark.parametrize("bad", BAD_CHUNKS)
@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings"])
async def test_a_body_that_breaks_its_framing_later_is_refused(proxy, upstream, bad, path):
    up = await upstream()
    running = await proxy(up.url, 'server.body_timeout = "300 ms"')
    head = request(None, ("Transfer-Encoding", "chunked"), target=path)
    async with await Client.open(running.server.port) as client:
        await client.send(head + b"1\r\n{\r\n")
        while await metric(running, "http_server_active_requests") == 0:
            await asyncio.sleep(0)
        await client.send(bad)
        assert (await client.answer()).status in (400, 408)
    assert up.calls == []


async def test_a_long_chat_stalls_nobody(proxy, upstream, passing):
    """20 MB of image beside small talk."""
    running = await proxy((await upstream()).url, passing)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 19_000_000}}
    data = request(chat_body(messages=[{"role": "user", "content": [image]}]))
    loop = asyncio.get_running_loop()
    big, served = loop.create_task(ask(running, data, 30)), 0
    while not big.done():
        assert (await ask_chat(running)).status == 200
        served += 1
    assert (await big).status == 200
    assert served >= 3
