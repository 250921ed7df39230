"""Finds in the dropped part of a chat what the newest message asks about.

The measure is BM25F (Robertson, Zaragoza, Taylor: Simple BM25 Extension to Multiple Weighted
Fields, CIKM 2004).  The fields are a passage and its neighbours, for an answer seldom repeats the
words of its question, and a later question about it does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from .passages import Memo, Passage
from .selection import Excerpt, Selection
from .words import terms

if TYPE_CHECKING:
    from .passages import Piece
    from .selection import Follow, Pieces

__all__ = ["Excerpt", "Passage", "Retriever", "query_weights"]

K1 = 1.2
B = 0.75
"""The usual constants of BM25 (Manning, Raghavan, Schütze: Introduction to Information Retrieval,
section 11.4.3)."""

CONTEXT = (0.5, 0.1)
"""What a term counts in the passages beside the one that has it, and in those one further."""

READ_OF_QUERY = 4_000
"""Characters of a query that are read, half of them from its end: what is pasted stands between."""

QUERY_TERMS = 64
"""Terms of a query that count, the rarest."""

SHORT_QUERY = 6
"""A query of fewer terms leans on the message before it ..."""

PREVIOUS = 0.5
"""... whose terms have this weight."""

RARE = 0.05
"""A term in at most this share of the passages tells where to look ..."""

RARE_ANYWHERE = 2
"""... and so does one in so many of them, however short the history."""

_Postings: TypeAlias = Mapping[str, Sequence[tuple[int, int]]]  # where a term occurs, how often


class Retriever:
    """Finds passages by their words.  `memo_entries`: messages whose terms are remembered."""

    def __init__(
        self,
        *,
        memo_entries: int = 20_000,
        context: Sequence[float] = CONTEXT,
        gated: bool = True,
    ) -> None:
        self._memo = Memo(memo_entries)
        self._context = context
        self._gated = gated

    def find(
        self,
        dropped: Sequence[Passage],
        kept: Sequence[Passage],
        query: str,
        previous: str = "",
        *,
        budget: int,
        follow: Follow | None = None,
    ) -> list[Excerpt]:
        """Excerpts of what was dropped, in its order, of at most `budget` tokens.

        There are none if the query names nothing of which the dropped part says more than the kept
        one.  `previous` is the user message before the query.  `follow(index)` names the messages
        without which that one must not be shown: those that were not dropped are in the prompt.
        """
        weights = query_weights(query, previous)
        pieces = self._pieces(dropped)
        counted = [piece for _, piece in pieces + self._pieces(_compared(kept, previous, weights))]
        postings = _postings(weights, counted)
        telling = _telling(postings, [passage.index for passage, _ in pieces], len(dropped))
        if self._gated and not telling:
            return []
        scores = _scores(weights, postings, [piece.length for piece in counted], self._context)
        if self._gated and not _asks_back(telling, scores, len(pieces)):
            return []
        return self._best(scores, Selection(pieces, kept, budget, follow))

    def _pieces(self, passages: Sequence[Passage]) -> Pieces:
        return [(passage, piece) for passage in passages for piece in self._memo.pieces(passage)]

    def _best(self, scores: Sequence[float], selection: Selection) -> list[Excerpt]:
        """The best first, of equal ones the newest, each with its neighbours."""
        newest_first = range(len(selection) - 1, -1, -1)
        for position in sorted(newest_first, key=scores.__getitem__, reverse=True):
            if not scores[position] or selection.is_full:
                break
            if selection.add_new(position) and self._context:
                selection.add_neighbours(position)
        return selection.excerpts()


def query_weights(query: str, previous: str = "") -> dict[str, float]:
    """The terms of a query and what each of them counts."""
    weights = dict.fromkeys(terms(_ends(query)), 1.0)
    if len(weights) < SHORT_QUERY:
        weights = dict.fromkeys(terms(_ends(previous)), PREVIOUS) | weights
    return weights


def _compared(
    kept: Sequence[Passage], previous: str, weights: Mapping[str, float]
) -> Sequence[Passage]:
    """What was kept, without the message before the query if that is a part of the query."""
    if previous and PREVIOUS in weights.values():
        return [passage for passage in kept if passage.text != previous]
    return kept


def _ends(text: str) -> str:
    if len(text) <= READ_OF_QUERY:
        return text
    half = READ_OF_QUERY // 2
    return f"{text[:half]}\n{text[-half:]}"


def _postings(weights: Mapping[str, float], pieces: Sequence[Piece]) -> _Postings:
    found: dict[str, list[tuple[int, int]]] = {term: [] for term in weights}
    wanted = frozenset(weights)
    for position, piece in enumerate(pieces):
        counts = piece.counts
        for term in wanted.intersection(counts) if len(counts) < len(wanted) else wanted:
            if term in counts:
                found[term].append((position, counts[term]))
    rarest = sorted((term for term in found if found[term]), key=lambda term: len(found[term]))
    return {term: found[term] for term in rarest[:QUERY_TERMS]}


def _telling(
    postings: _Postings, messages: Sequence[int], dropped: int
) -> list[Sequence[tuple[int, int]]]:
    """The postings of terms that tell where to look in what was dropped: they are rare there.

    Single characters are left out, the rarest of them may be a part of any word; a digit is a number.
    """
    most = max(RARE_ANYWHERE, RARE * dropped)
    telling = []
    for term, found in postings.items():
        having = {messages[position] for position, _ in found if position < len(messages)}
        if (len(term) > 1 or term.isdigit()) and 0 < len(having) <= most:
            telling.append(found)
    return telling


def _asks_back(
    telling: Sequence[Sequence[tuple[int, int]]], scores: Sequence[float], end: int
) -> bool:
    """Whether the query names what only the dropped part has, or what is best found there."""
    if any(found[-1][0] < end for found in telling):
        return True
    return max(scores[:end]) > max(scores[end:], default=0.0)


def _scores(
    weights: Mapping[str, float],
    postings: _Postings,
    lengths: Sequence[int],
    context: Sequence[float],
) -> list[float]:
    """BM25F with the neighbours as fields, the inverse document frequency as in Lucene."""
    scores = [0.0] * len(lengths)
    mean = sum(lengths) / len(lengths) if lengths else 1
    shares = [(0, 1.0)]
    for distance, share in enumerate(context, 1):
        shares += [(-distance, share), (distance, share)]
    for term, found in postings.items():
        frequencies: defaultdict[int, float] = defaultdict(float)
        for position, count in found:
            frequency = count / (1 - B + B * lengths[position] / mean)
            for offset, share in shares:
                frequencies[position + offset] += share * frequency
        rarity = math.log1p((len(lengths) - len(found) + 0.5) / (len(found) + 0.5))
        worth = weights[term] * rarity * (K1 + 1)
        for position, frequency in frequencies.items():
            if 0 <= position < len(scores):
                scores[position] += worth * frequency / (K1 + frequency)
    return scores
