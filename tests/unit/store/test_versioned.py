"""Values with a version."""

from __future__ import annotations

import pytest

from proxy.plugin import Versioned


def test_it_reads_what_it_wrote():
    fields = {"text": "é", "numbers": [1, 2.5, None], "nothing": {}}
    assert Versioned(3).decode(Versioned(3).encode(fields)) == fields


def test_the_version_is_its_own():
    assert Versioned(3).decode(Versioned(3).encode({"v": 9, "a": 1})) == {"a": 1}


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"[]", b"1", b'{"a": 1}', b'{"v": 2}', b'{"v": "3"}', b"\xff", b'{"v": 3}x'],
)
def test_anything_else_reads_as_nothing(value):
    assert Versioned(3).decode(value) is None
