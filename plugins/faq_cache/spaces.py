"""The phrases of a FAQ as vectors, one space for each language, and what is nearest there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .entries import overlap
from .meaning import content_words
from .normal import folded, plain
from .question import Question
from .thresholds import fitting, language

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .embedders import Matrix
    from .entries import Entry, Faq
    from .thresholds import Threshold

    Vectors = Callable[[Sequence[str]], Matrix]

ABOVE = 0.01
"""How much nearer a question must be than what another entry, or a negative, is."""
NEAREST = 20
"""Entries that are looked at, if the nearest are out of scope."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The phrase of an entry that is nearest to a question."""

    entry: Entry
    question: Question
    cosine: float
    negative: float
    """The cosine of its nearest negative; -1 if it has none."""
    threshold: float
    step: Threshold
    words: frozenset[str]
    """All content words of the entry's phrases."""

    def needed(self, asked: Question) -> float:
        """The cosine at which it would be the answer.  A threshold that was raised tells other
        entries apart already."""
        words = content_words(asked)
        if words <= self.words:
            return self.threshold
        narrower = self.step.narrower if content_words(self.question) <= words else 0.0
        return max(self.threshold, self.step.cosine + self.step.new_words + narrower)


@dataclass(frozen=True, slots=True)
class Member:
    """An entry in a space: where its phrases and its negatives begin, and how near is near enough."""

    entry: Entry
    phrases: tuple[Question, ...]
    start: int
    negatives: slice
    step: Threshold
    words: frozenset[str]
    threshold: float = 0.0

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + len(self.phrases))


@dataclass(frozen=True, slots=True)
class Space:
    """The entries that are asked for in one language."""

    members: tuple[Member, ...]
    phrases: Matrix
    negatives: Matrix

    def nearest(self, vector: Matrix) -> list[Neighbour]:
        """The nearest entries, the nearest first."""
        import numpy as np

        cosines = self.phrases @ vector
        best = np.maximum.reduceat(cosines, [member.start for member in self.members])
        order = np.argsort(-best, kind="stable")[:NEAREST]
        return [self._neighbour(self.members[at], cosines, vector) for at in order]

    def _neighbour(self, member: Member, cosines: Matrix, vector: Matrix) -> Neighbour:
        phrase = int(cosines[member.rows].argmax())
        negatives = self.negatives[member.negatives] @ vector
        return Neighbour(
            entry=member.entry,
            question=member.phrases[phrase],
            cosine=float(cosines[member.start + phrase]),
            negative=float(negatives.max()) if len(negatives) else -1.0,
            threshold=member.threshold,
            step=member.step,
            words=member.words,
        )


@dataclass(frozen=True, slots=True)
class Spaces:
    """All spaces of a FAQ, and what an operator should know of them."""

    by_language: Mapping[str, Space]
    remarks: tuple[str, ...] = ()


def asked_text(question: Question) -> str:
    """What of a question is turned into a vector: all but politeness."""
    return plain(folded(question.text)).strip()


def laid_out(faq: Faq, steps: Mapping[str, tuple[Threshold, ...]], vectors: Vectors) -> Spaces:
    """The spaces of a FAQ.  `steps` are the thresholds by language, "" standing for any."""
    phrases: dict[str, list[tuple[Entry, list[Question]]]] = {}
    left_out: dict[str, int] = {}
    for entry in faq.entries:
        for name, questions in _by_language(entry.phrases).items():
            if name in steps or "" in steps:
                phrases.setdefault(name, []).append((entry, questions))
            else:
                left_out[name] = left_out.get(name, 0) + len(questions)
    remarks = [
        f"{number} phrases in language {name!r} are left to the other tiers: no threshold is known"
        for name, number in left_out.items()
    ]
    if everything := [q for entries in phrases.values() for _, some in entries for q in some]:
        vectors([asked_text(each) for each in everything])  # many at once are quicker
    spaces = {}
    for name, entries in phrases.items():
        spaces[name] = _space(entries, steps.get(name) or steps[""], name, vectors, remarks)
    return Spaces(spaces, tuple(remarks))


def _by_language(phrases: Sequence[str]) -> dict[str, list[Question]]:
    found: dict[str, list[Question]] = {}
    for phrase in dict.fromkeys(phrases):
        question = Question(phrase)
        found.setdefault(language(question), []).append(question)
    return found


def _space(
    entries: list[tuple[Entry, list[Question]]],
    steps: tuple[Threshold, ...],
    name: str,
    vectors: Vectors,
    remarks: list[str],
) -> Space:
    import numpy as np

    members: list[Member] = []
    phrases, negatives = [], []
    start = denied = 0
    for entry, questions in entries:
        step = fitting(steps, len(questions))
        matrix = vectors([asked_text(each) for each in questions])
        kept = _not_stray(matrix, step.stray)
        remarks += [
            f"entry {entry.id!r}: {questions[at].text!r} is unlike all its others"
            for at in sorted(set(range(len(questions))).difference(kept))
        ]
        known = tuple(questions[at] for at in kept)
        phrases.append(matrix[kept])
        if against := _by_language(entry.negatives).get(name, []):
            negatives.append(vectors([asked_text(each) for each in against]))
        words = frozenset[str]().union(*map(content_words, known))
        until = denied + len(against)
        members.append(Member(entry, known, start, slice(denied, until), step, words))
        start, denied = start + len(known), until
    matrix = np.concatenate(phrases)
    none = np.empty((0, matrix.shape[1]), dtype=np.float32)
    denying = np.concatenate(negatives) if negatives else none
    return Space(tuple(_raised(members, matrix, denying, remarks)), matrix, denying)


def _not_stray(matrix: Matrix, stray: float) -> list[int]:
    """The rows that are near another one; all of them if hardly any is."""
    import numpy as np

    if stray < 0 or len(matrix) < 2:
        return list(range(len(matrix)))
    cosines = matrix @ matrix.T
    np.fill_diagonal(cosines, -1.0)
    kept = [at for at, nearest in enumerate(cosines.max(axis=1)) if nearest >= stray]
    return kept if 2 * len(kept) > len(matrix) else list(range(len(matrix)))


def _raised(
    members: list[Member], phrases: Matrix, negatives: Matrix, remarks: list[str]
) -> Iterator[Member]:
    """Each member with a threshold above its likeness to other entries, and to its negatives."""
    import numpy as np

    owner = np.concatenate([np.full(len(m.phrases), at) for at, m in enumerate(members)])
    scoped = any(member.entry.scope.model_fields_set for member in members)
    for at, member in enumerate(members):
        cosines = phrases[member.rows] @ phrases.T
        cosines[:, member.rows] = -1.0
        if scoped:
            for rival in members:
                if not overlap(member.entry.scope, rival.entry.scope):
                    cosines[:, rival.rows] = -1.0
        row, column = divmod(int(cosines.argmax()), cosines.shape[1])
        nearest = float(cosines[row, column])
        denied = (phrases[member.rows] @ negatives[member.negatives].T).ravel()
        least = max(member.step.cosine, member.entry.cosine or -1.0)
        above = max(nearest, *denied.tolist(), -1.0) + ABOVE
        yield replace(member, threshold=max(least, above))
        rival = members[owner[column]]
        if nearest >= least and owner[column] > at:
            other = rival.phrases[column - rival.start].text
            remarks.append(
                f"entries {member.entry.id!r} and {rival.entry.id!r} are asked alike "
                f"({nearest:.3f}): {member.phrases[row].text!r} and {other!r}"
            )
