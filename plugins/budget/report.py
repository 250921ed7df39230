"""What was used, as operators ask for it: from a day to a day, by caller, model or day."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from .days import Amounts, Row

BY = ("caller", "model", "day")

COLUMNS = {
    "requests": "requests",
    "local": "local",
    "estimated": "estimated",
    "unpriced": "unpriced",
    "prompt_tokens": "prompt",
    "cached_tokens": "cached",
    "completion_tokens": "completion",
    "reasoning_tokens": "reasoning",
}
"""What a report shows, by what it is called in the store; then money."""

NANO = 1_000_000_000

DAYS = 30
"""Days that a report goes back unless it is told from when."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for.  Both days are part of it."""

    since: date
    until: date
    by: tuple[str, ...]

    @classmethod
    def read(cls, given: Mapping[str, str], today: date, keep: float) -> Query:
        """`from`, `to` and `by`, each of them optional.  ValueError says what is wrong.

        `today` is UTC's: somewhere it is tomorrow.
        """
        last = today + timedelta(days=1)
        first = today - timedelta(seconds=keep) - timedelta(days=1)
        until = _date("to", given.get("to"), last)
        since = _date("from", given.get("from"), min(until, today) - timedelta(days=DAYS - 1))
        if since > until:
            raise ValueError(f"from {since} to {until} is no time")
        by = tuple(
            each.strip() for each in given.get("by", ",".join(BY)).split(",") if each.strip()
        )
        if unknown := [each for each in by if each not in BY]:
            raise ValueError(f"by should be some of {', '.join(BY)}, not {unknown[0]!r}")
        return cls(max(since, first), min(until, last), tuple(dict.fromkeys(by)))

    @property
    def days(self) -> list[str]:
        number = (self.until - self.since).days + 1
        return [str(self.since + timedelta(days=day)) for day in range(number)]


def _date(name: str, text: str | None, default: date) -> date:
    if not text:
        return default
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} should be a day such as 2026-11-22, not {text!r}") from None


@dataclass(frozen=True, slots=True)
class Report:
    """Amounts by what was asked for, in order."""

    query: Query
    rows: Sequence[tuple[tuple[str, ...], Amounts]]

    @classmethod
    async def of(
        cls, query: Query, read: Callable[[str], Awaitable[Mapping[Row, Amounts]]]
    ) -> Report:
        """Read the days and add them up."""
        found: defaultdict[tuple[str, ...], Amounts] = defaultdict(Counter)
        for day in query.days:
            for row, amounts in (await read(day)).items():
                names = {"caller": row.caller, "model": row.model, "day": day}
                found[tuple(names[each] for each in query.by)].update(amounts)
        return cls(query, sorted(found.items()))

    @property
    def total(self) -> Amounts:
        total: Amounts = Counter()
        for _, amounts in self.rows:
            total.update(amounts)
        return total

    def document(self) -> dict[str, Any]:
        """For JSON.  Dollars have all their digits below nine millions."""
        return {
            "from": str(self.query.since),
            "to": str(self.query.until),
            "by": list(self.query.by),
            "rows": [
                {**dict(zip(self.query.by, names, strict=True)), **_shown(amounts)}
                for names, amounts in self.rows
            ],
            "total": _shown(self.total),
        }

    def csv(self) -> str:
        """One line for each row.  No spreadsheet takes a name in it for a formula."""
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*self.query.by, *COLUMNS, "usd"])
        for names, amounts in self.rows:
            writer.writerow([*map(_harmless, names), *_cells(amounts)])
        return text.getvalue()

    def table(self) -> Iterator[str]:
        """For a terminal, with a line for the sum."""
        heads = [*self.query.by, *(name.removesuffix("_tokens") for name in COLUMNS), "usd"]
        lines = [
            heads,
            *([*map(_printable, names), *_cells(amounts)] for names, amounts in self.rows),
        ]
        if self.query.by:
            lines.append(["total", *[""] * (len(self.query.by) - 1), *_cells(self.total)])
        elif not self.rows:
            lines.append(_cells(self.total))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        names = len(self.query.by)
        for line in lines:
            cells = [
                cell.ljust(width) if at < names else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            yield "  ".join(cells).rstrip()


def _shown(amounts: Amounts) -> dict[str, Any]:
    counts = {name: amounts[kept] for name, kept in COLUMNS.items()}
    return {**counts, "usd": amounts["nano"] / NANO}


def _cells(amounts: Amounts) -> list[str]:
    dollars, nano = divmod(amounts["nano"], NANO)
    return [*(str(amounts[kept]) for kept in COLUMNS.values()), f"{dollars}.{nano:09d}"]


def _harmless(text: str) -> str:
    """https://owasp.org/www-community/attacks/CSV_Injection"""
    text = _printable(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _printable(text: str) -> str:
    """Without line breaks, and what a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in text)
