"""Reasons not to take one question for another, however alike they look: each has a name."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .question import number
from .tables import toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .question import Question

_TABLES = toml("vetoes.toml")
_NUMBERS = {word: str(value) for word, value in _TABLES["numbers"]["words"].items()}
_CLASSES = {
    word: name for name, words in _TABLES["question"].items() for word in words if " " not in word
}
_PRONOUNS: dict[str, str] = _TABLES["pronouns"]["english"]
_NEGATIONS = frozenset(_TABLES["negation"]["english"].split())
_ENDINGS = tuple(_TABLES["antonyms"]["endings"].split())
_BEGINNINGS = tuple(_TABLES["antonyms"]["beginnings"].split())
_DOUBLED = re.compile(r"(?<=([bdgmnprt]))\1$")
_CHINESE = re.compile(r"[\u3400-\u9fff]")


def _any(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))))


_AMOUNTS = re.compile(r"\bhow (?:much|many|long|often|far|old)\b")
_ASKED_IN_CHINESE = _any(word for word in _CLASSES if not word.isascii())
_NUMERALS = re.compile(rf"[{_TABLES['numbers']['chinese']}]+")
_UNCOUNTED = _any(_TABLES["numbers"]["idioms"].split())
_DENIED = _any(_TABLES["negation"]["chinese"].split())
_UNDENIED = _any(_TABLES["negation"]["idioms"].split())
_A_NOT_A = re.compile(r"(.{1,2})[不没](?=\1)")
_PERSONS = _any(_TABLES["pronouns"]["chinese"].split())


def stem(word: str) -> str:
    """Without the most common endings: both "books" and "booking" are about what "book" is."""
    ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) > 2), "")
    return (
        _DOUBLED.sub("", word.removesuffix(ending))
        if len(ending) > 1
        else word.removesuffix(ending)
    )


@dataclass(frozen=True, slots=True)
class Antonyms:
    """Pairs of opposites: those we know, and the operator's own."""

    more: tuple[tuple[str, str], ...] = ()
    pairs: tuple[tuple[str, str], ...] = field(init=False)

    def __post_init__(self) -> None:
        known = [line.split() for line in _TABLES["antonyms"]["pairs"].strip().splitlines()]
        object.__setattr__(self, "pairs", (*((a, b) for a, b in known), *self.more))

    def differ(self, asked: Question, known: Question) -> bool:
        """Does one have a word where the other has its opposite?"""
        a, b = Counter(asked.content), Counter(known.content)
        gone, come = a - b, b - a
        if not gone or not come:
            return False
        here, there = set(map(stem, gone)), set(map(stem, come))
        return _denied(here, there) or any(
            (_has(asked, here, one) and _has(known, there, other))
            or (_has(asked, here, other) and _has(known, there, one))
            for one, other in self.pairs
        )


def _denied(here: set[str], there: set[str]) -> bool:
    """Has one a word that the other has with "un" before it?"""
    return any(
        before + word in longer
        for words, longer in ((here, there), (there, here))
        for word in words
        if word.isascii() and len(word) > 1
        for before in _BEGINNINGS
    )


def _has(question: Question, only_here: set[str], word: str) -> bool:
    """Is the word in the question, with a part that the other question does not have?"""
    if word.isascii():
        return stem(word) in only_here
    return word in question.joined and any(character in only_here for character in word)


def numbers(question: Question) -> list[str]:
    """What is counted, in the order of the question."""
    found = []
    for token in question.content:
        if any(character.isdigit() for character in token):
            found.append(token)
        elif token in _NUMBERS:
            found.append(_NUMBERS[token])
    counted = _UNCOUNTED.sub(" ", question.joined)
    return found + [number(run) for run in _NUMERALS.findall(counted)]


def negations(question: Question) -> int:
    """How often it denies, modulo two: "not impossible" says yes."""
    chinese = _UNDENIED.sub(" ", _A_NOT_A.sub("", question.joined))
    denied = len(_DENIED.findall(chinese))
    return (denied + sum(token in _NEGATIONS for token in question.tokens)) % 2


def asked_for(question: Question) -> set[str]:
    """The classes of its question words."""
    amounts = _AMOUNTS.search(question.normal)
    english = {
        _CLASSES[token] for token in question.tokens if token.isascii() and token in _CLASSES
    }
    chinese = {_CLASSES[word] for word in _ASKED_IN_CHINESE.findall(question.joined)}
    return (english - {"how"} | {"amount"} if amounts else english) | chinese


def latin(question: Question) -> list[str]:
    """Words that are not Chinese, in a question that is."""
    if not _CHINESE.search(question.normal):
        return []
    return [token for token in question.content if not _CHINESE.match(token)]


def persons(question: Question) -> list[str]:
    """Who is spoken of, in the order of the question."""
    english = [_PRONOUNS[token] for token in question.tokens if token in _PRONOUNS]
    return english + _PERSONS.findall(question.joined)


Differ = "Callable[[Question, Question], bool]"


def _unlike(feature: Callable[[Question], object]) -> Callable[[Question, Question], bool]:
    return lambda asked, known: feature(asked) != feature(known)


def _reordered(asked: Question, known: Question) -> bool:
    return asked.content != known.content and sorted(asked.content) == sorted(known.content)


def _other_words(asked: Question, known: Question) -> bool:
    return sorted(asked.content) != sorted(known.content)


def vetoes(asked: Question, known: Question, antonyms: Antonyms) -> Iterator[str]:
    """The names of all vetoes, in a fixed order."""
    tests = (
        ("numbers", _unlike(numbers)),
        ("negation", _unlike(negations)),
        ("antonyms", antonyms.differ),
        ("question_word", _unlike(asked_for)),
        ("latin", _unlike(latin)),
        ("pronouns", _unlike(persons)),
        ("order", _reordered),
        ("words", _other_words),
    )
    return (name for name, differ in tests if differ(asked, known))
