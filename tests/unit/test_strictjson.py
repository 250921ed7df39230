"""Strict JSON, and edits that leave all other bytes alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import strictjson
from proxy.strictjson import JSONError

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["model", "messages", "temperature", 'a"b', "é\\", "{", ""])
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5)
STYLES = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def surrogate_free(text: str) -> bool:
    return not any(0xD800 <= ord(c) < 0xE000 for c in text)


@given(OBJECTS, STYLES, st.dictionaries(NAMES, st.none() | st.integers(), max_size=3))
def test_a_splice_changes_the_named_fields_and_nothing_else(value, style, changes):
    text = json.dumps(value, **style)
    edits = {k: None if v is None else str(v).encode() for k, v in changes.items()}
    spliced = strictjson.splice(f" {text}\n".encode(), edits)
    expected = {k: v for k, v in (value | changes).items() if changes.get(k, 0) is not None}
    assert json.loads(spliced) == expected


@given(OBJECTS, STYLES)
def test_a_splice_of_nothing_is_the_identity(value, style):
    data = json.dumps(value, **style).encode()
    assert strictjson.splice(data, {}) == data


def test_untouched_fields_keep_their_bytes():
    body = b'{ "seed" : 12345678901234567890 , "temperature": 1.0,"model" : "\\u0041" , "x":[ ] }'
    changed = strictjson.splice(body, {"temperature": b"0.5", "user": b'"me"'})
    assert changed == (
        b'{ "seed" : 12345678901234567890 , "temperature": 0.5,'
        b'"model" : "\\u0041" , "x":[ ] ,"user":"me"}'
    )


@pytest.mark.parametrize(
    "body",
    [b'{"a":1,"a":2}', b'{"a":1,"b":2,"a":3}', b'{"a":1,"a":2,"b":3}', b'{"a":1,"\\u0061":2}'],
)
def test_duplicate_names_are_refused_by_both(body):
    with pytest.raises(JSONError):
        strictjson.decode_object(body)
    with pytest.raises(JSONError):
        strictjson.splice(body, {"b": b"0"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"{}"',
        b"{}x",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":01}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b'{"a":"\n"}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
        b"{'a':1}",
        b'{"a":1,}',
    ],
)
def test_what_is_not_strict_json_is_refused(body):
    with pytest.raises(JSONError):
        strictjson.decode_object(body)


def test_a_refusal_quotes_nothing_of_the_body():
    with pytest.raises(JSONError) as error:
        strictjson.decode_object(b'{"sk-SECRET":1,"sk-SECRET":2}')
    assert "SECRET" not in str(error.value)


def test_a_body_of_millions_of_values_is_refused_before_it_is_decoded():
    with pytest.raises(JSONError, match="more than"):
        strictjson.decode_object(b'{"a":[' + b"[]," * 2_000_000 + b"[]]}")


def test_a_long_text_is_not_mistaken_for_many_values():
    body = json.dumps({"a": "word, " * 300_000}).encode()
    assert strictjson.decode_object(body)["a"].startswith("word, ")


def test_numbers_that_json_cannot_write_are_not_written_as_null():
    value = strictjson.decode_object(b'{"a":{"b":[1e400]}}')
    with pytest.raises(JSONError):
        strictjson.encode(value)


@given(st.text().filter(surrogate_free))
def test_encoded_text_reads_back(text):
    assert json.loads(strictjson.encode({"text": text})) == {"text": text}
