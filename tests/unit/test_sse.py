"""Events cut out of a byte stream."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import sse

PIECES = st.sampled_from(
    [
        b"data: {}",
        b"data:x",
        b": ping",
        b"id: 1",
        b"\n",
        b"\r\n",
        b"\r",
        b"\n\n",
        b"",
        "é世".encode(),
    ]
)
STREAMS = st.lists(PIECES, max_size=30).map(b"".join)


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(i % (len(stream) + 1) for i in at)})
    return [stream[a:b] for a, b in pairwise(places)]


def fed(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = sse.Splitter()
    return [splitter.feed(piece) for piece in pieces], splitter.rest()


@given(STREAMS, st.lists(st.integers(0, 200)))
def test_what_goes_in_comes_out_however_it_is_cut(stream, at):
    whole, rest = fed(cut(stream, at))
    assert b"".join(whole) + rest == stream


@given(STREAMS, st.lists(st.integers(0, 200)))
def test_only_whole_events_and_comments_are_let_out(stream, at):
    for run in fed(cut(stream, at))[0]:
        last = re.split(rb"(?:\r\n|\n|\r){2}", run)[-1]
        lines = [line for line in re.split(rb"\r\n|\n|\r", last) if line]
        assert all(line.startswith(b":") for line in lines), run


@given(STREAMS)
def test_events_are_the_same_however_the_stream_is_cut(stream):
    one = fed([stream])
    bytewise = fed([stream[i : i + 1] for i in range(len(stream))])
    assert sse.events(b"".join(one[0]) + one[1]) == sse.events(b"".join(bytewise[0]) + bytewise[1])


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_an_event_ends_with_an_empty_line_of_any_kind(newline):
    event = b"data: a" + newline + newline
    assert sse.events(event + event) == [event, event]


def test_a_crlf_is_one_line_end_and_not_two():
    assert sse.events(b"event: x\r\ndata: a\r\n\r\n") == [b"event: x\r\ndata: a\r\n\r\n"]


def test_a_comment_of_one_line_is_not_held_back():
    splitter = sse.Splitter()
    assert splitter.feed(b": ping\n") == b": ping\n"
    assert splitter.feed(b": ping\ndata: {") == b": ping\n"
    assert splitter.feed(b"}\n\n") == b"data: {}\n\n"


def test_an_event_that_never_ends_is_let_out_before_it_fills_the_memory():
    splitter = sse.Splitter()
    chunk = b"x" * (1 << 20)
    out = sum(len(splitter.feed(chunk)) for _ in range(40))
    assert out >= 40 * len(chunk) - sse.MAX_HELD - len(chunk)


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data:  {}\n\n", b" {}"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"\xef\xbb\xbfdata: a\n\n", b"a"),
        (b"id: 1\r\nevent: x\r\ndata: a\r\n\r\n", b"a"),
        (b": comment\ndata: a\n\n", b"a"),
        (b": comment\n\n", None),
        (b"retry: 5\n\n", None),
        (b"database: a\n\n", None),
        (b"data\n\n", None),
    ],
)
def test_the_payload_of_an_event_is_its_data_lines(event, payload):
    assert sse.data(event) == payload


def test_an_encoded_payload_reads_back():
    assert sse.data(sse.encode(b'{"a":1}')) == b'{"a":1}'


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (b"data: {}\n\n", b"data: [1]\n\n"),
        (b"id: 1\r\nevent: x\r\ndata: {}\r\n\r\n", b"id: 1\r\nevent: x\r\ndata: [1]\r\n\r\n"),
        (b"data: a\ndata: b\n\n", b"data: [1]\n\n"),
        (b"id: a\ndata: a\n\n", b"data: [1]\n\n"),
        (b"id: 1\n\n", b"data: [1]\n\n"),
    ],
)
def test_another_payload_leaves_the_other_lines_where_it_can(event, changed):
    assert sse.with_data(event, b"[1]") == changed


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_let_out_with_its_last_byte(end):
    splitter = sse.Splitter()
    event = b"id: 1" + end + b"data: a" + end + end
    assert splitter.feed(event[:-1]) == b""
    assert splitter.feed(event[-1:]) == event
