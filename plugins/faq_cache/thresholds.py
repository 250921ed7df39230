"""How near is near enough: calibrated for each embedder and language, or the operator's own word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .tables import toml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .question import Question

_CALIBRATED = toml("calibrated.toml")


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a cosine must be for an entry of so many phrases or more."""

    cosine: float
    new_words: float = 0.0
    """Added for a question with words that no phrase of the entry has."""
    narrower: float = 0.0
    """Added to that, if it has all content words of the phrase, too: it asks for a part of that."""
    stray: float = -1.0
    """A phrase is left out if all others of its entry are further off."""
    phrases: int = 0


def calibrated(embedder: str | None) -> tuple[str, ...]:
    """The languages that an embedder has thresholds for."""
    return tuple(_CALIBRATED.get(embedder or "", ()))


def thresholds(
    embedder: str | None, chosen: float | Mapping[Any, float] | None
) -> dict[str, tuple[Threshold, ...]]:
    """By language, and the one for the most phrases first.  The operator's word stands above ours,
    and a single number is for all languages: under "" then."""
    known = {
        language: tuple(sorted((Threshold(**row) for row in rows), key=lambda t: -t.phrases))
        for language, rows in _CALIBRATED.get(embedder or "", {}).items()
    }
    if chosen is None:
        return known
    if isinstance(chosen, float | int):
        return {"": (Threshold(float(chosen)),)}
    return known | {language: (Threshold(value),) for language, value in chosen.items()}


def fitting(steps: tuple[Threshold, ...], phrases: int) -> Threshold:
    """The threshold for an entry that is asked for in so many ways."""
    return next((each for each in steps if phrases >= each.phrases), steps[-1])


def language(question: Question) -> str:
    """Of a question, as far as thresholds are concerned: zh, en (any that is written in ASCII), or
    another."""
    if question.chinese:
        return "zh"
    return "en" if question.normal.isascii() else "other"
