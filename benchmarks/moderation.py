"""What the built-in classifier finds, and what it flags wrongly: python -m benchmarks.moderation.

Offensive texts with labels: openai/moderation-api-release (Markov et al. 2022).  Ordinary questions:
CLINC150 (Larson et al. 2019) in English, LCQMC (Liu et al. 2018) in Chinese.  Ordinary prose: the
descriptions of installed packages.  The classifier has seen none of them.
"""

from __future__ import annotations

import time
from importlib.metadata import distributions
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import msgspec

from plugins.moderation.english import CATEGORY, English

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FOLDER = Path(__file__).parents[1] / "../shared/data"
THRESHOLDS = 0.5, 0.7, 0.9


def rows(name: str) -> list[Any]:
    return [msgspec.json.decode(line) for line in (FOLDER / name).read_bytes().splitlines()]


def scores(model: English, texts: Iterable[str]) -> list[float]:
    """The worst part of each text counts."""
    return [max(part.scores[CATEGORY] for part in model.parts(text)) for text in texts]


def auroc(bad: Sequence[float], good: Sequence[float]) -> float:
    """How often a bad text has a higher score than a good one; half where they have the same."""
    return mean((b > g) + (b == g) / 2 for b in bad for g in good)


def prose() -> list[str]:
    """Descriptions of packages, up to 8,000 characters of each."""
    texts = (each.metadata.json.get("description", "") for each in distributions())
    return [text[:8_000] for text in texts if isinstance(text, str) and len(text) > 1_000]


def shares(found: Sequence[float]) -> str:
    return "  ".join(f"{mean(s >= limit for s in found):7.2%}" for limit in THRESHOLDS)


def main() -> None:
    model = English()
    begin = time.perf_counter()
    model.load()
    print(f"{'loaded in':36} {(time.perf_counter() - begin) * 1e3:7.1f} ms")
    labelled = rows("moderation/en_openai_moderation_dev.jsonl")
    found = scores(model, (row["t"] for row in labelled))
    bad = [s for s, row in zip(found, labelled, strict=True) if any(row["y"].values())]
    good = [s for s, row in zip(found, labelled, strict=True) if not any(row["y"].values())]
    print(f"{'AUROC':36} {auroc(bad, good):7.3f}   ({len(bad)} of {len(labelled)} offensive)")
    print(f"{'flagged from':36} " + "  ".join(f"{limit:7}" for limit in THRESHOLDS))
    print(f"{'  offensive texts':36} {shares(bad)}")
    print(f"{'  the others of the same set':36} {shares(good)}")
    english = [row["t"] for row in rows("matching/en_clinc150_dev.jsonl")]
    print(f"{f'  ordinary questions ({len(english):,})':36} {shares(scores(model, english))}")
    chinese = [row["a"] for row in rows("matching/zh_lcqmc_dev.jsonl")]
    print(f"{f'  Chinese questions ({len(chinese):,})':36} {shares(scores(model, chinese))}")
    pages = prose()
    print(f"{f'  ordinary prose ({len(pages)})':36} {shares(scores(model, pages))}")
    times = []
    for text in [page[:800] for page in pages] * 20:
        begin = time.perf_counter()
        model.score(text)
        times.append(time.perf_counter() - begin)
    least, middle = min(times) * 1e6, median(times) * 1e6
    print(f"{'800 characters of prose':36} {least:7.0f} us least  {middle:.0f} us median")


if __name__ == "__main__":
    main()
