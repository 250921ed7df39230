"""What clients are told: the headers that OpenAI sends, and its error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from proxy.plugin import RateLimited

from .buckets import remaining

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .buckets import Decision
    from .demand import Demand, Unit

_PERIODS = {1: "s", 60: "min", 3_600: "hour", 86_400: "day"}


class TokensLimited(RateLimited):
    """As OpenAI has it, the type of the error is what there is too much of."""

    type: ClassVar[str] = "tokens"


def headers(decision: Decision) -> dict[str, str]:
    """`x-ratelimit-*`, each of the limit that comes first to its end."""
    pairs = list(zip(decision.demands, decision.levels, strict=True))
    found: dict[str, str] = {}
    for unit in ("requests", "tokens"):
        of_unit = [pair for pair in pairs if pair[0].unit == unit]
        if not of_unit:
            continue
        demand, level = min(of_unit, key=lambda pair: _slack(*pair))
        found[f"x-ratelimit-limit-{unit}"] = str(_amount(demand))
        found[f"x-ratelimit-remaining-{unit}"] = str(remaining(demand, level))
        found[f"x-ratelimit-reset-{unit}"] = duration(level / demand.rate / 1e6)
    return found


def refusal(decision: Decision, model: str) -> RateLimited:
    """The error for a request that a limit refused."""
    retry = decision.retry
    pairs = zip(decision.demands, decision.levels, strict=True)
    demand, level = next(pair for pair in pairs if pair[0] in decision.refusing)
    told = {
        **headers(decision),
        "retry-after": str(max(1, math.ceil(retry))),
        "retry-after-ms": str(max(1, math.ceil(retry * 1e3))),
    }
    text = (
        f"Rate limit reached for {model or 'this request'} on {_what(demand)}: "
        f"Limit {_amount(demand)}, Used {math.ceil(level)}, Requested {math.ceil(demand.need)}. "
        f"Please try again in {duration(retry)}."
    )
    kind = TokensLimited if demand.unit == "tokens" else RateLimited
    return kind(text, headers=told)


def crowded() -> RateLimited:
    """The error where too many wait already."""
    told = {"retry-after": "1", "retry-after-ms": "1000"}
    return RateLimited("Too many requests are waiting. Please try again in 1s.", headers=told)


def duration(seconds: float) -> str:
    """A time as OpenAI writes it: 6m0s, 1.5s, 20ms."""
    milliseconds = math.ceil(seconds * 1e3)
    if milliseconds < 1_000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1e3:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _slack(demand: Demand, level: float) -> tuple[bool, float]:
    """One that refuses comes first; else the one with the least left."""
    return level + demand.need <= demand.capacity, demand.capacity - level


def _amount(demand: Demand) -> int:
    amounts: dict[Unit, int | None] = {
        "requests": demand.limit.requests,
        "tokens": demand.limit.tokens,
        "concurrent": demand.limit.concurrent,
    }
    return amounts[demand.unit] or 0


def _what(demand: Demand) -> str:
    if demand.unit == "concurrent":
        return f"concurrent requests ({demand.limit.name})"
    period = _PERIODS.get(int(demand.limit.period), f"{demand.limit.period:g} s")
    return f"{demand.unit} per {period} ({demand.limit.name})"


def names(demands: Sequence[Demand]) -> str:
    """The limits by their names, for metrics and traces."""
    if not demands:
        return ""
    return ",".join(dict.fromkeys(demand.limit.name for demand in demands))
