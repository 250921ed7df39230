"""Usage that is read off the bytes of an answer as they pass, however they are cut."""

from __future__ import annotations

import gzip

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.reports import MAX_KEPT, Outline, Reader, message_report
from proxy.usage import Report, Usage

NAMES = st.sampled_from(["usage", "model", "a", '"usage":', "usage\\", "x" * 300, "é"])
TEXTS = st.text(alphabet='ab"\\{}[]:,é\n usage', max_size=40) | st.just('{"usage":' * 60)
VALUES = st.recursive(
    st.none() | st.integers(0, 99) | st.floats(0, 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
OTHERS = st.dictionaries(st.sampled_from(["id", "data", "output", "y" * 300, 'b"]']), VALUES)
USAGE = {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 3}
TOLD = Usage(7, 3, cached_tokens=2)


def outlined(data, size, *, is_long=True):
    """`is_long`: it is read as documents are that are too long to be kept."""
    outline = Outline()
    if is_long:
        outline._short = None
    for start in range(0, len(data), size):
        outline.feed(data[start : start + size])
    return outline


@given(OTHERS, st.permutations(["usage", "model", "rest"]), st.integers(1, 400), st.booleans())
def test_a_usage_is_found_wherever_it_stands_and_nothing_is_taken_for_one(
    others, order, size, is_spaced
):
    parts = {"usage": {"usage": USAGE}, "model": {"model": "m"}, "rest": others}
    document = {}
    for name in order:
        document.update(parts[name])
    data = msgspec.json.encode(document)
    if is_spaced:
        data = msgspec.json.format(data, indent=1).replace(b'":', b'"  :')
    assert outlined(data, size).report() == Report(TOLD, "m")
    assert outlined(data, size, is_long=False).report() == Report(TOLD, "m")
    del document["usage"]
    assert outlined(msgspec.json.encode(document), size).report() is None
    assert outlined(data[:-1], size).report() is None


def test_what_is_kept_of_an_answer_is_bounded():
    vectors = [{"embedding": [0.5] * 1_000, "text": "x" * 1_000} for _ in range(200)]
    body = {"data": vectors, "text": "y" * 100_000, "usage": {"prompt_tokens": 5}}
    outline = outlined(msgspec.json.encode(body), 50_000, is_long=False)
    assert len(outline._kept) < 100
    assert outline.report() == Report(Usage(5, 0))
    endless = outlined(b"[" + b"1," * MAX_KEPT, 1_000)
    assert len(endless._kept) < MAX_KEPT + 2_000
    assert endless.report() is None


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"prompt_tokens": 5, "total_tokens": 5}, Usage(5, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 9}, Usage(5, 2)),
        ({"input_tokens": 5, "total_tokens": 9}, Usage(5, 4)),
        ({"total_tokens": 9}, Usage(9, 0)),
        ({"output_tokens": 4}, Usage(0, 4)),
        (
            {
                "input_tokens": 5,
                "output_tokens": 4,
                "input_token_details": {"cached_tokens": 3},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(5, 4, cached_tokens=3, reasoning_tokens=2),
        ),
        ({"type": "duration", "seconds": 3}, None),
        ({"prompt_tokens": -1, "total_tokens": True}, None),
        (None, None),
        ("7", None),
    ],
)
def test_every_dialect_of_usage_is_read(usage, told):
    assert Usage.elsewhere(usage) == told


STREAM = (
    b'event: response.created\r\ndata: {"type":"response.created","response":{"usage":null}}\r\n\r\n'
    b': comment\r\nevent: response.output_text.delta\r\ndata: {"delta":"\\"usage\\":{}"}\r\n\r\n'
    b'event: response.completed\r\ndata: {"type":"response.completed",\r\ndata: "response":{"model":'
    b'"m","output":[{"usage":{"input_tokens":1}}],"usage":%b}}\r\n\r\n' % msgspec.json.encode(USAGE)
)


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("coding", ["", "gzip"])
def test_a_stream_reports_in_its_last_events(size, coding):
    data = gzip.compress(STREAM) if coding else STREAM
    reader = Reader({"Content-Type": "text/event-stream", "Content-Encoding": coding})
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    assert reader.report() == Report(TOLD, "m")


@pytest.mark.parametrize(
    ("coding", "data"), [("br", b'{"usage":{}}'), ("gzip", b'{"usage":{"total_tokens":5}}')]
)
def test_a_coding_that_cannot_be_read_is_known_for_one(coding, data):
    reader = Reader({"Content-Type": "application/json", "Content-Encoding": coding})
    reader.feed(data)
    assert reader.unreadable
    assert reader.report() is None


def test_messages_report_when_an_answer_is_done():
    done = msgspec.json.encode({"type": "response.done", "response": {"usage": USAGE}}).decode()
    assert message_report(done) == Report(TOLD)
    assert message_report('{"delta": "\\"usage\\": {}"}') is None
    assert message_report('{"usage": {"total_tokens": 5}') is None
