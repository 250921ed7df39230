"""What a long chat costs under each policy, with the upstream's prompt cache taken into account.

The cuts are those of the plugin; the chats are drawn at random.  A prompt is billed as providers
do: what it has in common with the prompt before, from its first token on, at the cached price, the
rest in full, or at 1.25 of it where writing to the cache costs extra.  The unit is one full-price
input token; a model that sums up costs a fifth of the chat's, and six times that for its output.

python -m benchmarks.billing [--plot FILE.svg]
"""

from __future__ import annotations

import argparse
import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plugins.compression.history import read
from plugins.compression.plan import EveryK, Hysteresis, Window, segments

if TYPE_CHECKING:
    from plugins.compression.history import History
    from plugins.compression.plan import Policy

SYSTEM, USER, ASSISTANT = 1_200, 120, 350
SIGMA = 0.6
FRAME, SEGMENT, MOST = 30, 300, 6
SUMMARISER, OUTPUT = 0.2, 6

POLICIES: dict[str, Policy | None] = {
    "everything": None,
    "window, 4k, every turn": Window(4_000 - SYSTEM, None),
    "window, 8k, every turn": Window(8_000 - SYSTEM, None),
    "every_k, 5 and 3": EveryK(5, 3, SEGMENT, MOST),
    "hysteresis 8k to 3k (economy)": Hysteresis(8_000, 3_000, 3, SEGMENT, MOST),
    "hysteresis 12k to 3k (default)": Hysteresis(12_000, 3_000, 3, SEGMENT, MOST),
    "hysteresis 24k to 4k (quality)": Hysteresis(24_000, 4_000, 3, SEGMENT, MOST),
}


@dataclass(frozen=True)
class Prices:
    """Per input token, in full-price input tokens."""

    cached: float
    write: float = 1.0


DISCOUNTS = {
    "90 % off": Prices(0.1),
    "75 % off": Prices(0.25),
    "50 % off": Prices(0.5),
    "90 % off, writes 1.25x": Prices(0.1, 1.25),
}


def chat(turns: int, seed: int) -> History:
    """A chat of so many exchanges, the answer of the last one not yet in it."""
    draw = random.Random(seed)

    def tokens(mean: int) -> int:
        return max(1, round(draw.lognormvariate(0, SIGMA) * mean / 1.2))

    roles = ["system", *("user", "assistant") * turns][:-1]
    costs = [SYSTEM, *(tokens(USER if role == "user" else ASSISTANT) for role in roles[1:])]
    return read([{"role": role} for role in roles], costs)


@dataclass
class Bill:
    """The running sum of one policy on one chat."""

    tokens: float = 0.0
    compactions: int = 0
    peak: int = 0


def bill(history: History, policy: Policy | None, prices: Prices, turns: int) -> list[float]:
    """The cost after each turn."""
    return _bill(history, policy, prices, turns)[0]


def _bill(
    history: History, policy: Policy | None, prices: Prices, turns: int
) -> tuple[list[float], Bill]:
    ends = [i + 1 for i, m in enumerate(history.messages) if m["role"] == "user"][:turns]
    costs, running = [], Bill()
    before_cut: list[int] = []
    before_end, paid = 0, set[tuple[int, int]]()
    for end in ends:
        prefix = read(history.messages[:end], history.costs[:end])
        cuts = policy.cuts(prefix) if policy else []
        cut = cuts[-1] if cuts else history.head
        pieces = segments(history.head, cuts, MOST) if policy and policy.most else []
        memory = FRAME + SEGMENT * len(pieces) if pieces else 0
        prompt = SYSTEM + memory + prefix.cost(cut, end)
        if cuts != before_cut or not before_end:
            running.compactions += bool(before_end)
            common = SYSTEM if before_end else 0
        else:
            common = SYSTEM + memory + prefix.cost(cut, before_end)
        running.tokens += prices.cached * common + prices.write * (prompt - common)
        for piece in pieces:
            if piece not in paid:
                paid.add(piece)
                running.tokens += SUMMARISER * (prefix.cost(*piece) + OUTPUT * SEGMENT)
        running.peak = max(running.peak, prompt)
        before_cut, before_end = cuts, end
        costs.append(running.tokens)
    return costs, running


def table(turns: int = 60, seeds: int = 20) -> list[list[str]]:
    """Each policy's cost of one chat, against that of sending everything."""
    rows = []
    for name, policy in POLICIES.items():
        cells = [name]
        for prices in DISCOUNTS.values():
            ratios, peaks, compactions = [], [], []
            for seed in range(seeds):
                history = chat(turns, seed)
                whole = bill(history, None, prices, turns)[-1]
                costs, end = _bill(history, policy, prices, turns)
                ratios.append(costs[-1] / whole)
                peaks.append(end.peak)
                compactions.append(end.compactions)
            cells.append(f"{statistics.mean(ratios):.2f}x")
        rows.append(
            [*cells, f"{statistics.mean(compactions):.1f}", f"{statistics.mean(peaks):,.0f}"]
        )
    return rows


def worst(
    policy: Policy, prices: Prices, *, turns: int = 200, seeds: int = 10
) -> tuple[float, int]:
    """The worst ratio over every length of a chat up to `turns`, and the length it has there."""
    found = (0.0, 0)
    mean = [0.0] * turns
    for seed in range(seeds):
        history = chat(turns, seed)
        ours, whole = (bill(history, p, prices, turns) for p in (policy, None))
        mean = [m + a / b / seeds for m, a, b in zip(mean, ours, whole, strict=True)]
    for length, ratio in enumerate(mean, 1):
        found = max(found, (ratio, length))
    return found


def plot(file: Path) -> None:
    """The cost of a chat by its length, against that of sending everything."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    prices, turns, seeds = DISCOUNTS["90 % off"], 120, 5
    for name, policy in POLICIES.items():
        mean = [0.0] * turns
        for seed in range(seeds):
            history = chat(turns, seed)
            pairs = zip(
                bill(history, policy, prices, turns),
                bill(history, None, prices, turns),
                strict=True,
            )
            mean = [m + a / b / seeds for m, (a, b) in zip(mean, pairs, strict=True)]
        axes.plot(range(1, turns + 1), mean, label=name)
    axes.set(
        xlabel="turns of the chat",
        ylabel="cost, sending everything = 1",
        title="What a chat costs, cached input at 90 % off",
        ylim=(0, 3),
    )
    axes.legend(fontsize="small")
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.billing", description=__doc__)
    parser.add_argument("--plot", type=Path, help="draw the cost by length; needs matplotlib")
    options = parser.parse_args()
    print(f"| 60 turns, 20 chats | {' | '.join(DISCOUNTS)} | compactions | peak prompt |")
    print("|---|" + "---:|" * (len(DISCOUNTS) + 2))
    for cells in table():
        print(f"| {' | '.join(cells)} |")
    print(f"\n| worst over 1 to 200 turns | {' | '.join(DISCOUNTS)} |")
    print("|---|" + "---:|" * len(DISCOUNTS))
    for name, policy in POLICIES.items():
        if policy is not None:
            found = (worst(policy, prices) for prices in DISCOUNTS.values())
            print(f"| {name} | {' | '.join(f'{r:.2f}x (turn {n})' for r, n in found)} |")
    if options.plot:
        plot(options.plot)


if __name__ == "__main__":
    main()
