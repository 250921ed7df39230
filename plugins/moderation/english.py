"""A classifier of English text that is part of the package: see model/README.md."""

from __future__ import annotations

import gzip
import math
import re
from collections import Counter
from importlib.resources import files
from typing import TYPE_CHECKING

from .classifier import Part
from .folding import folded, unmixed
from .texts import slices

if TYPE_CHECKING:
    from collections.abc import Iterator

CATEGORY, THRESHOLD = "offensive", 0.7
LENGTH, OVERLAP = 400, 100
"""Characters that are judged together, and how many of them are those at the end of the part before:
what is offensive in a long text would be lost in its mean."""
_WORD = re.compile(r"\w\w+")


class English:
    """Judges a text by its words (tf-idf, linear).  It knows no other language: 0.5 or less."""

    labels = (CATEGORY,)

    def __init__(self) -> None:
        self._words: dict[str, tuple[float, float]] = {}
        self._bias = 0.0

    def load(self) -> None:
        packed = (files(__package__) / "model" / "english.tsv.gz").read_bytes()
        first, *lines = gzip.decompress(packed).decode().split("\n")
        self._bias = float(first.split("\t")[2])
        for line in lines:
            word, idf, weight = line.split("\t")
            self._words[word] = float(idf), float(weight)

    def parts(self, text: str) -> Iterator[Part]:
        for start, piece in slices(text, LENGTH, OVERLAP):
            yield Part(start, start + len(piece), {CATEGORY: self.score(piece)})

    def score(self, text: str) -> float:
        """How likely it is that a reader calls this offensive."""
        letters, _ = unmixed(folded(text))
        total = length = 0.0
        for word, times in Counter(_WORD.findall(letters)).items():
            known = self._words.get(word)
            if known is not None:
                idf, weight = known
                total += times * idf * weight
                length += (times * idf) ** 2
        if not length:
            return 0.0
        return 1 / (1 + math.exp(-(total / math.sqrt(length) + self._bias)))
