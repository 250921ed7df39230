"""What a terminal shows: colours where it wants them, and no control characters of strangers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

WIDTH = 100
"""Columns."""

BOLD, DIM, RED, GREEN = "1", "2", "31", "32"

_LINE_ENDS = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
# Besides C0 and C1, what turns the direction of writing: https://trojansource.codes
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Is it a terminal, whose owner has not asked for plain text?  https://no-color.org"""
    return stream.isatty() and not environ.get("NO_COLOR")


def styled(text: str, style: str) -> str:
    return f"\033[{style}m{text}\033[0m" if style and text else text


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose cells stand below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def harmless(text: str) -> str:
    """The text with its control characters written out; line ends and tabs stay."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", _LINE_ENDS.sub("\n", text))
