"""What the semantic tier answers rightly and wrongly, with models of sentences that are installed."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from plugins.faq_cache.deciding import decided
from plugins.faq_cache.embedders import opened
from plugins.faq_cache.options import Semantic
from plugins.faq_cache.question import Question
from plugins.faq_cache.semantic import TRIED_FOR
from plugins.faq_cache.spaces import asked_text, laid_out
from plugins.faq_cache.thresholds import language, thresholds

from .matching import NOW, Score, all_pairs, ask, index

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from plugins.faq_cache.entries import Entry
    from plugins.faq_cache.matching import Index
    from plugins.faq_cache.spaces import Spaces

Row = "Mapping[str, Any]"
SELECTIONS = 4
"""How many random halves of CLINC150 are the FAQ, by intents and by domains."""


class Meaning:
    """All tiers, with a model that turns each text into a vector once."""

    def __init__(self, embedder: str) -> None:
        self.options = Semantic.model_validate({"embedder": embedder})
        self.embedder = opened(self.options)
        self.steps = thresholds(embedder, None)
        self._known: dict[str, Any] = {}

    def vectors(self, texts: Sequence[str]) -> Any:
        for text in texts:
            if text not in self._known:
                self._known[text] = self.embedder.embed([text])[0]
        return np.stack([self._known[text] for text in texts])

    def spaces(self, found: Index) -> Spaces:
        return laid_out(found.faq, self.steps, self.vectors)

    def ask(self, found: Index, spaces: Spaces, text: str) -> Entry | None:
        """The entry that any tier answers with."""
        decision, asked = ask(found, text), Question(text)
        space = spaces.by_language.get(language(asked))
        if decision.entry is not None or space is None or decision.reason not in TRIED_FOR:
            return decision.entry
        neighbours = space.nearest(self.vectors([asked_text(asked)])[0])
        margin = self.options.margin
        return decided(neighbours, asked, found, lambda _: True, NOW, margin).decision.entry


def selections(domains: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, set[str]]]:
    """Halves of the intents: in each domain, so that sisters are asked for; and of the domains."""
    for seed in range(SELECTIONS):
        chance = random.Random(seed)
        half = 7 + seed % 2
        yield "sisters", {i for name in domains.values() for i in chance.sample(sorted(name), half)}
    for seed in range(SELECTIONS):
        names = random.Random(100 + seed).sample(sorted(domains), len(domains) // 2)
        yield "domains", {intent for name in names for intent in domains[name]}


def clinc150(
    meaning: Meaning,
    data: Sequence[Mapping[str, Any]],
    domains: Mapping[str, Sequence[str]],
    *,
    aliases: int,
) -> dict[str, Score]:
    """Half of the intents as a FAQ; what is asked of the others must not be answered."""
    scores = {name: Score() for name in ("sisters", "domains", "out of scope")}
    for name, covered in selections(domains):
        phrases: dict[str, list[str]] = {}
        for row in data:
            if row["s"] == "alias" and row["n"] < aliases and row["i"] in covered:
                phrases.setdefault(row["i"], []).append(row["t"])
        found = index(phrases)
        spaces, score = meaning.spaces(found), scores[name]
        for row in data:
            if row["s"] == "alias":
                continue
            entry = meaning.ask(found, spaces, row["t"])
            score.possible += row["i"] in covered
            score.right += entry is not None and entry.id == row["i"]
            score.wrong += entry is not None and entry.id != row["i"]
            scores["out of scope"].wrong += entry is not None and row["i"] is None
            scores["out of scope"].possible += row["i"] is None
    return scores


def lcqmc(meaning: Meaning, data: Sequence[Mapping[str, Any]]) -> Score:
    """Each pair as a FAQ of one entry, and a question."""
    score = Score()
    for row in data:
        found = index({"a": [row["a"]]})
        accepted = meaning.ask(found, meaning.spaces(found), row["b"]) is not None
        score.possible += row["y"]
        score.right += accepted and row["y"] == 1
        score.wrong += accepted and row["y"] == 0
    return score


def opposites(meaning: Meaning) -> tuple[list[tuple[str, str]], int]:
    """Pairs of opposites that are answered with each other's entry, of how many questions."""
    answered, asked = [], 0
    for pair in all_pairs():
        for known, other in (pair, pair[::-1]):
            if language(Question(other)) in meaning.steps:
                asked += 1
                found = index({"a": [known]})
                if meaning.ask(found, meaning.spaces(found), other) is not None:
                    answered.append((known, other))
    return answered, asked


def lookups(meaning: Meaning, questions: Sequence[str], entries: int = 1_000) -> list[float]:
    """Milliseconds of CPU time off the loop, among so many entries with 10 aliases, sorted.

    The vectors of the aliases are random: the search takes as long, and laying them out does not.
    """
    chance = np.random.default_rng(1)
    tongue = language(Question(questions[0]))
    form = "抽屉{}第{}格怎么开" if tongue == "zh" else "How do I open drawer {} of cabinet {}?"
    phrases = {f"e{n}": [form.format(n, m) for m in range(10)] for n in range(entries)}

    def random_rows(texts: Sequence[str]) -> Any:
        rows = chance.standard_normal((len(texts), 384)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    space = laid_out(index(phrases).faq, {tongue: meaning.steps[tongue]}, random_rows)
    search = partial(_search, meaning, space.by_language[tongue])
    return sorted(search(Question(text)) for text in questions)


def _search(meaning: Meaning, space: Any, asked: Question) -> float:
    start = time.thread_time_ns()
    space.nearest(meaning.embedder.embed([asked_text(asked)])[0])
    return (time.thread_time_ns() - start) / 1e6
