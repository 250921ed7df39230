from __future__ import annotations

from proxy.tokens.count import Doubt


def test_a_doubt_has_a_name() -> None:
    assert [doubt.exactness for doubt in Doubt] == ["exact", "near", "estimated"]


def test_the_greater_doubt_prevails() -> None:
    assert max(Doubt.NONE, Doubt.GREAT, Doubt.LITTLE) is Doubt.GREAT
