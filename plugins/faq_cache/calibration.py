"""A threshold out of labelled pairs of questions: as low as a wanted precision allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from .curve import as_svg, as_text
from .embedders import opened
from .entries import FaqError
from .meaning import content_words, objections
from .question import Question
from .spaces import asked_text
from .thresholds import calibrated, language, thresholds
from .vetoes import Antonyms
from .wilson import interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .embedders import Embedder
    from .options import Semantic

FEW = 100
"""Pairs that mean the same, below which a threshold says little."""


class Pair(msgspec.Struct, frozen=True):
    """Two questions, and whether one answer does for both."""

    a: str
    b: str
    same: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """A pair of questions that no veto keeps apart, and how near they are."""

    cosine: float
    same: bool


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold is worth on the pairs."""

    threshold: float
    right: int
    answered: int
    possible: int

    @property
    def precision(self) -> float:
        return self.right / self.answered if self.answered else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.possible if self.possible else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the precision, at 95 %."""
        return interval(self.right, self.answered)


def read(file: Path) -> list[Pair]:
    """The pairs of a file, one JSON object a line.  FaqError names a line that is none."""
    pairs = []
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise FaqError([f"{file}: {(error.strerror or str(error)).lower()}"]) from None
    for number, line in enumerate(lines, 1):
        try:
            pairs.append(msgspec.json.decode(line, type=Pair))
        except msgspec.MsgspecError as error:
            raise FaqError([f"{file}:{number}: {error}"]) from None
    return pairs


def scored(pairs: Sequence[Pair], embedder: Embedder, new_words: float) -> list[Scored]:
    """The pairs that no veto keeps apart; a word that is in `b` alone costs `new_words`."""
    antonyms = Antonyms()
    texts = dict.fromkeys(text for pair in pairs for text in (pair.a, pair.b))
    rows: dict[str, Any] = {}
    for some in _some(list(texts), embedder.at_once):
        vectors = embedder.embed([asked_text(Question(text)) for text in some])
        rows.update(zip(some, vectors, strict=True))
    found = []
    for pair in pairs:
        known, asked = Question(pair.a), Question(pair.b)
        if next(objections(asked, known, antonyms), None) is None:
            new = bool(content_words(asked) - content_words(known))
            cosine = float(rows[pair.a] @ rows[pair.b]) - new * new_words
            found.append(Scored(cosine, pair.same))
    return found


def _some(texts: Sequence[str], number: int) -> Iterator[Sequence[str]]:
    return (texts[start : start + number] for start in range(0, len(texts), number))


def points(found: Sequence[Scored], possible: int) -> list[Point]:
    """What each threshold that changes anything is worth, the highest first."""
    curve: list[Point] = []
    right = 0
    ordered = sorted(found, key=lambda each: -each.cosine)
    for number, each in enumerate(ordered, 1):
        right += each.same
        if number == len(ordered) or ordered[number].cosine < each.cosine:
            curve.append(Point(each.cosine, right, number, possible))
    return curve


def best(curve: Sequence[Point], precision: float) -> Point | None:
    """The point with the highest recall among those that are precise enough."""
    precise = [point for point in curve if point.precision >= precision and point.right]
    return max(precise, key=lambda point: (point.recall, point.precision), default=None)


def told(options: Semantic, file: Path, precision: float, svg: Path) -> Iterator[str]:
    """What `dragoman faq calibrate` says.  FaqError if the pairs cannot be used."""
    pairs = read(file)
    by_language: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_language.setdefault(language(Question(pair.b)), []).append(pair)
    embedder = opened(options)
    curves = {}
    try:
        for name, some in by_language.items():
            known = thresholds(options.embedder, None).get(name)
            penalty = known[-1].new_words if known and options.threshold is None else 0.0
            possible = sum(pair.same for pair in some)
            curve = curves[name] = points(scored(some, embedder, penalty), possible)
            yield f"{name}: {len(some)} pairs, {possible} of them the same"
            yield from _verdict(name, curve, precision, possible)
            yield from as_text(curve, precision)
    finally:
        embedder.close()
    if not curves:
        raise FaqError([f"{file}: has no pairs"])
    svg.write_text(as_svg(curves, precision), encoding="utf-8")
    yield f"the curve: {svg}"
    if ours := [name for name in by_language if name in calibrated(options.embedder)]:
        yield f"{options.embedder} has thresholds of its own for {', '.join(ours)}; yours stand above"


def _verdict(name: str, curve: Sequence[Point], precision: float, possible: int) -> Iterator[str]:
    point = best(curve, precision)
    if point is None:
        yield f"  no threshold has a precision of {precision:g}: leave it in shadow"
        return
    low, high = point.bounds
    floored = int(point.threshold * 10_000) / 10_000
    yield f"  semantic.threshold.{name} = {floored:.4f}"
    yield (
        f"  precision {point.precision:.3f} ({low:.3f} to {high:.3f} at 95 %), "
        f"recall {point.recall:.3f}: {point.right} right, {point.answered - point.right} wrong"
    )
    if possible < FEW:
        yield f"  {possible} pairs that are the same are few: take {FEW} or more"
