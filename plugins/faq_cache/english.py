"""Vetoes from the grammar of English: when it is, who does it, what is avoided, whose name it has."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from .tables import toml
from .vetoes import stem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .question import Question

_TABLES = toml("meaning.toml")["english"]


def _any(phrases: Iterable[str]) -> str:
    return "(?:" + "|".join(map(re.escape, sorted(phrases, key=len, reverse=True))) + ")"


_CAPITAL = re.compile(r"(?<![.!?:…\"(] )(?<!^)\b[A-Z][a-z0-9]*\b|\b[a-z]+[A-Z]\w*", re.ASCII)
_WORD = re.compile(r"\b[^\W\d_]+\b")
_TIMES, _UNITS = (frozenset(_TABLES[name].split()) for name in ("times", "units"))
_PAST = re.compile(r"\b(?:was|were|did|had)\b")
_PRESENT = re.compile(r"\b(?:am|is|are|do|does|will|can|could|may|should|must|have|has)\b")
_PERSON = "(?:i|you|he|she|it|we|they)"
_PERFECT = re.compile(
    rf"\b(?:have|has) {_PERSON} (?!to\b|any\b|a\b)\w+|\b{_PERSON} (?:have|has) (?:been|\w+(?:ed|en))\b"
    rf"|\b{_PERSON} (?:have|has) {_any(_TABLES['participles'].split())}\b"
)
_AUXILIARY = "(?:do|does|did|can|could|may|might|should|must|will|would)"
_OTHERS = re.compile(
    rf"(?<!\bto )\b{_AUXILIARY} (?:a|an|the|my|your|his|her|our|their|some\w+|any\w+) [a-z]+"
    r"(?!.*\b(?:be|get) )"
)
_SPEAKER = re.compile(rf"\b{_AUXILIARY} (?:i|we|you)\b")
_OBJECT = re.compile(rf"\b(?:whom|who {_AUXILIARY})\b")
_AGAINST = re.compile(rf"\b(?:{_any(_TABLES['against'])}\b|stop [a-z]+ing\b)")


def other_time(asked: Question, known: Question) -> bool:
    """Is it about Monday in one only, or about hours in one and days in the other?"""
    here, there = _stems(asked), _stems(known)
    if here & _TIMES != there & _TIMES:
        return True
    units = here & _UNITS, there & _UNITS
    return all(units) and units[0] != units[1]


def _stems(question: Question) -> frozenset[str]:
    return frozenset(map(stem, question.tokens))


def other_tense(asked: Question, known: Question) -> bool:
    """Is it over in one, and not in the other?  "Where was it", "where is it"."""
    one, other = _tense(asked.normal), _tense(known.normal)
    return bool(one and other) and one != other


@lru_cache(maxsize=4_096)
def _tense(text: str) -> str:
    if _PAST.search(text):
        return "past"
    if _PERFECT.search(text):
        return "past"
    return "present" if _PRESENT.search(text) else ""


def other_subject(asked: Question, known: Question) -> bool:
    """Does the speaker do it in one, and somebody else in the other?  Or is it who does it, and to
    whom?"""
    one, other = asked.normal, known.normal
    if bool(_OBJECT.search(one)) != bool(_OBJECT.search(other)) and "who" in one and "who" in other:
        return True
    return any(
        _OTHERS.search(a)
        and _SPEAKER.search(b)
        and not _SPEAKER.search(a)
        and not _OTHERS.search(b)
        for a, b in ((one, other), (other, one))
    )


def other_aim(asked: Question, known: Question) -> bool:
    """Is it to be avoided in one only?"""
    return bool(_AGAINST.search(asked.normal)) != bool(_AGAINST.search(known.normal))


def other_name(asked: Question, known: Question) -> bool:
    """Is there a name in one, written with a capital, that the other does not have?"""
    return not (_names(asked) <= _stems(known) and _names(known) <= _stems(asked))


def _names(question: Question) -> set[str]:
    """Words with a capital that is not the sentence's; none in a text that has them everywhere."""
    text = " ".join(question.text.split())
    found = {stem(word.lower()) for word in _CAPITAL.findall(text)} - {"i"}
    return found if 2 * len(found) < len(_WORD.findall(text)) else set()
