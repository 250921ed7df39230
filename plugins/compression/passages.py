"""The messages of a history as they are searched: indexed by their terms, long ones in pieces."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from .sentences import spans
from .words import terms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WHOLE = 400
"""A message of so many tokens is one passage ..."""

PIECE = 200
"""... and a longer one is cut into pieces of this size: three fit the usual budget."""

READ = 100_000
"""Characters of a message that are read."""

ENTRY = 64
"""Different terms that one entry of the memo holds: a longer message takes several."""

_PARAGRAPH = re.compile(r"\n\s*\n")


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
class Piece:
    """What is indexed as one: a message, or a part of a long one."""

    start: int
    end: int
    tokens: int
    counts: Mapping[str, int]
    length: int  # in terms


@dataclass(frozen=True, slots=True)
class _Entry:
    tokens: int
    pieces: tuple[Piece, ...]
    size: int


class Memo:
    """The pieces of the messages seen last: indexing costs a hundred times what finding does."""

    def __init__(self, entries: int) -> None:
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._room = entries

    def pieces(self, passage: Passage) -> tuple[Piece, ...]:
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


def _indexed(passage: Passage) -> Iterator[Piece]:
    for start, end in _cuts(passage):
        counts = Counter(terms(passage.text[start : min(end, READ)]))
        yield Piece(start, end, _share(passage, end - start), counts, counts.total())


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
