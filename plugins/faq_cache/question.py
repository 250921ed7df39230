"""A question, as it is compared with others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from .normal import folded, plain, tokens
from .tables import toml

_WORDS = toml("words.toml")
_CHINESE: dict[str, str] = {
    **{phrase: read for read, all_ in _WORDS["chinese"]["same"].items() for phrase in all_.split()},
    **dict.fromkeys(_WORDS["chinese"]["free"], ""),
    **{word: word for word in _WORDS["chinese"]["words"].split()},
}
_ENGLISH: dict[str, str] = {
    **{phrase: read for read, all_ in _WORDS["english"]["same"].items() for phrase in all_},
    **dict.fromkeys(_WORDS["english"]["free"].split(), ""),
}


def _longest_first(phrases: dict[str, str]) -> str:
    return "|".join(map(re.escape, sorted(phrases, key=len, reverse=True)))


_READ_CHINESE = re.compile(_longest_first(_CHINESE))
_READ_ENGLISH = re.compile(rf"(?<!\S)(?:{_longest_first(_ENGLISH)})(?!\S)")
_BETWEEN = re.compile(r"(?<=[\u3400-\u9fff]) (?=[\u3400-\u9fff])")
_AUXILIARY = frozenset(_WORDS["english"]["auxiliary"].split())
_MOVABLE = frozenset(_WORDS["english"]["movable"].split())
_PARTS = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
_PARTS_OF_CHINESE = re.compile(r"[\u3400-\u9fff]")
_NUMERALS = "零一二两三四五六七八九十百千万"
_MEASURES = _WORDS["chinese"]["measures"]
_COUNTED = re.compile(rf"(?<=第)[{_NUMERALS}]+|(?<![{_NUMERALS}])[{_NUMERALS}]+(?=[{_MEASURES}])")
_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"两": 2}
_POWERS = {"十": 10, "百": 100, "千": 1_000, "万": 10_000}


def number(text: str) -> str:
    """A number in Chinese characters in figures; what is none stays as it is."""
    whole = part = digit = 0
    above = 100_000
    for character in text:
        if (power := _POWERS.get(character)) is None:
            if digit or character not in _DIGITS:
                return text
            digit = _DIGITS[character]
        elif power == 10_000:
            whole, part, digit, above = (part + digit) * power, 0, 0, power
        elif power >= above or not (digit or power == 10):
            return text
        else:
            part, digit, above = part + (digit or 1) * power, 0, power
    return str(whole + part + digit)


@dataclass(frozen=True)
class Question:
    """A question in the forms that tiers and vetoes look at."""

    text: str

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        return tokens(plain(folded(self.text)))

    @cached_property
    def normal(self) -> str:
        """The same for questions that differ in nothing but how they are written."""
        return " ".join(self.tokens)

    @cached_property
    def content(self) -> tuple[str, ...]:
        """Its words in their order, without those that may be there or not; "is" stands last."""
        parts = [part for part in _PARTS.findall(self.joined) if part not in _MOVABLE]
        if first := next((part for part in parts[:-1] if part in _AUXILIARY), None):
            parts.remove(first)
        moved = not _MOVABLE.isdisjoint(self.tokens)
        return (*parts, "is") if moved else tuple(parts)

    @cached_property
    def joined(self) -> str:
        """The same as a text, in which Chinese characters stand together."""
        english = _READ_ENGLISH.sub(lambda found: _ENGLISH[found[0]], self.normal)
        chinese = _BETWEEN.sub("", english)
        if not _PARTS_OF_CHINESE.search(chinese):
            return english
        counted = _COUNTED.sub(lambda found: number(found[0]), chinese)
        return _READ_CHINESE.sub(lambda found: _CHINESE[found[0]], counted)

    @cached_property
    def chinese(self) -> int:
        """How many Chinese characters it has."""
        return sum(len(token) == 1 and "\u3400" <= token <= "\u9fff" for token in self.tokens)

    def has(self, phrase: str) -> bool:
        """Are these words in it, one after the other?"""
        return f" {Question(phrase).normal} " in f" {self.normal} "
