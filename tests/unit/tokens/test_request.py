from __future__ import annotations

import pytest

from proxy.tokens.request import Request, Unreadable, encoded


def test_a_request_is_split_into_raw_json() -> None:
    request = Request(b'{"model": "m", "messages": [ {"a": 1}, 2 ], "tools": [ ], "n": 1}')
    assert request.model == "m"
    assert [bytes(raw) for raw in request.messages] == [b'{"a": 1}', b"2"]
    assert request.has_settings
    assert request.decoded_settings() == {"tools": []}


def test_what_is_missing_is_empty() -> None:
    request = Request(b"{}")
    assert request.model == ""
    assert request.messages == []
    assert not request.has_settings
    assert request.decoded_settings() == {}


def test_a_model_that_is_no_name_is_none() -> None:
    assert Request(b'{"model": 7}').model == ""


def test_a_lone_surrogate_does_not_hinder() -> None:
    assert bytes(Request(b'{"messages": ["\\ud800"]}').messages[0]) == b'"\\ufffd"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"messages": 7}',
        b'{"messages": null}',
        b'{"messages": [' + b"[" * 100_000,
        b'{"messages": ["' + b"\\ud800" * 100_000 + b'"]}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_request_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        Request(body)


def test_a_decoded_body_becomes_bytes() -> None:
    assert encoded({"a": ["é", 1.5, None]}) == '{"a":["é",1.5,null]}'.encode()
    assert encoded({"a": "\ud800"}) == b'{"a": "\\ud800"}'


def test_what_never_was_json_is_unreadable() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for body in ({"a": object()}, {"a": deep}, {"a": "\ud800", "b": {1, 2}}):
        with pytest.raises(Unreadable):
            encoded(body)
