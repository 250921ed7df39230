"""The day or month that it is for a caller, and how long that lasts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from datetime import tzinfo


class Period(NamedTuple):
    """`name` is its own among all of its kind; `seconds` are left of it, None if it does not end."""

    name: str
    seconds: int | None


def period_at(now: datetime, kind: Literal["day", "month", "total"]) -> Period:
    """The period at a time with its zone.  Days have 23 to 25 hours."""
    if kind == "total":
        return Period("total", None)
    first = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if kind == "day":
        following = _midnight(first.date() + timedelta(days=1), now)
        return Period(f"{now:%Y-%m-%d}", _until(following, now))
    month = first.date().replace(day=28) + timedelta(days=4)
    return Period(f"{now:%Y-%m}", _until(_midnight(month.replace(day=1), now), now))


def current(zone: tzinfo) -> datetime:
    return datetime.now(zone)


def _midnight(day: object, now: datetime) -> datetime:
    return datetime.fromisoformat(f"{day}").replace(tzinfo=now.tzinfo)


def _until(end: datetime, now: datetime) -> int:
    return max(1, int(end.timestamp() - now.timestamp()))
