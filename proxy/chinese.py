"""Traditional and simplified Chinese: two ways to write the same words."""

from __future__ import annotations

from importlib.resources import files


def _table() -> dict[int, str]:
    lines = (files(__package__) / "simplified.txt").read_text(encoding="utf-8").splitlines()
    pairs = (pair for line in lines if not line.startswith("#") for pair in line.split())
    return {ord(pair[0]): pair[1] for pair in pairs}


_SIMPLIFIED = _table()


def simplified(text: str) -> str:
    """The text with simplified characters for traditional ones; it is as long as it was."""
    return text if text.isascii() else text.translate(_SIMPLIFIED)


def is_traditional(text: str) -> bool:
    """Has it characters that simplified Chinese writes in another way?"""
    return any(ord(character) in _SIMPLIFIED for character in text)
