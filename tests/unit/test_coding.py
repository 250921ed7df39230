"""Content codings."""

from __future__ import annotations

import gzip
import zlib

import pytest

from proxy.coding import acceptable, reader
from proxy.errors import UpstreamInvalid


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("GZIP", gzip.compress),
    ],
)
def test_a_compressed_body_is_read_piece_by_piece(coding, encode):
    data, decode = encode(b"hello " * 100), reader(coding)
    assert decode is not None
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)]
    assert b"".join(map(decode, pieces)) == b"hello " * 100


@pytest.mark.parametrize("coding", ["", "identity"])
def test_a_plain_body_is_itself(coding):
    decode = reader(coding)
    assert decode is not None
    assert decode(b"x") == b"x"


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br"])
def test_a_coding_that_cannot_be_read_has_no_reader(coding):
    assert reader(coding) is None


def test_bytes_that_are_not_what_the_header_says_are_the_upstreams_fault():
    decode = reader("gzip")
    assert decode is not None
    with pytest.raises(UpstreamInvalid):
        decode(b"not gzip at all")


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_gzip_of_several_members_is_one_body(size):
    decode = reader("gzip")
    assert decode is not None
    data = gzip.compress(b"one ") + gzip.compress(b"two") + b"\0\0"
    parts = (data[at : at + size] for at in range(0, len(data), size))
    assert b"".join(map(decode, parts)) == b"one two"


@pytest.mark.parametrize(
    ("offered", "asked"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br;q=1.0, gzip;q=0.5", "gzip;q=0.5"),
        ("br", "identity"),
        ("", "identity"),
    ],
)
def test_the_upstream_is_asked_only_for_codings_that_can_be_read(offered, asked):
    assert acceptable(offered) == asked
