"""A stream reaches the client event by event, as it came and when it came."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import msgspec
import pytest

from tests.support.upstream import completion, head
from tests.support.wire import chunked, connected, fetch

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
ASK = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}'
ASK_PLAINLY = b'{"model":"m","messages":[],"stream":true}'
EVENTS = ("Content-Type", "text/event-stream; charset=utf-8")
CHUNKED = ("Transfer-Encoding", "chunked")
DONE = b"data: [DONE]\n\n"

COPY = """
from proxy.plugin import Plugin

class Copy(Plugin):
    async def handle(self, request, call_next):
        return (await call_next(request)).map_text(lambda text: text)
"""


def event(text="x", reason=None, **fields):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return b"data: " + msgspec.json.encode({"id": "c", "choices": [choice], **fields}) + b"\n\n"


def streaming(*chunks, headers=()):
    """A script that sends a stream with one segment for each of HTTP's chunks."""

    async def stream(call):
        await call.send(head("200 OK", EVENTS, CHUNKED, *headers))
        await call.send(*(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks), b"0\r\n\r\n")

    return stream


@pytest.fixture(params=["no plugins", "a plugin that copies", "another path"])
async def through(request, plain, tmp_path):
    """Start a proxy and say where to ask for a stream: by each way that streams have."""
    (tmp_path / "copy.py").write_text(COPY)
    chain = '[[plugins]]\nuse = "./copy.py:Copy"\n' if "plugin " in request.param else ""

    async def start(up, toml=""):
        running = await plain(up.url, toml + chain)
        return running.base_url, RESPONSES if "path" in request.param else CHAT

    return start


# ---- when it came


async def in_turns(up_events, through, upstream, body=ASK):
    """Each event must be at the client before the upstream sends the next."""
    turn = asyncio.Semaphore(0)

    async def stream(call):
        await call.start_stream()
        for each in up_events:
            async with asyncio.timeout(10):
                await turn.acquire()
            await call.chunk(each)
        await call.end_chunks()

    up = await upstream(stream)
    url, target = await through(up)
    got = []
    async with connected(url) as client:
        await client.post(target, body)
        await client.head()
        for each in up_events:
            turn.release()
            data = b""
            while len(data) < len(each):
                data += await client.part()
            got.append(data)
        assert await client.part() == b""
    assert got == up_events


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
async def test_every_event_passes_before_the_next_one_comes(through, upstream, end):
    events = [event("a"), b"event: x\nid: 7\ndata: {}\n\n", event("b", "stop"), DONE]
    await in_turns([each.replace(b"\n", end) for each in events], through, upstream)


async def test_a_comment_passes_before_the_event_behind_it_comes(through, upstream):
    events = [b": OPENROUTER PROCESSING\n\n", b": ping\n", b": ping\n\n", event("a"), b":\n\n"]
    await in_turns(events, through, upstream)


async def test_the_head_of_a_stream_passes_before_its_first_event(through, upstream):
    read = asyncio.Event()

    async def stream(call):
        await call.start_stream(("x-ratelimit-remaining-tokens", "9"))
        await asyncio.wait_for(read.wait(), 10)
        await call.chunk(DONE)
        await call.end_chunks()

    up = await upstream(stream)
    url, target = await through(up)
    async with connected(url) as client:
        await client.post(target, ASK)
        answer = await client.head()
        assert (answer.status, answer.header("x-ratelimit-remaining-tokens")) == (200, "9")
        assert answer.all("content-type") == [EVENTS[1]]
        read.set()
        assert await client.until(b"[DONE]") == DONE


@pytest.mark.parametrize("body", [ASK, ASK_PLAINLY], ids=["as it came", "usage asked for"])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_stream_is_not_held_back(plain, upstream, coding, body):
    turn = asyncio.Semaphore(0)
    events = [event("a"), event("b", "stop"), DONE]

    async def stream(call):
        await call.start_stream(("Content-Encoding", coding))
        squeeze = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
        for each in events:
            async with asyncio.timeout(10):
                await turn.acquire()
            await call.chunk(squeeze.compress(each) + squeeze.flush(zlib.Z_SYNC_FLUSH))
        await call.chunk(squeeze.flush())
        await call.end_chunks()

    up = await upstream(stream)
    running = await plain(up.url)
    async with connected(running.base_url) as client:
        await client.post(CHAT, body, ("Accept-Encoding", "gzip, deflate"))
        answer = await client.head()
        compressed = answer.header("content-encoding") == coding
        expand = zlib.decompressobj(47).decompress if compressed else bytes
        for each in events:
            turn.release()
            data = b""
            while len(data) < len(each):
                data += expand(await client.part())
            assert data == each
    assert compressed == (body is ASK)


# ---- as it came

TEXT = "日本語 🎉 é".encode()
LONG = event("y" * 2_000_000)
STREAMS = {
    "fields in odd spelling": b'data: {"id" : "c",  "x":1.0,"choices":[],"n":null}\n\n' + DONE,
    "event, id and retry": b"event: message\nid: 1\nretry: 10\ndata: {}\n\n" + DONE,
    "comments": b": OPENROUTER PROCESSING\n\n: x\ndata: {}\n\n:\n\n" + DONE,
    "CRLF": (event("a") + DONE).replace(b"\n", b"\r\n"),
    "CR": (event("a") + DONE).replace(b"\n", b"\r"),
    "line ends of every kind": b"data: {}\r\n\ndata: {}\n\r\ndata: {}\r\rdata: {}\r\n\r\n" + DONE,
    "a byte order mark": b"\xef\xbb\xbf" + event("a") + DONE,
    "no final line end": event("a") + b"data: [DONE]",
    "no final empty line": event("a") + b"data: [DONE]\n",
    "data after the end": event("a") + DONE + event("b") + b": bye\n\n" + DONE,
    "no [DONE]": event("a") + event("b", "stop"),
    "nothing": b"",
    "only [DONE]": DONE,
    "an error event": event("a") + b'data: {"error":{"message":"no"}}\n\n',
    "an error event with a name": b'event: error\ndata: {"error":{"message":"no"}}\n\n',
    "text of many bytes": event(TEXT.decode()) + b"data: " + TEXT + b"\n\n" + DONE,
    "no UTF-8": b"data: \xff\xfe\xe9\n\n" + DONE,
    "data on many lines": b'data: {"choices":\ndata:  []}\n\n' + DONE,
    "an event that ends as the end does": b"data: \ndata: \ndata: [DONE]\n\n" + DONE,
    "empty events": b"\n\n\n" + event("a") + b"\n\n" + DONE,
    "2 MB in one event": LONG + DONE,
    "many events": event("a") * 3_000 + DONE,
    "text like usage": event('"usage":null}') + event(',"usage":null', None, usage=None) + DONE,
}


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_keeps_its_bytes(through, upstream, name):
    data = STREAMS[name]
    up = await upstream(streaming(data))
    url, target = await through(up)
    whole = await fetch(url, "POST", target, body=ASK)
    assert (whole.body, whole.complete) == (data, True)
    assert whole.header("content-length") is None


@pytest.mark.parametrize("name", [n for n in STREAMS if len(STREAMS[n]) < 500])
async def test_a_stream_cut_into_single_bytes_keeps_them(through, upstream, name):
    data = STREAMS[name]
    up = await upstream(streaming(*(data[at : at + 1] for at in range(len(data)))))
    url, target = await through(up)
    answer = await fetch(url, "POST", target, body=ASK)
    assert (answer.body, answer.complete) == (data, True)


@pytest.mark.parametrize("target", [CHAT, RESPONSES])
async def test_a_stream_with_a_length_keeps_it(plain, upstream, target):
    data = event("a", "stop") + DONE
    up = await upstream(lambda call: call.answer(data, content_type=EVENTS[1]))
    running = await plain(up.url)
    answer = await fetch(running.base_url, "POST", target, body=ASK)
    assert (answer.body, answer.complete) == (data, True)
    assert answer.header("content-length") == str(len(data))


async def test_gzip_of_several_members_is_read_whole(plain, upstream):
    """Each flush a member of its own: RFC 1952, 2.2, lets a server do so."""
    events = [event("a"), event("b", "stop"), DONE]
    gzipped = ("Content-Encoding", "gzip")
    up = await upstream(streaming(*map(gzip.compress, events), headers=(gzipped,)))
    running = await plain(up.url)
    answer = await fetch(
        running.base_url, "POST", CHAT, ("Accept-Encoding", "gzip"), body=ASK_PLAINLY
    )
    assert answer.body == b"".join(events)


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", None])
async def test_a_stream_by_another_name_is_not_held_back(plain, upstream, kind):
    """Servers forget the content type; clients that asked for a stream do not look at it."""
    read = asyncio.Event()
    fields = [CHUNKED] if kind is None else [("Content-Type", kind), CHUNKED]

    async def stream(call):
        await call.send(head("200 OK", *fields))
        await call.chunk(event("a"))
        await asyncio.wait_for(read.wait(), 5)
        await call.send(chunked([event("b", "stop") + DONE]))

    up = await upstream(stream)
    running = await plain(up.url)
    async with connected(running.base_url) as client:
        await client.post(CHAT, ASK)
        answer = await client.head()
        assert answer.header("content-type") == kind
        assert await client.part() == event("a")
        read.set()
        assert await client.until(b"[DONE]") == event("b", "stop") + DONE


async def test_a_client_that_asked_for_a_stream_may_get_an_answer_in_one_piece(plain, upstream):
    up = await upstream(lambda call: call.answer(completion("Hello.")))
    running = await plain(up.url)
    answer = await fetch(running.base_url, "POST", CHAT, body=ASK_PLAINLY)
    assert (answer.body, answer.complete) == (completion("Hello."), True)


@pytest.mark.parametrize("data", [event("a", "stop"), event("a") + DONE], ids=["reason", "done"])
async def test_a_stream_that_ends_with_its_connection_is_whole_if_it_says_so(plain, upstream, data):
    async def stream(call):
        await call.send(head("200 OK", EVENTS) + data)
        call.writer.close()

    up = await upstream(stream)
    running = await plain(up.url)
    answer = await fetch(running.base_url, "POST", CHAT, body=ASK)
    assert (answer.body, answer.complete) == (data, True)
