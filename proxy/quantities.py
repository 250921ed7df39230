"""Durations and sizes as people write them in a configuration: "30 s", "20 MB"."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_SECONDS = {"ms": 0.001, "s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400}
_BYTES = {
    "b": 1,
    "kb": 1_000,
    "mb": 1_000_000,
    "gb": 1_000_000_000,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}


def _quantity(value: Any, units: dict[str, float], example: str) -> Any:
    """A number as it is; a string as a number of the smallest unit.  ValueError otherwise."""
    if isinstance(value, bool):
        raise ValueError(f"should be a number, or a text such as {example!r}")  # noqa: TRY004
    if not isinstance(value, str):
        return value
    match = _QUANTITY.fullmatch(value)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"write a number and a unit ({', '.join(units)}), such as {example!r}")
    return float(match[1]) * units[match[2].lower()]


def seconds(value: Any) -> Any:
    return _quantity(value, dict(_SECONDS), "30 s")


def size(value: Any) -> Any:
    amount = _quantity(value, dict(_BYTES), "20 MB")
    return int(amount) if isinstance(amount, float) else amount


Seconds = Annotated[
    float,
    BeforeValidator(seconds, json_schema_input_type=float | str),
    Field(ge=0, allow_inf_nan=False),
]
"""A duration: seconds, or a string such as "250 ms", "30 s", "10 min"."""

Size = Annotated[int, BeforeValidator(size, json_schema_input_type=int | str), Field(ge=0)]
"""A size: bytes, or a string such as "20 MB" (10^6) or "20 MiB" (2^20)."""
