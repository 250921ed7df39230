"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from proxy.quantities import Seconds, Size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250 ms", 0.25),
        ("30s", 30),
        ("1.5 min", 90),
        ("2 h", 7200),
        (5, 5),
        (0.5, 0.5),
        ("1 D", 86400),
    ],
)
def test_a_duration_is_read_in_seconds(written, seconds):
    assert TypeAdapter(Seconds).validate_python(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("written", "size"), [("20 MB", 20_000_000), ("64KiB", 65_536), ("1 gb", 10**9), (7, 7)]
)
def test_a_size_is_read_in_bytes(written, size):
    assert TypeAdapter(Size).validate_python(written) == size


@pytest.mark.parametrize("written", ["", "30", "s", "30 parsec", "-5 s", "1 2 s", -1])
@pytest.mark.parametrize("kind", [Seconds, Size])
def test_what_is_no_quantity_is_refused(kind, written):
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(written)


@pytest.mark.parametrize(("kind", "written"), [(Seconds, "5 MB"), (Size, "5 s")])
def test_units_are_not_mixed_up(kind, written):
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(written)
