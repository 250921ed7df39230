"""An answer of the upstream that breaks never looks complete to the client."""

from __future__ import annotations

import gzip
import zlib

import pytest

from tests.support.raw import (
    CHUNKED_HEAD,
    STREAM_HEAD,
    ask,
    ask_chat,
    chat_body,
    request,
)
from tests.support.upstream import chunks, completion, head

UNCOUNTED = "telemetry.estimate_usage = false"  # loading a vocabulary takes longer than a test
EVENTS = chunks("one two three", {})
"""Of a stream: the role, three words, the finish_reason, [DONE]."""
SEEN = EVENTS[:3]
FINISHED = EVENTS[:-1]


def in_chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def sends(data: bytes, *, rst: bool = False):
    """The script of an upstream that sends this, and breaks off."""

    async def script(call):
        await call.send(data)
        if rst:
            call.reset()
        else:
            call.writer.close()

    return script


LONG_HEAD = head("200 OK", ("Content-Type", "text/event-stream"), ("Content-Length", "99999"))
BROKEN = {
    "chunked, then FIN": sends(CHUNKED_HEAD + in_chunks(*SEEN)),
    "chunked, then FIN inside a chunk": sends(CHUNKED_HEAD + in_chunks(*SEEN) + b"ff\r\ndata: {"),
    "chunked, all but the last chunk": sends(CHUNKED_HEAD + in_chunks(*EVENTS)),
    "Content-Length that is too long": sends(LONG_HEAD + b"".join(SEEN)),
    "Content-Length that is too long, behind [DONE]": sends(LONG_HEAD + b"".join(EVENTS)),
    "no framing, then FIN": sends(STREAM_HEAD + b"".join(SEEN)),
    "no framing, then FIN inside an event": sends(STREAM_HEAD + b"".join(SEEN) + EVENTS[3][:-9]),
    "no framing, then RST": sends(STREAM_HEAD + b"".join(SEEN), rst=True),
    "no framing, no event at all": sends(STREAM_HEAD),
}


@pytest.mark.parametrize("usage", ["ask", "count"])
@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_a_stream_that_breaks_ends_with_an_error_event(proxy, upstream, script, usage):
    up = await upstream(script)
    running = await proxy(up.url, f'upstream.stream_usage = "{usage}"\n{UNCOUNTED}')
    answer = await ask_chat(running, stream=True)
    assert (await running.turns())[0]["termination"] == "upstream_truncated"
    if answer.broken:  # its length was promised: only an aborted connection can take that back
        assert answer.header("Content-Length")
        assert usage == "count"
        return
    assert answer.event_code == "upstream_truncated"
    assert len(up.calls) == 1


async def test_what_came_before_the_break_reaches_the_client(proxy, upstream):
    running = await proxy((await upstream(BROKEN["chunked, then FIN"])).url)
    answer = await ask_chat(running, stream=True)
    assert answer.body.startswith(b"".join(SEEN))
    assert len(answer.events) == len(SEEN) + 1
    turn = (await running.turns())[0]
    assert turn["usage_source"] == "estimated"
    assert turn["completion_tokens"] == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reset_before_the_end_of_a_chunked_answer_is_no_end(proxy, upstream, stream):
    kind = "text/event-stream" if stream else "application/json"
    start = head("200 OK", ("Content-Type", kind), ("Transfer-Encoding", "chunked"))
    running = await proxy((await upstream(sends(start, rst=True))).url, UNCOUNTED)
    answer = await ask_chat(running, stream=stream)
    # What a RST overtakes is lost: the head of the answer may be among it.
    code = answer.event_code if answer.status == 200 else answer.code
    assert code in ("upstream_truncated", "upstream_unreachable")


@pytest.mark.parametrize("cut", [1, 5, 6, 7, 40, -3, -2, -1])
async def test_an_error_event_is_never_glued_to_half_an_event(proxy, upstream, cut):
    data = CHUNKED_HEAD + in_chunks(EVENTS[0], EVENTS[1], EVENTS[2][:cut])
    running = await proxy((await upstream(sends(data))).url, UNCOUNTED)
    answer = await ask_chat(running, stream=True)
    assert answer.events[:2] == [e.removeprefix(b"data: ")[:-2] for e in EVENTS[:2]]
    assert len(answer.events) == 3
    assert answer.event_code == "upstream_truncated"


async def test_a_break_after_a_comment_line_is_still_an_event_of_its_own(proxy, upstream):
    data = CHUNKED_HEAD + in_chunks(EVENTS[0], b": still thinking\n")
    running = await proxy((await upstream(sends(data))).url, UNCOUNTED)
    answer = await ask_chat(running, stream=True)
    assert b'\ndata: {"error":' in answer.body
    assert answer.body.endswith(b"\n\n")


COMPLETE = {
    "chunked, without [DONE]": CHUNKED_HEAD + in_chunks(*SEEN) + b"0\r\n\r\n",
    "chunked, no event at all": CHUNKED_HEAD + b"0\r\n\r\n",
    "chunked, as some servers write it": CHUNKED_HEAD.replace(b"chunked", b"Chunked")
    + in_chunks(*SEEN)
    + b"0\r\n\r\n",
    "Content-Length, without [DONE]": head(
        "200 OK",
        ("Content-Type", "text/event-stream"),
        ("Content-Length", str(len(b"".join(SEEN)))),
    )
    + b"".join(SEEN),
    "no framing, with [DONE]": STREAM_HEAD + b"".join([*SEEN, EVENTS[-1]]),
    "no framing, with a finish_reason": STREAM_HEAD + b"".join(FINISHED),
}


@pytest.mark.parametrize("data", COMPLETE.values(), ids=COMPLETE)
async def test_a_stream_that_is_complete_passes_as_it_came(proxy, upstream, data):
    running = await proxy((await upstream(sends(data))).url, UNCOUNTED)
    answer = await ask_chat(running, stream=True)
    assert not answer.broken
    assert b"error" not in answer.body
    assert answer.body.count(b"data: ") == data.count(b"data: ")
    assert (await running.turns())[0]["termination"] == "completed"


BODY = completion("Hello.")
BROKEN_IN_ONE_PIECE = {
    "Content-Length that is too long": head(
        "200 OK", ("Content-Type", "application/json"), ("Content-Length", str(len(BODY) + 1))
    )
    + BODY,
    "chunked, then FIN": head(
        "200 OK", ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")
    )
    + in_chunks(BODY),
    "no framing, half a body": head("200 OK", ("Content-Type", "application/json")) + BODY[:-20],
}


@pytest.mark.parametrize("data", BROKEN_IN_ONE_PIECE.values(), ids=BROKEN_IN_ONE_PIECE)
async def test_an_answer_in_one_piece_that_breaks_is_a_502(proxy, upstream, data):
    running = await proxy((await upstream(sends(data))).url, UNCOUNTED)
    answer = await ask_chat(running)
    assert (answer.status, answer.code) == (502, "upstream_truncated")
    assert (await running.turns())[0]["termination"] == "upstream_truncated"


FRAMED = [name for name in BROKEN_IN_ONE_PIECE if "no framing" not in name]


@pytest.mark.parametrize("name", FRAMED)
async def test_a_broken_answer_on_another_path_is_an_aborted_connection(proxy, upstream, name):
    data = BROKEN_IN_ONE_PIECE[name]
    running = await proxy((await upstream(sends(data))).url)
    answer = await ask(running, request(method="GET", target="/v1/models"))
    assert answer.status == 200
    assert answer.broken


async def test_a_compressed_stream_that_breaks_is_an_aborted_connection(proxy, upstream):
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"".join(SEEN)) + packer.flush(zlib.Z_SYNC_FLUSH)
    start = CHUNKED_HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n"
    up = await upstream(sends(start + in_chunks(packed)))
    running = await proxy(up.url, 'upstream.stream_usage = "count"\n' + UNCOUNTED)
    data = request(chat_body(stream=True), ("Accept-Encoding", "gzip"))
    answer = await ask(running, data)
    assert answer.header("Content-Encoding") == "gzip"
    assert answer.broken
    assert answer.body == packed


async def test_gzip_that_is_none_is_a_502(proxy, upstream):
    async def lie(call):
        await call.answer(b"this is no gzip", headers=(("Content-Encoding", "gzip"),))

    running = await proxy((await upstream(lie)).url)
    answer = await ask(running, request(chat_body(), ("Accept-Encoding", "gzip")))
    assert (answer.status, answer.code) == (502, "upstream_invalid")


async def test_gzip_that_is_cut_short_inside_its_framing_passes_as_it_came(proxy, upstream):
    packed = gzip.compress(BODY)[:-9]

    async def cut(call):
        await call.answer(packed, headers=(("Content-Encoding", "gzip"),))

    running = await proxy((await upstream(cut)).url)
    answer = await ask(running, request(chat_body(), ("Accept-Encoding", "gzip")))
    assert (answer.status, answer.body) == (200, packed)
