"""The tables: medians over the rounds, and ratios to the bare proxy of the same round."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from .targets import ALL_TRACED, BARE, COUNTED, DIRECT, OURS, TARGETS, TRACED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from .targets import Target

    Rows: TypeAlias = list[dict[str, Any]]
    Cell: TypeAlias = Callable[[Target], str]
    Column: TypeAlias = tuple[str, Cell]

MB = 1e6


class Results:
    """The rows of all rounds, by measure and target."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def values(self, measure: str, target: Target, name: str) -> dict[str, float]:
        """A number by the round, or half of a round, that it is from."""
        return {
            row["round"]: row[name]
            for row in self.rows
            if row["measure"] == measure and row["target"] == target.name and name in row
        }

    def ratios(self, measure: str, target: Target, name: str = "cpu_ms") -> list[float]:
        """The number as a multiple of the bare proxy's, round by round."""
        bare = self.values(measure, BARE, name)
        own = self.values(measure, target, name)
        return [value / bare[number] for number, value in own.items() if bare.get(number)]

    def added(self, measure: str, target: Target, name: str) -> list[float]:
        """What a proxy adds to the number without one, round by round."""
        direct = self.values(measure, DIRECT, name)
        own = self.values(measure, target, name)
        return [value - direct[number] for number, value in own.items() if number in direct]

    def others(self) -> list[float]:
        return [row["others"] for row in self.rows if "others" in row]


def limits(results: Results) -> list[tuple[str, str, float, list[float]]]:
    """What the project promises: a text, a form, the limit, and the values of all rounds."""
    times, kib, seconds, mb = "{:.2f}x", "{:.1f} KiB", "{:.2f} s", "{:.0f} MB"

    def numbers(measure: str, target: Target, name: str, unit: float = 1.0) -> list[float]:
        return [value / unit for value in results.values(measure, target, name).values()]

    ratios = results.ratios
    return [
        ("CPU, small body, no plugins", times, 1.4, ratios("small", OURS)),
        ("CPU, small body, sampling, 10 % of traces", times, 1.7, ratios("small", TRACED)),
        ("CPU, small body, sampling, every trace", times, 2.4, ratios("small", ALL_TRACED)),
        ("CPU, 32k-token body, counted, warm", times, 1.5, ratios("32k", COUNTED)),
        ("CPU, stream, one chunk at a time", times, 1.2, ratios("paced", OURS)),
        ("memory of an open stream, of 1,000", kib, 30, numbers("held", OURS, "kib")),
        ("start-up to the first answer", seconds, 1.5, numbers("start", OURS, "seconds")),
        ("memory before the first count", mb, 90, numbers("start", OURS, "rss", MB)),
        ("memory with both vocabularies", mb, 150, numbers("count", COUNTED, "rss_both", MB)),
    ]


def against_the_limits(results: Results, installed: dict[str, float]) -> str:
    lines = ["| | limit | measured | all rounds | |", "|---|---:|---:|---:|---|"]
    rows = limits(results)
    if installed:
        rows.append(("installed packages", "{:.0f}", 50, [installed["packages"]]))
        rows.append(("installed size", "{:.0f} MiB", 120, [installed["mib"]]))
    for text, form, limit, values in rows:
        if values:
            median = statistics.median(values)
            spread = f"{form.format(min(values))} to {form.format(max(values))}"
            verdict = "holds" if median <= limit else "**does not hold**"
            shown = f"≤ {form.format(limit)} | {form.format(median)} | {spread} | {verdict}"
            lines.append(f"| {text} | {shown} |")
    return "\n".join(lines)


def table(targets: Iterable[Target], columns: Iterable[Column]) -> str:
    """A table of the targets and columns of which something is known; empty if nothing is."""
    kept = [(head, cell) for head, cell in columns if any(map(cell, TARGETS))]
    lines = [f"| | {' | '.join(head for head, _ in kept)} |", "|---" + "|---:" * len(kept) + "|"]
    for target in targets:
        cells = [cell(target) for _, cell in kept]
        if any(cells):
            lines.append(f"| {target.title} | {' | '.join(cell or '-' for cell in cells)} |")
    return "\n".join(lines) if kept else ""


def cpu_tables(results: Results) -> list[tuple[str, str]]:
    def with_ratio(measure: str) -> Cell:
        def cell(target: Target) -> str:
            values = results.values(measure, target, "cpu_ms").values()
            ratios = results.ratios(measure, target)
            if target is DIRECT or not values:
                return ""
            shown = f"{statistics.median(values) * 1e3:,.1f}"
            return shown + (f" ({statistics.median(ratios):.2f}x)" if ratios else "")

        return cell

    def traced(target: Target) -> str:
        values = results.values("small", target, "traced").values()
        return f"{statistics.median(values):.1%}" if values else ""

    return [
        (
            "CPU of 1,000 requests, ms, and as a multiple of the bare proxy's",
            table(
                TARGETS,
                [
                    ("small body", with_ratio("small")),
                    ("8k tokens", with_ratio("8k")),
                    ("32k tokens", with_ratio("32k")),
                    ("traces received", traced),
                ],
            ),
        ),
        (
            "CPU of 1,000 chunks of streams, ms, and as a multiple of the bare proxy's",
            table(
                TARGETS,
                [
                    ("one at a time", with_ratio("paced")),
                    ("the same, usage not asked for", with_ratio("paced, unasked")),
                    ("all at once", with_ratio("burst")),
                ],
            ),
        ),
    ]


def time_and_memory_tables(results: Results) -> list[tuple[str, str]]:
    def added(measure: str, name: str) -> Cell:
        def cell(target: Target) -> str:
            values = results.added(measure, target, name)
            return f"{statistics.median(values):.2f}" if values and target is not DIRECT else ""

        return cell

    def number(measure: str, name: str, form: str = "{:.0f}", unit: float = 1.0) -> Cell:
        def cell(target: Target) -> str:
            values = results.values(measure, target, name).values()
            return form.format(statistics.median(values) / unit) if values else ""

        return cell

    return [
        (
            "Latency added to that of no proxy, ms",
            table(
                TARGETS,
                [
                    ("p50, 1 connection", added("alone", "p50_ms")),
                    ("p99", added("alone", "p99_ms")),
                    ("p50, 16 at full load", added("small", "p50_ms")),
                    ("p99", added("small", "p99_ms")),
                    ("p50 of the first chunk", added("first chunk", "p50_ms")),
                ],
            ),
        ),
        (
            "Start-up and memory",
            table(
                TARGETS,
                [
                    ("start-up, s", number("start", "seconds", "{:.2f}")),
                    ("RSS idle, MB", number("start", "rss", unit=MB)),
                    ("one vocabulary", number("count", "rss_one", unit=MB)),
                    ("both", number("count", "rss_both", unit=MB)),
                    ("1,000 open streams", number("held", "rss", unit=MB)),
                    ("KiB each", number("held", "kib", "{:.1f}")),
                    ("held at once", number("held", "held")),
                    ("after all load", number("end", "rss", unit=MB)),
                ],
            ),
        ),
    ]


def trust(results: Results) -> str:
    """How busy the machine was with other things: what a reader may believe."""
    others = results.others() or [0.0]
    text = (
        f"Others, and the kernel for them, took {statistics.median(others):.0%} of the proxies' "
        f"core (median of {len(others)} measures; at worst {max(others):.0%})"
    )
    if bare := results.values("small", BARE, "cpu_ms").values():
        text += (
            f".  The same small request cost the bare proxy {min(bare):.2f} to {max(bare):.2f} ms: "
            "so much did the core's own speed vary"
        )
    return text + ".  Trust ratios before times, and CPU before latency."


def markdown(record: dict[str, Any]) -> str:
    results, options, wrong = Results(record["rows"]), record["options"], record["wrong"]
    parts = [
        "# Benchmark",
        record["machine"],
        f"Medians of {options['rounds']} rounds, {options['seconds']} s for a measure.  "
        + trust(results),
        f"{record['answers']:,} answers were compared with what the upstream sent, byte for byte: "
        + (f"**{sum(wrong.values()):,} were wrong**." if wrong else "none was wrong."),
        "\n".join(f"- {times} times {what}" for what, times in wrong.items()),
    ]
    sections = [("Against the limits", against_the_limits(results, record["installed"]))]
    for title, text in (*sections, *cpu_tables(results), *time_and_memory_tables(results)):
        parts += [f"## {title}", text] if text else []
    return "\n\n".join(part for part in parts if part) + "\n"
