"""What is shown of a history: the passages that were found, with what has to come along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from .passages import Passage, Piece

NEIGHBOUR = 0.1
"""The share of the budget that the passage before or after a found one may take to come along."""

Follow: TypeAlias = Callable[[int], Sequence[int]]
Pieces: TypeAlias = list[tuple[Passage, Piece]]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A message, or consecutive pieces of a long one, word for word."""

    passage: Passage
    text: str
    tokens: int  # of a piece: its share


class Selection:
    """The pieces that are shown, within the budget."""

    def __init__(
        self, pieces: Pieces, kept: Sequence[Passage], budget: int, follow: Follow | None
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
