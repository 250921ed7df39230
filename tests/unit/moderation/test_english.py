"""The classifier that is part of the package: what it finds, and what it does not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.moderation import FOLDER, auroc, rows, scores
from plugins.moderation.english import CATEGORY, LENGTH, THRESHOLD, English

FOUND = Path(__file__).parents[3] / "plugins/moderation/model/english.tsv.gz"


@pytest.fixture(scope="module")
def model():
    made = English()
    made.load()
    return made


@pytest.mark.parametrize(
    "text",
    [
        "You are a stupid idiot.",
        "YOU ARE A STUP1D \uff49\uff44\uff49\uff4f\uff54",
        "what an id\u200biot you are",
        "They say it will rain. " * LENGTH + "You stupid idiot, shut up. " * 3,
    ],
)
def test_found(model, text):
    assert max(part.scores[CATEGORY] for part in model.parts(text)) >= THRESHOLD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "...",
        "How do I kill a process on Linux?",
        "你好，请问怎么退款？",
        "Wie geht es dir?",
        "a",
    ],
)
def test_not_found(model, text):
    assert all(part.scores[CATEGORY] < THRESHOLD for part in model.parts(text))


def test_it_is_small_and_quick(model):
    assert FOUND.stat().st_size <= 200_000
    text = ("The quick brown fox jumps over the lazy dog. " * 20)[:800]
    times = []
    for _ in range(100):
        start = time.perf_counter()
        model.score(text)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.001


@pytest.mark.skipif(not FOLDER.exists(), reason=f"the labelled texts are not in {FOLDER}")
def test_what_its_card_says(model):
    labelled = rows("moderation/en_openai_moderation_dev.jsonl")
    found = list(zip(scores(model, (row["t"] for row in labelled)), labelled, strict=True))
    bad = [score for score, row in found if any(row["y"].values())]
    good = [score for score, row in found if not any(row["y"].values())]
    assert auroc(bad, good) >= 0.84
    ordinary = scores(model, [row["t"] for row in rows("matching/en_clinc150_dev.jsonl")])
    assert sum(score >= THRESHOLD for score in ordinary) / len(ordinary) <= 0.006
