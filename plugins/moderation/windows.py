"""One text of a stream, cut into windows for a check, and how far it has passed."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .verdicts import Span

# At the end of a piece: a sentence, with the quotes and brackets that close it.
_SENTENCE = re.compile(r"""[.!?;:。！？；…\n]["'”’」』）)\]*_\s]*$""")
_CLOSED = re.compile(r"""[。！？；…\n]["'”’」』）)\]*_\s]*$|\s$""")


@dataclass(frozen=True, slots=True)
class Pace:
    """When a window is cut."""

    first: int = 24
    window: int = 48
    most: int = 600
    interval: float = 0.5
    context: int = 200
    before: int = 1_000
    """Characters that are kept in front of a window for a second look."""
    parallel: int = 2
    """Checks of one text that are under way at once."""


@dataclass(slots=True, eq=False)
class Window:
    """A piece of a text that is checked, with what stands before it."""

    track: Track
    start: int
    end: int
    text: str
    """With its context in front."""
    wide: str
    """With more in front."""
    is_done: bool = False


class Track:
    """The text of one place in the answer.

    It is cut where pieces of it end that came in one chunk: what came together goes out together.
    """

    __slots__ = (
        "_before",
        "_cut",
        "_ends",
        "_is_closed",
        "_is_complete",
        "_last_cut",
        "_pieces",
        "_since",
        "_windows",
        "choice",
        "end",
        "is_whole",
        "masks",
        "passed",
    )

    def __init__(self, choice: Any = 0, *, is_whole: bool = False) -> None:
        self.choice = choice
        """The index of the choice that it belongs to."""
        self.is_whole = is_whole
        """Cut it only where it is complete."""
        self.end = 0
        """How long it is by now."""
        self.passed = 0
        """How much of it has passed its checks."""
        self.masks: list[Span] = []
        self._before = ""
        self._cut = 0
        self._pieces: list[str] = []
        self._ends: list[int] = []
        self._windows: deque[Window] = deque()
        self._last_cut = float("-inf")
        self._since: float | None = None
        """When the text that waits was first seen."""
        self._is_complete = False
        self._is_closed = False

    def add(self, text: str) -> int:
        """More of it has come; returns how long it is now."""
        self.end += len(text)
        self._pieces.append(text)
        self._ends.append(self.end)
        return self.end

    @property
    def waits(self) -> bool:
        """Is there text that no check covers?"""
        return self._cut < self.end

    def close(self) -> None:
        """There is no more, or what waits must not wait any longer."""
        self._is_closed = self.waits

    def complete(self) -> None:
        """There may be no more, for the answer goes on with another text."""
        self._is_complete = self.waits

    def has_waited(self, seconds: float, now: float) -> bool:
        return self._since is not None and now - self._since >= seconds

    def due(self, pace: Pace, factor: float, now: float) -> Window | None:
        """The next window, if it is time for one."""
        waiting = self.end - self._cut
        if not waiting:
            return None
        if self._since is None:
            self._since = now
        if self._is_closed:
            return self._window(len(self._ends), pace, now)
        if len(self._windows) >= pace.parallel:
            return None
        need = min(pace.most, (pace.window if self._cut else pace.first) * factor)
        if waiting >= need or self._is_complete:
            early = now - self._last_cut < pace.interval * factor
            if self._is_complete and not early:
                return self._window(len(self._ends), pace, now)
            if not (self.is_whole or waiting < need or (early and waiting < pace.most)):
                return self._window(self._best(int(need) // 2), pace, now)
        return None

    def _best(self, least: int) -> int:
        """How many pieces make the next window: up to a sentence's end, else a word's, else all."""
        text, base = "".join(self._pieces), self._cut
        words = 0
        for count in range(len(self._ends), 0, -1):
            at = self._ends[count - 1] - base
            if at < least:
                break
            following = text[at : at + 1]
            tail = text[max(0, at - 8) : at]
            if _SENTENCE.search(tail) and (following.isspace() or _CLOSED.search(tail)):
                return count
            if not words and (following.isspace() or tail[-1] in " ,，、"):
                words = count
        return words or len(self._ends)

    def _window(self, count: int, pace: Pace, now: float) -> Window:
        end = self._ends[count - 1]
        piece = "".join(self._pieces[:count])
        del self._pieces[:count], self._ends[:count]
        context = self._before[max(0, len(self._before) - pace.context) :]
        wide = (self._before + piece)[-max(pace.before, len(piece)) :]
        window = Window(self, self._cut, end, context + piece, wide)
        keep = max(pace.context, pace.before)
        self._before = (self._before + piece)[-keep:] if keep else ""
        self._cut, self._last_cut = end, now
        self._since = now if self.waits else None
        self._is_closed = self._is_complete = False
        self._windows.append(window)
        return window

    def passes(self, window: Window, masks: Sequence[Span]) -> None:
        """A window has passed: what is covered without a gap may be shown.  The places to mask are
        those in its text."""
        window.is_done = True
        offset = window.end - len(window.text)
        self.masks += [
            (start + offset, end + offset) for start, end in masks if end + offset > window.start
        ]
        while self._windows and self._windows[0].is_done:
            self.passed = self._windows.popleft().end
