"""Finds in the dropped part of a chat what the newest message asks about.

The measure is BM25F (Robertson, Zaragoza, Taylor: Simple BM25 Extension to Multiple Weighted
Fields, CIKM 2004).  The fields are a passage and its neighbours, for an answer seldom repeats the
words of its question, and a later question about it does.
"""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TypeAlias

from .sentences import spans
from .words import terms

K1 = 1.2
B = 0.75
"""The usual constants of BM25 (Manning, Raghavan, Schütze: Introduction to Information Retrieval,
section 11.4.3)."""

CONTEXT = (0.5, 0.1)
"""What a term counts in the passages beside the one that has it, and in those one further."""

WHOLE = 400
"""A message of so many tokens is one passage ..."""

PIECE = 200
"""... and a longer one is cut into pieces of this size: three fit the usual budget."""

NEIGHBOUR = 0.1
"""The share of the budget that the passage before or after a found one may take to come along."""

READ = 100_000
"""Characters of a message that are read."""

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

ENTRY = 64
"""Different terms that one entry of the memo holds: a longer message takes several."""

_PARAGRAPH = re.compile(r"\n\s*\n")

Follow: TypeAlias = Callable[[int], Sequence[int]]
_Pieces: TypeAlias = list[tuple["Passage", "_Piece"]]
_Postings: TypeAlias = Mapping[str, Sequence[tuple[int, int]]]  # where a term occurs, how often


@dataclass(frozen=True, slots=True)
class Passage:
    """One message of the history."""

    index: int  # its position in the request's messages
    turn: int  # the number of the exchange it belongs to, from 1
    role: str
    text: str
    digest: bytes  # stands for the message
    tokens: int  # of the whole message


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A message, or consecutive pieces of a long one, word for word."""

    passage: Passage
    text: str
    tokens: int  # of a piece: its share


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is indexed as one: a message, or a part of a long one."""

    start: int
    end: int
    tokens: int
    counts: Mapping[str, int]
    length: int  # in terms


@dataclass(frozen=True, slots=True)
class _Entry:
    tokens: int
    pieces: tuple[_Piece, ...]
    size: int


class _Memo:
    """The pieces of the messages seen last: indexing costs a hundred times what finding does."""

    def __init__(self, entries: int) -> None:
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._room = entries

    def pieces(self, passage: Passage) -> tuple[_Piece, ...]:
        entry = self._entries.get(passage.digest)
        if entry is None or entry.tokens != passage.tokens:  # another model counts otherwise
            entry = self._add(passage)
        else:
            self._entries.move_to_end(passage.digest)
        return entry.pieces

    def _add(self, passage: Passage) -> _Entry:
        if (former := self._entries.pop(passage.digest, None)) is not None:
            self._room += former.size
        pieces = tuple(_indexed(passage))
        size = 1 + sum(len(piece.counts) for piece in pieces) // ENTRY
        entry = self._entries[passage.digest] = _Entry(passage.tokens, pieces, size)
        self._room -= size
        while self._room < 0:
            self._room += self._entries.popitem(last=False)[1].size
        return entry


class Retriever:
    """Finds passages by their words.  `memo_entries`: messages whose terms are remembered."""

    def __init__(
        self,
        *,
        memo_entries: int = 20_000,
        context: Sequence[float] = CONTEXT,
        gated: bool = True,
    ) -> None:
        self._memo = _Memo(memo_entries)
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
        return self._best(scores, _Selection(pieces, kept, budget, follow))

    def _pieces(self, passages: Sequence[Passage]) -> _Pieces:
        return [(passage, piece) for passage in passages for piece in self._memo.pieces(passage)]

    def _best(self, scores: Sequence[float], selection: _Selection) -> list[Excerpt]:
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


def _indexed(passage: Passage) -> Iterator[_Piece]:
    for start, end in _cuts(passage):
        counts = Counter(terms(passage.text[start : min(end, READ)]))
        yield _Piece(start, end, _share(passage, end - start), counts, counts.total())


def _share(passage: Passage, characters: int) -> int:
    return -(-passage.tokens * characters // len(passage.text))


def _cuts(passage: Passage) -> list[tuple[int, int]]:
    """Where the pieces of a message begin and end: together they are the whole text."""
    text = passage.text
    if passage.tokens <= WHOLE or not text:
        return [(0, len(text))] if text else []
    most = max(1, len(text) * PIECE // passage.tokens)
    cuts, last = [0], 0
    for end in _ends_of_parts(text, most):
        if end - cuts[-1] > most and last > cuts[-1]:
            cuts.append(last)
        last = end
    return list(pairwise([*cuts, last]))


def _ends_of_parts(text: str, most: int) -> Iterator[int]:
    """Where paragraphs end, in long ones sentences, and in those with long ones as many characters.

    What is not read is one part.
    """
    start, read = 0, text[:READ]
    for paragraph in (*(match.end() for match in _PARAGRAPH.finditer(read)), len(read)):
        if paragraph - start > most:
            within = [start + end for _, end in spans(read[start:paragraph])]
            for sentence in (*within, paragraph):
                yield from range(start + most, sentence, most)
                yield sentence
                start = sentence
        yield paragraph
        start = paragraph
    yield len(text)


def _postings(weights: Mapping[str, float], pieces: Sequence[_Piece]) -> _Postings:
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


class _Selection:
    """The pieces that are shown, within the budget."""

    def __init__(
        self, pieces: _Pieces, kept: Sequence[Passage], budget: int, follow: Follow | None
    ) -> None:
        self._pieces = pieces
        self._kept = {passage.digest for passage in kept}
        self._room = budget
        self._most_of_neighbour = budget * NEIGHBOUR
        self._follow = follow
        self._chosen: set[int] = set()
        self._said: set[tuple[bytes, int]] = set()
        self._least = min((piece.tokens for _, piece in pieces), default=0)

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def is_full(self) -> bool:
        return self._room < self._least

    def add_new(self, position: int) -> bool:
        """Take a piece, if there is room, unless the same was said again later."""
        passage, piece = self._pieces[position]
        if (passage.digest, piece.start) in self._said or not self._add(position):
            return False
        self._said.add((passage.digest, piece.start))
        return True

    def _add(self, position: int) -> bool:
        """Take a piece and all that must come along with it."""
        passage, piece = self._pieces[position]
        if passage.digest in self._kept or passage.text[piece.start : piece.end].isspace():
            return False
        company = self._company(position) - self._chosen
        cost = sum(self._pieces[other][1].tokens for other in company)
        if cost > self._room:
            return False
        self._chosen |= company
        self._room -= cost
        return True

    def add_neighbours(self, position: int) -> None:
        for neighbour in (position - 1, position + 1):
            if (
                0 <= neighbour < len(self._pieces)
                and self._pieces[neighbour][1].tokens <= self._most_of_neighbour
            ):
                self._add(neighbour)

    def _company(self, position: int) -> set[int]:
        company = {position}
        if self._follow is None:
            return company
        seen, waiting = set(), [self._pieces[position][0].index]
        while waiting:
            index = waiting.pop()
            if index not in seen:
                seen.add(index)
                for other in self._follow(index):
                    company |= self._positions(other)
                    waiting.append(other)
        return company

    def _positions(self, index: int) -> set[int]:
        return {at for at, (passage, _) in enumerate(self._pieces) if passage.index == index}

    def excerpts(self) -> list[Excerpt]:
        found: list[Excerpt] = []
        for _, run in groupby(enumerate(sorted(self._chosen)), key=self._run):
            chosen = [self._pieces[position] for _, position in run]
            (passage, first), (_, last) = chosen[0], chosen[-1]
            tokens = sum(piece.tokens for _, piece in chosen)
            whole, text = passage.text, passage.text[first.start : last.end]
            found.append(Excerpt(passage, text if text == whole else text.strip(), tokens))
        return found

    def _run(self, numbered: tuple[int, int]) -> tuple[int, int]:
        """The same for consecutive pieces of one message."""
        number, position = numbered
        return self._pieces[position][0].index, position - number
