"""Traditional and simplified Chinese."""

from __future__ import annotations

import pytest

from proxy.chinese import is_traditional, simplified


@pytest.mark.parametrize(
    ("text", "expected"),
    [("請問退款", "请问退款"), ("请问", "请问"), ("a臺b", "a台b"), ("plain", "plain")],
)
def test_a_text_in_simplified_characters_is_as_long_as_it_was(text, expected):
    assert simplified(text) == expected
    assert is_traditional(text) is (text != expected)
