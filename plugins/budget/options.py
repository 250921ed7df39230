"""The options of the plugin."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from proxy.plugin import Options, Seconds

Money = Annotated[Decimal, Field(ge=0)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}; one is Europe/Berlin") from None
    return name


Zone = Annotated[str, AfterValidator(_zone)]


class Price(Options):
    """US dollars for a million tokens of some models."""

    models: Annotated[tuple[str, ...], Field(min_length=1)]
    """Patterns of their names."""
    input: Money
    output: Money
    cached_input: Money | None = None
    """Absent: as other input."""


class Budget(Options):
    """What may be spent, and by whom."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    """What it is called in messages, headers and metrics."""
    per: Literal["caller", "global"] = "caller"
    """Each caller has one of his own; or all share one."""
    period: Literal["day", "month", "total"] = "month"
    usd: Annotated[Decimal, Field(gt=0)] | None = None
    """US dollars."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of prompts and answers."""
    soft: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The share from which on answers have a header that says so."""
    callers: tuple[str, ...] = ()
    """Patterns of those it holds for, by name, "group:" and group, or id; empty: all."""

    @model_validator(mode="after")
    def _limits_one_thing(self) -> Budget:
        if (self.usd is None) == (self.tokens is None):
            raise ValueError(f"the budget {self.name} should have either usd or tokens")
        return self


class BudgetOptions(Options):
    """Options of `budget`."""

    budgets: tuple[Budget, ...] = ()
    """Without any, usage is only recorded."""
    keep_usage: Seconds = 400 * 86_400
    """How long usage by caller, model and day is kept.  0: it is not recorded."""
    timezone: Zone = "UTC"
    """Where days and months begin."""
    timezones: Mapping[str, Zone] = {}
    """Where they begin for some callers, by patterns: { "team-asia-*" = "Asia/Shanghai" }."""
    prices: tuple[Price, ...] = ()
    """Instead of those that are known.  Models without any cost nothing, and are counted in
    dragoman_budget_unpriced_total."""

    @model_validator(mode="after")
    def _distinct(self) -> BudgetOptions:
        names = [budget.name for budget in self.budgets]
        if len(set(names)) < len(names):
            raise ValueError("two budgets have the same name")
        if not names and not self.keep_usage:
            raise ValueError("there is no budget, and no usage is kept: the plugin does nothing")
        return self
