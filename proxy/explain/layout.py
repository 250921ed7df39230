"""Lines of styled text that fit a terminal.  Pure."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from proxy.terminal import WIDTH, harmless, styled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_PIECE = re.compile(r"\n|[^\S\n]+|\S+")
_SPACE = re.compile(r"\s")


class Ink(NamedTuple):
    """A text and how it looks."""

    text: str
    style: str = ""


def folded(text: str) -> str:
    """On one line, whatever its white space was."""
    return " ".join(text.split())


def elided(text: str, front: int, back: int = 0) -> str:
    """Its beginning and its end, cut between words where that is near; all, if it is short."""
    if len(text) <= front + back + 20:
        return text
    head = text[: _space_before(text, front)] if front else ""
    tail = text[len(text) - _space_before(text[::-1], back) :] if back else ""
    return f"{head} … {tail}" if head and tail else f"{head} …" if head else f"… {tail}"


def _space_before(text: str, at: int) -> int:
    """A place to cut, not far before another one."""
    near = [found.start() for found in _SPACE.finditer(text, max(0, at - 15), at + 1)]
    return near[-1] if near else at


class Page:
    """Lines, each with a margin on its left; without their styles if there is no colour."""

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour
        self.lines: list[str] = []

    def add(self, text: str | Iterable[Ink], style: str = "", *, margin: str = "") -> None:
        """Add a text, wrapped; what does not fit into its first line stands below it."""
        inks = [Ink(text, style)] if isinstance(text, str) else text
        for line in _wrapped(inks, WIDTH - len(margin)):
            self.lines.append(self._drawn([Ink(margin, style), *line]))
            margin = " " * len(margin)

    def _drawn(self, inks: Sequence[Ink]) -> str:
        plain = "".join(ink.text for ink in inks).rstrip()
        if not self.colour or not plain:
            return plain
        runs = groupby((ink for ink in inks if ink.text), key=lambda ink: ink.style)
        return "".join(styled("".join(ink.text for ink in run), style) for style, run in runs)


def _wrapped(inks: Iterable[Ink], width: int) -> list[list[Ink]]:
    """The lines of a text.  Spaces where a line ends are left out, as is a break at the end."""
    lines: list[list[Ink]] = [[]]
    room = width
    for text, style in _pieces(inks, width):
        if text == "\n" or (len(text) > room and room < width):
            lines.append([])
            room = width
            if text.isspace():
                continue
        lines[-1].append(Ink(text, style))
        room -= len(text)
    return lines if lines[-1] or len(lines) == 1 else lines[:-1]


def _pieces(inks: Iterable[Ink], width: int) -> Iterator[Ink]:
    """Words, spaces and line breaks, none of them longer than a line."""
    for text, style in inks:
        for piece in _PIECE.findall(harmless(text).expandtabs(4)):
            for at in range(0, len(piece), width):
                yield Ink(piece[at : at + width], style)
