from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tokens.lenient import decode, mapping, mappings, mended, text


def test_what_is_of_the_kind_asked_for_is_found() -> None:
    source = {"text": "a", "mapping": {"b": 1}, "mappings": [{}, 1, {"c": 2}]}
    assert text(source, "text") == "a"
    assert mapping(source, "mapping") == {"b": 1}
    assert mappings(source, "mappings") == [{}, {"c": 2}]


@pytest.mark.parametrize("value", [None, 1, 1.5, True, (), "", [], {}])
def test_what_is_not_counts_as_missing(value: object) -> None:
    assert text({"a": value}, "a") == ""
    assert mapping({"a": value}, "a") == {}
    assert mappings({"a": value}, "a") == []


@given(st.text(st.characters() | st.sampled_from('\ud800\udc00\udfff\\u"\n')))
def test_lone_surrogates_are_mended_and_nothing_else(words: str) -> None:
    well_formed = words.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert msgspec.json.decode(mended(json.dumps(words).encode())) == well_formed


def raw(data: bytes) -> msgspec.Raw:
    return msgspec.json.decode(data, type=msgspec.Raw)


def test_large_texts_are_decoded() -> None:
    assert decode(raw(b'"' + b"a" * 2_000_000 + b'"')) == "a" * 2_000_000
    assert decode(raw(b'"' + b"\\n" * 1_000_000 + b'"')) == "\n" * 1_000_000


@pytest.mark.parametrize(
    "heavy", [b'"' + b"\\n" * 3_000_000 + b'"', b"[" + b"1," * 600_000 + b"1]"]
)
def test_what_takes_too_long_to_decode_is_refused(heavy: bytes) -> None:
    with pytest.raises(ValueError, match="too long"):
        decode(raw(heavy))
