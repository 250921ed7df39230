"""Vetoes for the semantic tier, where two questions need not have the same words.

A vector hardly tells who does what to whom, nor which way it goes: that is what is compared here.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby, pairwise, product
from typing import TYPE_CHECKING

from .english import other_aim, other_name, other_subject, other_tense, other_time
from .question import Question
from .tables import toml
from .vetoes import asked_for, latin, negations, numbers, persons, stem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .vetoes import Antonyms

_TABLES = toml("meaning.toml")
_ENGLISH, _CHINESE = _TABLES["english"], _TABLES["chinese"]


def _any(phrases: Iterable[str]) -> str:
    return "(?:" + "|".join(map(re.escape, sorted(phrases, key=len, reverse=True))) + ")"


_MODALS = _any(word for words in _ENGLISH["modals"].values() for word in words)
_KIND_OF_MODAL = {word: kind for kind, words in _ENGLISH["modals"].items() for word in words}
_REQUEST = re.compile(rf"(?:{_any(_ENGLISH['requests'])}(?: |$))+")
_SUBJECT = re.compile(rf"\b({_MODALS}) (i|you|he|she|they|we)\b")
_TELLING = re.compile(rf"\b{_MODALS} you (?={_any(_ENGLISH['telling'])}\b)")
_SPELT_OUT = [(re.compile(rf"\b{long}\b"), short) for long, short in _ENGLISH["asks"].items()]
_YES_OR_NO = re.compile(rf"{_any(_ENGLISH['yes_or_no'])} ")
_MAY = re.compile(r"(?:can|could|may) (?:i|we) ")
_PLACED = re.compile(rf"\b({_any(_ENGLISH['directions'])}) (?:(?:the|my|a|an|your) )?([^\W\d_]+)")
_ARTICLES, _BE, _DO = (
    frozenset(_ENGLISH["grammar"][each].split()) for each in ("articles", "be", "do")
)
_CONDITIONS = re.compile(rf"\b{_any(_ENGLISH['conditions'])}\b|{_any(_CHINESE['conditions'])}")
_ROLES = re.compile("|".join(_CHINESE["roles"]))
_ONE_WAY = re.compile(_any(_CHINESE["one_way"]))
_OPINION = re.compile(r"(?:怎么样|怎么|如何)$")
_MENTIONED = re.compile(r"的([\u3400-\u9fff])(?=字|是|什么|啥|怎么|意思|读|念|的)")
_LINKS, _CHOICES = frozenset(_TABLES["links"]), tuple(map(tuple, _TABLES["choices"]))
_BESIDE = 3
"""Words at both ends of what was moved that may belong to it."""
_STRONG = frozenset(("how", "why", "when", "where", "who", "amount", "opinion"))
_PLACED_IN_TIME = frozenset(("when", "where", "who"))
"""What "can I" does not ask for; it may well ask how."""
_STOP = frozenset(_ENGLISH["stop"].split())
_SPEAKER = frozenset(("i", "我", "自己"))


def meant(question: Question) -> Question:
    """The question without "can you", "i want to", and other ways to ask for anything."""
    start = _REQUEST.match(question.normal)
    return Question(question.normal[start.end() :]) if start else question


def content_words(question: Question) -> frozenset[str]:
    """Its words that say what it is about, without their endings; nothing of Chinese."""
    words = (word for word in meant(question).tokens if word.isascii() and word.isalpha())
    return frozenset(stem(word) for word in words if word not in _STOP)


# ---- who


def other_persons(asked: Question, known: Question) -> bool:
    """Do others than the speaker take part, or in other places?  "I" and "my" may be left out."""
    one, other = _people(asked), _people(known)
    if one != other and not (_SPEAKER.issuperset(one) and _SPEAKER.issuperset(other)):
        return True
    here, there = _subject(asked), _subject(known)
    return bool(here and there) and here != there


def _people(question: Question) -> list[str]:
    """Persons in their order, none twice in a row."""
    return [person for person, _ in groupby(persons(meant(question)))]


def _subject(question: Question) -> str:
    """Who may, or should: the i of "can i"."""
    found = _SUBJECT.search(_TELLING.sub("", question.normal))
    return found[2] if found else ""


def other_duty(asked: Question, known: Question) -> bool:
    """Does one ask what may be, and the other what must be?"""
    kinds = []
    for question in (asked, known):
        found = _SUBJECT.match(question.normal)
        kinds.append(_KIND_OF_MODAL.get(found[1]) if found else None)
    return None not in kinds and kinds[0] != kinds[1]


def roles(question: Question) -> list[str]:
    """The words of a Chinese question that say who does it to whom."""
    return sorted(_ROLES.findall(question.joined))


# ---- what


def other_question(asked: Question, known: Question) -> bool:
    """Do they ask for different things?  "What day" and "when" are the same, "what" fits all."""
    one, other = _classes(asked), _classes(known)
    if "why" in one ^ other or any(
        "may" in a and b & _PLACED_IN_TIME for a, b in ((one, other), (other, one))
    ):
        return True
    strong = [(each & _STRONG) or (each & {"yes"}) for each in (one, other)]
    return all(strong) and strong[0].isdisjoint(strong[1])


def _classes(question: Question) -> set[str]:
    text = meant(question).normal
    for long, short in _SPELT_OUT:
        text = long.sub(short, text)
    found = asked_for(Question(text))
    if _OPINION.search(question.joined):
        found = found - {"how"} | {"opinion"}
    if not found and _MAY.match(text):
        return {"may"}
    return found or ({"yes"} if _YES_OR_NO.match(text) else set())


def conditions(question: Question) -> list[str]:
    """What it is bound to: if, unless, 如果."""
    return sorted(set(_CONDITIONS.findall(question.normal + " " + question.joined)))


def mentioned(question: Question) -> set[str]:
    """Single characters of a word that are asked about: 意 in "意思的意是什么意思"."""
    text = question.normal.replace(" ", "")
    return {found for found in _MENTIONED.findall(text) if text.count(found) > 1}


def signs(question: Question) -> list[str]:
    """Tokens that are no words: %, $, #."""
    return [token for token in question.tokens if not any(map(str.isalnum, token))]


def other_grammar(asked: Question, known: Question) -> bool:
    """Are they the same but for an article, or for "does" in place of "is"?

    Then the lexical tier has judged: "when is the store close" is not "when does the store close".
    """
    one, other = Counter(asked.tokens), Counter(known.tokens)
    here, there = set(one - other), set(other - one)
    if not here and not there:
        return False
    return (here | there) <= _ARTICLES or any(
        a <= _BE and b <= _DO and a and b for a, b in ((here, there), (there, here))
    )


# ---- which way


def turned(asked: Question, known: Question) -> bool:
    """Is what comes first in one what comes last in the other?  "From Paris" is not "to Paris"."""
    if _directions(asked, known) or _crossed(asked, known):
        return True
    one, other = asked.content, known.content
    return one != other and Counter(one) == Counter(other) and not _moved(asked, known)


def _directions(asked: Question, known: Question) -> bool:
    one = {name: way for way, name in _PLACED.findall(asked.normal)}
    other = {name: way for way, name in _PLACED.findall(known.normal)}
    return any(one[name] != other[name] for name in one.keys() & other.keys())


def _crossed(asked: Question, known: Question) -> bool:
    """Have two parts of a Chinese question changed places that a one-way word connects?"""
    if not (_ONE_WAY.search(asked.joined) and _ONE_WAY.search(known.joined)):
        return False
    here, there = _pairs(asked), _pairs(known)
    common = sorted((pair for pair in here if pair in there), key=here.__getitem__)
    return any(there[a] > there[b] for a, b in pairwise(common))


def _pairs(question: Question) -> dict[str, int]:
    """Where two characters stand together, for those that do so once."""
    text = question.joined
    pairs = [text[at : at + 2] for at in range(len(text) - 1)]
    return {pair: at for at, pair in enumerate(pairs) if pairs.count(pair) == 1}


def _moved(asked: Question, known: Question) -> bool:
    """Has a part only been moved past another, or have both sides of "and" changed places?"""
    for one, other in _unlike(asked.content, known.content):
        for at in range(1, len(one)):
            if one[at:] + one[:at] == other:
                return not _owned("".join(one[:at]), "".join(one[at:]), asked, known)
    one, other = next(_unlike(asked.content, known.content))
    ways = range(1, len(one))
    return any(
        one[end:] + one[start:end] + one[:start] == other and _links(one[start:end])
        for start in ways
        for end in range(start + 1, len(one))
    )


def _owned(first: str, second: str, asked: Question, known: Question) -> bool:
    """Is it "A 的 B" in one, and "B 的 A" in the other?"""
    here, there = (question.normal.replace(" ", "") for question in (asked, known))
    return f"{first}的{second}" in here and f"{second}的{first}" in there


def _unlike(
    one: tuple[str, ...], other: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """What is left of two different orders of the same words, without how they begin and end; and
    with a few of these words, which may belong to what was moved."""
    start = next(at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    same = next(at for at in range(len(one)) if one[-1 - at] != other[-1 - at])
    for before, after in product(range(_BESIDE), repeat=2):
        if before <= start and after <= same:
            begin, end = start - before, len(one) - same + after
            yield one[begin:end], other[begin:end]


def _links(between: tuple[str, ...]) -> bool:
    """Is it a word whose sides may change places?"""
    if len(between) == 1:
        return between[0] in _LINKS
    return any(between[-len(each) :] == each for each in _CHOICES)


def objections(asked: Question, known: Question, antonyms: Antonyms) -> Iterator[str]:
    """The names of all vetoes, in a fixed order."""
    tests: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("numbers", lambda: numbers(asked) != numbers(known)),
        ("signs", lambda: signs(asked) != signs(known)),
        ("negation", lambda: negations(asked) != negations(known)),
        ("antonyms", lambda: antonyms.differ(meant(asked), meant(known))),
        ("aim", lambda: other_aim(asked, known)),
        ("time", lambda: other_time(asked, known)),
        ("tense", lambda: other_tense(meant(asked), meant(known))),
        ("question_word", lambda: other_question(asked, known)),
        ("condition", lambda: conditions(asked) != conditions(known)),
        ("latin", lambda: latin(asked) != latin(known)),
        ("name", lambda: other_name(asked, known)),
        ("modal", lambda: other_duty(asked, known)),
        ("pronouns", lambda: other_persons(asked, known)),
        ("subject", lambda: other_subject(meant(asked), meant(known))),
        ("roles", lambda: roles(asked) != roles(known)),
        ("mention", lambda: mentioned(asked) != mentioned(known)),
        ("order", lambda: turned(asked, known)),
        ("grammar", lambda: other_grammar(asked, known)),
    )
    return (name for name, differ in tests if differ())
