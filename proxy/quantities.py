"""Durations, sizes and moments as people write them: "30 s", "20 MB", "2026-12-31"."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
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
        raise ValueError(f"should be a number, or a text such as {example!r}")  # noqa: TRY004  # pydantic wants a ValueError
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


def moment(value: Any) -> Any:
    """A point in time; of a day, its end.  Without a zone it is UTC."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        if value == date.max:  # what people write for never
            return datetime.max.replace(tzinfo=UTC)
        value = datetime.combine(value + timedelta(days=1), time())
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    raise ValueError("should be a day or a time, as in 2026-12-31")


def _parsed(text: str) -> date | None:
    for kind in (date, datetime):
        try:
            return kind.fromisoformat(text)
        except ValueError:
            continue
    return None


Seconds = Annotated[
    float,
    BeforeValidator(seconds, json_schema_input_type=float | str),
    Field(ge=0, allow_inf_nan=False),
]
"""A duration: seconds, or a string such as "250 ms", "30 s", "10 min"."""

Size = Annotated[int, BeforeValidator(size, json_schema_input_type=int | str), Field(ge=0)]
"""A size: bytes, or a string such as "20 MB" (10^6) or "20 MiB" (2^20)."""

Moment = Annotated[datetime, BeforeValidator(moment, json_schema_input_type=datetime | date)]
"""A point in time: a date, whose end it is, or a date with a time; in UTC unless it says more."""
