"""What tuning a temperature from feedback wins and loses, against each fixed one.

The choice and the sums are those of the plugin; the clients are drawn at random.  An answer is liked
with a probability that depends on its temperature, and in one of the curves on the time; a share of
the clients says so, with a thumb, after a while; what is known is read every few requests, as from
Redis.  Regret is what a setting that is used for all requests would have been liked more, in answers
of 1,000, on average over the runs; a negative one is a gain.

python -m benchmarks.feedback [--plot FILE.svg]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from plugins.sampling.choice import View
from plugins.sampling.options import Tune
from plugins.sampling.tallies import LocalShelf, Tallies, fading
from plugins.sampling.trials import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Curve: TypeAlias = Callable[[float], Sequence[float]]

TEMPERATURES = (0.0, 0.3, 0.6, 0.9)
REQUESTS, RUNS = 10_000, 10
REFRESH = 20
"""Requests between two looks at what is known."""
DELAY = 20
"""Requests until the feedback on an answer comes."""
RATES = (0.05, 0.2, 0.5, 1.0)
HALF_LIVES = (200, 1_000, 5_000, 0)

FALLING = (0.8, 0.65, 0.55, 0.45)
CURVES: dict[str, Curve] = {
    "flat": lambda _: (0.7, 0.7, 0.7, 0.7),
    "gentle": lambda _: (0.66, 0.70, 0.68, 0.62),
    "peaked": lambda _: (0.55, 0.80, 0.65, 0.45),
    "drifting": lambda time: [a + (b - a) * time for a, b in zip(FALLING, FALLING[::-1])],  # noqa: B905
}
"""How probably an answer is liked at each temperature, by the time from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of so many requests."""

    chosen: Sequence[int]
    """The place of the temperature of each request."""
    regret: Sequence[float]
    """Against the fixed setting that is the best one for the whole run, summed up."""
    against: Sequence[float]
    """Against each fixed setting."""


def run(
    curve: Curve,
    rate: float,
    seed: int,
    *,
    requests: int = REQUESTS,
    tune: Tune | None = None,
    is_blind: bool = False,
) -> Run:
    """So many requests; all temperatures are drawn alike if it is blind."""
    tune = tune or Tune(temperature=TEMPERATURES)
    return asyncio.run(_run(curve, rate, Random(seed), requests, tune, is_blind=is_blind))


async def _run(
    curve: Curve, rate: float, draw: Random, requests: int, tune: Tune, *, is_blind: bool
) -> Run:
    shelf, fade, view = LocalShelf(86_400), fading(tune.half_life), View.of(tune, Tallies())
    means = [statistics.fmean(each) for each in zip(*map(curve, _times()), strict=True)]
    best = means.index(max(means))
    under_way: deque[tuple[int, Trial, float]] = deque()
    places = {temperature: place for place, temperature in enumerate(tune.temperature)}
    chosen, regret, liked, fixed = [], [0.0], 0.0, [0.0] * len(means)
    for number in range(requests):
        if number % REFRESH == 0:
            view = View.of(tune, *await shelf.sync(["s"], None))
        wanted = draw.choice(tune.temperature) if is_blind else view.choose(tune, draw)
        assert wanted is not None
        place, chances = places[wanted], curve(number / requests)
        chosen.append(place)
        liked += chances[place]
        fixed = [sum_ + chance for sum_, chance in zip(fixed, chances, strict=True)]
        regret.append(fixed[best] - liked)
        if draw.random() < rate:
            share = float(draw.random() < chances[place])
            under_way.append((number + DELAY, Trial("s", wanted, "", str(number)), share))
        while under_way and under_way[0][0] <= number:
            _, trial, share = under_way.popleft()
            await shelf.learn(trial, share, fade)
    return Run(chosen, regret, [sum_ - liked for sum_ in fixed])


def _times() -> list[float]:
    return [number / 100 for number in range(100)]


def per_thousand(values: Sequence[float], requests: int = REQUESTS) -> str:
    return f"{1_000 * statistics.fmean(values) / requests:+.1f}"


def table(runs: int = RUNS) -> list[list[str]]:
    """Regret by curve and share of feedback, against each fixed setting and the best of them."""
    rows = []
    for name, curve in CURVES.items():
        blind = [run(curve, 0, seed, is_blind=True).regret[-1] for seed in range(runs)]
        for rate in RATES:
            found = [run(curve, rate, seed) for seed in range(runs)]
            against = zip(*(each.against for each in found), strict=True)
            regrets = [each.regret[-1] for each in found]
            cells = [per_thousand(values) for values in against]
            best = [per_thousand(regrets), per_thousand([max(regrets)]), per_thousand(blind)]
            rows.append([name, f"{rate:.0%}", *cells, *best])
    return rows


def half_lives(rate: float, runs: int = RUNS) -> list[list[str]]:
    """Regret against the best fixed setting by curve and half-life."""
    rows = []
    for half_life in HALF_LIVES:
        tune = Tune(temperature=TEMPERATURES, half_life=half_life)
        cells = []
        for curve in CURVES.values():
            found = [run(curve, rate, seed, tune=tune).regret[-1] for seed in range(runs)]
            cells.append(per_thousand(found))
        rows.append([f"{half_life:,}" if half_life else "for ever", *cells])
    return rows


def plot(file: Path, runs: int = RUNS) -> None:
    """The regret against the best fixed setting as requests come, for each curve."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Okabe and Ito's colours, which everybody can tell apart: https://jfly.uni-koeln.de/color/
    colours = dict(zip(RATES, ("#E69F00", "#009E73", "#56B4E9", "#0072B2"), strict=True))
    with mpl.rc_context({"svg.hashsalt": "dragoman", "font.size": 9}):
        figure = Figure(figsize=(9, 6), layout="constrained")
        for axes, (name, curve) in zip(figure.subplots(2, 2).flat, CURVES.items(), strict=True):
            blind = [run(curve, 0, seed, is_blind=True).regret for seed in range(runs)]
            axes.plot(*_mean(blind), color="#777777", linestyle="--", label="drawn at random")
            for rate in RATES:
                found = [run(curve, rate, seed).regret for seed in range(runs)]
                axes.plot(*_mean(found), color=colours[rate], label=f"feedback on {rate:.0%}")
            axes.axhline(0, color="black", linewidth=0.8, label="the best fixed temperature")
            axes.set(title=name, xlabel="requests", ylabel="answers liked less")
            axes.grid(color="#dddddd")
            axes.spines[["top", "right"]].set_visible(False)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(file, metadata={"Date": None})


def _mean(regrets: Sequence[Sequence[float]]) -> tuple[list[int], list[float]]:
    steps = range(0, len(regrets[0]), 100)
    return list(steps), [statistics.fmean(each[step] for each in regrets) for step in steps]


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
    for cells in rows:
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feedback", description=__doc__)
    parser.add_argument("--plot", type=Path, help="draw regret by requests; needs matplotlib")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each curve and rate")
    options = parser.parse_args()
    print(f"{REQUESTS:,} requests, {options.runs} runs: regret of 1,000 requests against\n")
    settings = [str(each) for each in TEMPERATURES]
    head = ["curve", "feedback", *settings, "the best", "worst run", "random: the best"]
    show(head, table(options.runs))
    for rate in (0.2, 1.0):
        print(f"\nby half-life, feedback on {rate:.0%}, against the best fixed setting\n")
        show(["half-life", *CURVES], half_lives(rate, options.runs))
    if options.plot:
        plot(options.plot, options.runs)


if __name__ == "__main__":
    main()
