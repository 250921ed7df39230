"""What still holds of what was said: the later of two statements, and each of them once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from .candidates import SHORTEST_CLAUSE, WORDS, Candidate, Statement, content_of, words_of
from .sentences import shape, unlabelled

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from .candidates import Said

_CHINESE_UPDATES = re.compile("改成|改为|更新|现在|不再|换成|调整")
_UPDATING = frozenset(WORDS["updating"])
_ALIKE = 0.75
"""The share of the words of the shorter statement that an update has in common with it."""
_RECURRING = 3
"""So many labels in capitals are a habit of the writer."""


def current(candidates: Sequence[Candidate], segment: Sequence[Said]) -> list[Candidate]:
    """Without what is said again, and what was said with values that no longer hold."""
    newest: dict[object, int] = {}
    stale: set[int] = set()
    stated: dict[int, Statement] = {}
    for number, candidate in enumerate(candidates):
        is_user = segment[candidate.message].role == "user"
        meaning = candidate.meaning
        key: object = meaning[0] if meaning else _plain(candidate.text)
        earlier = newest.get(key)
        if earlier is None and meaning and is_user and _is_update(candidate.text):
            earlier = _restated(meaning, stated)
        if (
            earlier is not None
            and not is_user
            and segment[candidates[earlier].message].role == "user"
        ):
            stale.add(number)  # the assistant repeats the user
            continue
        if earlier is not None:
            stale.add(earlier)
            stated.pop(earlier, None)
        newest[key] = number
        if meaning and is_user:
            stated[number] = meaning
    return [candidate for number, candidate in enumerate(candidates) if number not in stale]


def _is_update(text: str) -> bool:
    return not _UPDATING.isdisjoint(words_of(text)) or bool(_CHINESE_UPDATES.search(text))


def _restated(meaning: Statement, stated: Mapping[int, Statement]) -> int | None:
    """The statement that an update replaces: about the same things, with values of a kind."""
    about, kinds = _about(meaning)
    best, likeness = None, 0.0
    for number, other in stated.items():
        others, their_kinds = _about(other)
        common = len(about & others)
        if kinds & their_kinds and common and common >= _ALIKE * min(len(about), len(others)):
            union = common / len(about | others)
            if union >= likeness:
                best, likeness = number, union
    return best


def _about(meaning: Statement) -> tuple[set[str], set[str]]:
    words = set(meaning[0])
    kinds = {word for word in words if word.startswith("<")}
    return set(content_of(" ".join(words - kinds))) - _UPDATING, kinds


def elsewhere(candidates: Sequence[Candidate], without: Collection[str]) -> list[Candidate]:
    """The candidates that `without` neither holds nor gives with other values."""
    plain = {_plain(text) for text in without}
    shapes = {meaning[0] for text in without if (meaning := shape(text))}
    return [
        candidate
        for candidate in candidates
        if not _is_in(_plain(candidate.text), plain)
        and not (candidate.meaning and candidate.meaning[0] in shapes)
    ]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _is_in(plain: str, others: Collection[str]) -> bool:
    return plain in others or (
        len(plain) >= SHORTEST_CLAUSE and any(plain in other for other in others)
    )


def without_labels(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without labels in capitals, where many have one: what is said everywhere tells nothing."""
    bare = [unlabelled(candidate.text) for candidate in candidates]
    labels = sum(
        len(text) < len(candidate.text) for candidate, text in zip(candidates, bare, strict=True)
    )
    if labels < _RECURRING:
        return list(candidates)
    return [replace(candidate, text=text) for candidate, text in zip(candidates, bare, strict=True)]
