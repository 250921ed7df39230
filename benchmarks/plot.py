"""The plot: CPU of ours as a multiple of the bare proxy's, and the limits drawn as marks."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from .targets import ALL_TRACED, COUNTED, OURS, SAMPLED, TRACED

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from .report import Results
    from .targets import Target

# Okabe and Ito's colours, which everybody can tell apart: https://jfly.uni-koeln.de/color/
COLOURS = {
    OURS: ("no plugins", "#0072B2"),
    SAMPLED: ("sampling", "#56B4E9"),
    TRACED: ("sampling, 10 % of traces", "#009E73"),
    ALL_TRACED: ("sampling, every trace", "#E69F00"),
    COUNTED: ("every prompt counted", "#CC79A7"),
}
MEASURES = {
    "small": "small body",
    "8k": "8k tokens",
    "32k": "32k tokens",
    "paced": "stream,\none chunk\nat a time",
    "burst": "stream,\nall chunks\nat once",
}
LIMITS = {
    ("small", OURS): 1.4,
    ("small", TRACED): 1.7,
    ("small", ALL_TRACED): 2.4,
    ("32k", COUNTED): 1.5,
    ("paced", OURS): 1.2,
}


def bars(results: Results) -> list[tuple[float, str, Target, list[float]]]:
    """Each bar's place on the axis, its measure, target, and ratios of all rounds."""
    found = []
    place = 0.0
    for measure in MEASURES:
        known = [(target, results.ratios(measure, target)) for target in COLOURS]
        for target, ratios in known:
            if ratios:
                found.append((place, measure, target, ratios))
                place += 1
        place += 1.2 * any(ratios for _, ratios in known)
    return found


def draw(results: Results, machine: str, folder: Path) -> None:
    """Write cpu.png and cpu.svg."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "dragoman", "font.size": 10, "axes.axisbelow": True}):
        figure = Figure(figsize=(11, 5.2), facecolor="white", layout="constrained")
        _fill(figure.subplots(), bars(results))
        figure.legend(loc="outside right upper", frameon=False)
        figure.supxlabel(machine, fontsize=7, color="#555555")
        figure.savefig(folder / "cpu.png", dpi=150)
        figure.savefig(folder / "cpu.svg", metadata={"Date": None})


def _fill(axes: Axes, found: list[tuple[float, str, Target, list[float]]]) -> None:
    named = set()
    for place, measure, target, ratios in found:
        label, colour = COLOURS[target]
        middle, high = statistics.median(ratios), max(ratios)
        axes.bar(place, middle, 0.86, color=colour, label=None if target in named else label)
        named.add(target)
        axes.vlines(place, min(ratios), high, color="#333333", linewidth=1)
        axes.text(place, high + 0.03, f"{middle:.2f}", ha="center", va="bottom", fontsize=9)
        if limit := LIMITS.get((measure, target)):
            axes.hlines(limit, place - 0.46, place + 0.46, color="black", linewidth=2.5)
    axes.axhline(1, color="#555555", linewidth=1, linestyle="--", label="bare aiohttp proxy")
    axes.plot([], [], color="black", linewidth=2.5, label="our limit")
    places = {
        measure: [place for place, name, *_ in found if name == measure] for measure in MEASURES
    }
    shown = {measure: statistics.mean(those) for measure, those in places.items() if those}
    axes.set_xticks(list(shown.values()), [MEASURES[measure] for measure in shown])
    axes.set_ylabel("CPU, as a multiple of the bare proxy's")
    axes.set_title("CPU of a request, and of a stream's chunk: medians, lines from best to worst")
    axes.grid(axis="y", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
