"""The two forms of an answer, and text that is held back until it is checked."""

from __future__ import annotations

import gzip

import msgspec
import pytest
from multidict import CIMultiDict

from proxy.answer import LocalEvents
from proxy.errors import ContentRejected, UpstreamTruncated
from proxy.exchange import Exchange
from proxy.response import FullResponse, StreamResponse
from proxy.wire import Chunk
from tests.support.upstream import chunks, completion


def exchange():
    return Exchange("req_test", "POST", "/v1/chat/completions", "/v1/chat/completions")


def full(data, **headers):
    fields = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return FullResponse(exchange(), data, headers=fields, source="upstream")


class Scripted:
    """Runs of bytes, one for each read; an exception breaks the stream."""

    def __init__(self, *runs):
        self.runs = list(runs)
        self.closed = 0

    async def read(self):
        run = self.runs.pop(0) if self.runs else b""
        if isinstance(run, Exception):
            raise run
        return run

    async def close(self):
        self.closed += 1


def stream(*runs):
    return StreamResponse(exchange(), Scripted(*runs), source="upstream")


async def written(response):
    out = []

    async def write(data):
        out.append(data)

    await response.send(write)
    return out


def text_chunk(text, index=0):
    return Chunk.of({"choices": [{"index": index, "delta": {"content": text}}]}).raw


DONE = b"data: [DONE]\n\n"


# ---- in one piece


def test_text_is_mapped_in_every_choice():
    body = {"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}], "x": 1}
    mapped = full(msgspec.json.encode(body)).map_text(str.upper)
    assert [c["message"]["content"] for c in mapped.body["choices"]] == ["A", "B"]
    assert mapped.body["x"] == 1


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"[]", b'{"choices":5}', b'{"choices":[1,{"message":2}]}']
)
def test_what_is_no_completion_is_mapped_to_itself(data):
    response = full(data)
    assert response.map_text(str.upper).data == data


def test_a_compressed_answer_is_read_and_a_changed_one_is_plain():
    response = full(
        gzip.compress(completion("hi")), Content_Encoding="gzip", Content_Length="9", ETag="x"
    )
    mapped = response.map_text(str.upper)
    assert mapped.body["choices"][0]["message"]["content"] == "HI"
    assert not {"Content-Encoding", "Content-Length", "ETag"} & set(mapped.headers)
    assert "Content-Encoding" in response.headers


# ---- streams


async def test_a_stream_that_nobody_looks_at_passes_as_it_came():
    runs = [b": hi\n\n", b"data: {}\n\ndata: {}\n\n", DONE, b"data: late\n\n"]
    assert await written(stream(*runs)) == runs


async def test_comments_go_ahead_and_done_comes_last_when_a_plugin_looks():
    response = stream(b": one\n\n" + text_chunk("a"), b": two\n\n", text_chunk("b") + DONE)
    sent = await written(response.map_text(str.upper))
    assert sent == [b": one\n\n", text_chunk("A"), b": two\n\n", text_chunk("B"), DONE]


async def test_a_chunk_that_no_plugin_changed_keeps_its_bytes():
    odd = b'id: 7\ndata: { "choices" : [ {"delta":{"content":""}} ] , "n" : 1.0 }\n\n'
    assert await written(stream(odd, DONE).map_text(str.upper)) == [odd, DONE]


async def test_a_break_reaches_whoever_writes_the_stream():
    response = stream(text_chunk("a"), UpstreamTruncated("broke")).map_text(str.upper)
    with pytest.raises(UpstreamTruncated):
        await written(response)


# ---- held text


def holding(*texts, every=4, overlap=2, reject="bad", index=0):
    """A held stream of texts, and what the check was asked."""
    asked = []

    async def check(text):
        asked.append(text)
        if reject in text:
            raise ContentRejected("no")

    response = stream(*(text_chunk(text, index) for text in texts), DONE)
    return response.hold(check, every=every, overlap=overlap), asked


async def test_text_is_released_only_after_its_check_and_unchanged():
    response, asked = holding("ab", "cd", "ef", "g")
    assert await written(response) == [text_chunk(t) for t in ("ab", "cd", "ef", "g")] + [DONE]
    assert asked == ["abcd", "cdefg"]


async def test_rejected_text_is_never_shown_and_the_stream_ends_as_filtered():
    response, _ = holding("fine", "b", "ad", "more")
    shown, end = await written(response)
    assert shown == text_chunk("fine")
    assert end.endswith(DONE)
    assert Chunk(end.removesuffix(DONE)).body["choices"] == [
        {"index": 0, "delta": {}, "finish_reason": "content_filter"}
    ]
    assert response.exchange.facts.finish_reasons == ["content_filter"]


async def test_a_word_that_is_split_over_two_checks_is_seen_by_the_overlap():
    response, _ = holding("xxxb", "ad", every=4, overlap=2)
    sent = await written(response)
    assert sent[0] == text_chunk("xxxb")  # clean in itself, and cannot be called back
    assert b"ad" not in sent[1]


async def test_each_choice_is_checked_by_itself():
    asked = []

    async def check(text):
        asked.append(text)

    response = stream(text_chunk("ab", 0), text_chunk("12", 1), text_chunk("cd", 0), DONE)
    await written(response.hold(check, every=100))
    assert sorted(asked) == ["12", "abcd"]


async def test_chunks_without_text_keep_their_place_between_those_with():
    events = chunks("some words here", {"stream_options": {"include_usage": True}})

    async def check(text):
        pass

    sent = await written(stream(*events).hold(check, every=5))
    assert b"".join(sent) == b"".join(events)


async def test_a_local_stream_ends_with_done():
    response = StreamResponse(exchange(), LocalEvents([{"a": 1}]))
    assert b"".join(await written(response)) == b'data: {"a":1}\n\n' + DONE
