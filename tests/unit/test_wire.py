"""A request as a value over the bytes that came."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from proxy.strictjson import JSONError
from proxy.wire import Chunk, Received
from tests.support.requests import chat_request


def test_a_request_that_nobody_changed_is_sent_as_it_came():
    request = chat_request()
    assert request.data() is request.received.data


def test_replace_makes_a_copy_and_leaves_the_original():
    request = chat_request(temperature=1)
    changed = request.replace(temperature=0, store=True)
    assert (request.body["temperature"], changed.body["temperature"]) == (1, 0)
    assert changed.get("store") is True
    assert b'"store":true' in changed.data()
    assert b'"store"' not in request.data()


def test_without_takes_fields_out_and_ignores_those_that_are_not_there():
    request = chat_request(temperature=1)
    changed = request.without("temperature", "seed")
    assert "temperature" not in changed.body
    assert b"temperature" not in changed.data()
    assert request.without("seed") is request


def test_a_field_that_was_taken_out_can_come_back():
    request = chat_request(temperature=1).without("temperature").replace(temperature=0)
    assert request.body["temperature"] == 0


def test_a_body_cannot_be_changed_in_place():
    with pytest.raises(TypeError):
        chat_request().body["model"] = "other"  # type: ignore[index]


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"model":'])
def test_a_body_that_cannot_be_read_has_no_fields(data):
    received = Received(data, CIMultiDict())
    assert received.get("model") is None
    with pytest.raises(JSONError):
        received.body  # noqa: B018


def test_one_field_can_be_read_of_a_body_that_is_not_strict():
    received = Received(b'{"model":"a","model":"b"}', CIMultiDict())
    assert received.get("model") == "b"


@pytest.mark.parametrize("value", [None, 1, "yes", []])
def test_only_true_asks_for_a_stream(value):
    assert not chat_request(stream=value).stream
    assert chat_request(stream=True).stream


@pytest.mark.parametrize("value", [None, 5, ["x"]])
def test_odd_fields_read_as_nothing(value):
    request = chat_request(model=value, messages=5)
    assert request.model == ""
    assert request.messages == []


def test_the_texts_of_a_chunk_are_told_apart_by_choice():
    chunk = Chunk.of(
        {
            "choices": [
                {"index": 0, "delta": {"content": "a"}},
                {"index": 1, "delta": {"content": "b"}},
                {"index": 2, "delta": {"content": None}},
                {"index": 3, "delta": {}},
                {"index": 4},
                "odd",
            ]
        }
    )
    assert chunk.texts() == {0: "a", 1: "b"}


@pytest.mark.parametrize(
    "raw", [b"data: [1]\n\n", b"data: x\n\n", b": hi\n\n", b'data: {"choices":1}\n\n']
)
def test_an_event_that_is_no_chunk_has_no_texts(raw):
    chunk = Chunk(raw)
    assert chunk.texts() == {}
    assert chunk.map_text(str.upper) is chunk


def test_a_text_that_comes_back_as_it_was_changes_no_byte():
    chunk = Chunk(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
    assert chunk.map_text(str.lower) is chunk


def test_a_changed_chunk_keeps_the_other_lines_of_its_event():
    chunk = Chunk(b'id: 7\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\n')
    changed = chunk.map_text(str.upper)
    assert changed.raw == b'id: 7\ndata: {"choices":[{"delta":{"content":"A"}}]}\n\n'
    assert changed.texts() == {0: "A"}
