"""Where a chat is cut: a pure function of its history, so that all workers cut at the same place.

Each policy is replayed over the history as it grew, as if every request had come through here.
What it finds for a request is therefore what it found for the one before, unless the new messages
bring a new cut: between two cuts the prompt is only added to, and the upstream's cache stays warm.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .history import History

Segment: TypeAlias = tuple[int, int]
"""Messages [start, end) that one piece of memory stands for."""

LEAST_SAVING = 0.25
"""A cut has to leave out this share of the prompt; less is not worth a cold cache."""

PATIENCE = 1.5
"""How far above the high mark a prompt may grow until enough exchanges stand behind the cut that
was foretold; beyond, it is cut where it can be."""

HEAD_STEP = 256
"""The head counts in steps of so many tokens: a date in it must not move the cuts."""


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """Nothing until the prompt exceeds `high` tokens; then one large step down to about `low`."""

    high: int
    low: int
    keep: int
    """Exchanges that stay, beside the newest one."""
    segment: int
    """Tokens that the memory of one segment may take."""
    most: int
    """Segments there may be."""

    def cuts(self, history: History) -> list[int]:
        """The cuts so far, the last one being that of the prompt to send."""
        high, low = self._for_history(history)
        cuts: list[int] = []
        cut = history.head
        for position in history.asked:
            total = self._memory(len(cuts)) + history.cost(cut, position + 1)
            if total <= high:
                continue
            step = high - low + self._memory(len(cuts) + 1) - self._memory(len(cuts))
            end = _first_after(history, cut, step)
            last = _last_before(history, history.turns[position] - self.keep)
            if end is None or last is None or end > last:
                if total <= PATIENCE * high:
                    continue
                end = last
            if end is not None and history.cost(cut, end) >= LEAST_SAVING * total:
                cuts.append(end)
                cut = end
        return cuts

    def coming(self, history: History, cuts: Sequence[int]) -> int | None:
        """The next cut, as soon as it can be told: time to prepare the memory for it.  Only if the
        prompt grows by leaps does it come to be an earlier one."""
        high, low = self._for_history(history)
        cut = cuts[-1] if cuts else history.head
        step = high - low + self._memory(len(cuts) + 1) - self._memory(len(cuts))
        return _first_after(history, cut, step)

    def _for_history(self, history: History) -> tuple[int, int]:
        """What is left of both marks for the history when the head has got its part."""
        head = -(-history.head_tokens // HEAD_STEP) * HEAD_STEP
        high = max(self.high - head, self.high // 2)
        return high, min(max(self.low - head, self.low // 3), high * 3 // 4)

    def _memory(self, cuts: int) -> int:
        return min(cuts, self.most) * self.segment


@dataclass(frozen=True, slots=True)
class Window:
    """Only the newest exchanges, filled up from the newest back: the prompt slides each turn."""

    tokens: int | None
    exchanges: int | None
    segment: int = 0
    most: int = 0

    def cuts(self, history: History) -> list[int]:
        """One cut at most: where the window begins."""
        start = history.head
        if self.exchanges is not None and history.turns:
            first = _last_before(history, history.turns[-1] - self.exchanges + 1)
            start = first or start
        if self.tokens is not None:
            least = history.sums[-1] - self.tokens
            places = [b for b in history.boundaries if history.sums[b] >= least]
            fits = history.sums[history.head] >= least
            newest = history.boundaries[-1:] or [start]
            start = max(start, history.head if fits else (places or newest)[0])
        return [start] if start > history.head else []

    def coming(self, history: History, cuts: Sequence[int]) -> int | None:  # noqa: ARG002  # as for the other policies
        """None: it keeps no memory that could be prepared."""
        return None


@dataclass(frozen=True, slots=True)
class EveryK:
    """Every `every` exchanges, those are summed up; the last `keep` ones always stay."""

    every: int
    keep: int
    segment: int
    most: int

    def cuts(self, history: History) -> list[int]:
        return self._cuts(history, history.turns[-1] if history.turns else 0)

    def coming(self, history: History, cuts: Sequence[int]) -> int | None:
        """The cut that the next exchange brings."""
        later = self._cuts(history, (history.turns[-1] if history.turns else 0) + 1)
        return later[-1] if len(later) > len(cuts) else None

    def _cuts(self, history: History, turn: int) -> list[int]:
        cuts, done = [], 0
        for boundary in history.boundaries:
            before = history.turns[boundary] - 1
            if before - done >= self.every and before + self.keep < turn:
                cuts.append(boundary)
                done = before
        return cuts


Policy: TypeAlias = Hysteresis | Window | EveryK


def _first_after(history: History, cut: int, tokens: int) -> int | None:
    """The first boundary with at least so many tokens between the cut and itself."""
    index = bisect_left(
        history.boundaries, history.sums[cut] + tokens, key=history.sums.__getitem__
    )
    index = max(index, bisect_right(history.boundaries, cut))
    return history.boundaries[index] if index < len(history.boundaries) else None


def _last_before(history: History, turn: int) -> int | None:
    """The last boundary at which an exchange of this number, or an earlier one, begins."""
    index = bisect_right(history.boundaries, turn, key=history.turns.__getitem__)
    return history.boundaries[index - 1] if index else None


def segments(head: int, cuts: Sequence[int], most: int) -> list[Segment]:
    """The pieces of memory: one for each cut, the oldest ones merged until there are `most`; none
    for a policy that keeps none.

    As in a log-structured merge tree, the oldest two of equal size become one, made anew from the
    messages and never from summaries.  A piece thus changes seldom, and each a few times only.
    """
    sizes = [1] * len(cuts) if most else []
    while len(sizes) > most:
        equal = (i for i, (a, b) in enumerate(pairwise(sizes)) if a == b)
        index = next(equal, 0)
        sizes[index : index + 2] = [sizes[index] + sizes[index + 1]]
    ends, number = [head], 0
    for size in sizes:
        number += size
        ends.append(cuts[number - 1])
    return list(pairwise(ends))
