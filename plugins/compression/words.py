"""Text as terms: what two texts about the same thing have in common.

Scripts that set no spaces give their characters and pairs of neighbours: for Chinese the two
together find as much as the words of a segmenter do (Nie, Gao, Zhang, Zhou: On the Use of Words
and N-grams for Chinese Information Retrieval, IRAL 2000).  English words lose their endings, and
those of its grammar are left out.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

LONGEST = 64
"""Characters of a term that count: what is longer is data, and its beginning tells it apart."""

# Python's \w knows no combining marks: without them it would cut Hindi and Arabic words in pieces.
_MARKS = "".join(chr(c) for c in range(0x300, 0x1D00) if unicodedata.category(chr(c))[0] == "M")

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao; Burmese; Khmer
    "\u1100-\u11ff\uac00-\ud7af"  # Hangul
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # 々〆〇, kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
_WORD = rf"[^\W_{_UNSPACED}](?:[^\W_{_UNSPACED}]|[{_MARKS}])*"

# What stands together without a space is one thing: a date, a version, an address, a path.
_PIECE = re.compile(rf"([{_UNSPACED}]+)|{_WORD}(?:[-_.:/@+,'’]{_WORD})*")
_PART = re.compile(_WORD)
_DIGIT_OR_AT = re.compile(r"[\d@]")

# Particles, pronouns, questions.  A word with such a character in it is found by the others.
_PARTICLE = re.compile(
    "[的了是吗呢吧啊呀么嘛哦噢嗯我你您他她它们这那哪什怎谁和与或在有也都就还又很不没把被给让请]"
)

# After the list for English of Snowball (snowballstem.org/algorithms/english/stop.txt).
_FUNCTION_WORDS = frozenset(
    # pronouns, determiners
    "i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his "
    "himself she her hers herself it its itself they them their theirs themselves this that these "
    "those the a an some any each every either neither both all such same other another own "
    "someone anyone everyone something anything everything nothing one ones "
    # auxiliaries
    "am is are was were be been being have has had having do does did doing done can could will "
    "would shall should may might must ought let lets "
    "cannot "
    # prepositions, conjunctions
    "of at by for with about against between into through during before after above below to from "
    "up down in out on off over under upon within without per via and but or nor so if then than "
    "because as until while although though since unless whether "
    # adverbs, questions
    "again further once here there when where why how what which who whom whose also just only "
    "very too not no more most much many few less now ever never always really quite even still "
    "yet however "
    # what is left of contractions
    "s d m ll re ve im ive "
    # politeness, and words about the conversation itself
    "hi hello hey ok okay yes yeah yep please thanks thank sorry say says said saying tell tells "
    "told mention mentions mentioned ask asked get got like".split()
)

_NEGATED = re.compile(
    r"(?:is|are|was|were|has|have|had|do|does|did|wo|would|ca|could|sha|should|must|ai)n['’]?t"
)

_IRREGULAR = {
    form: base
    for base, forms in (
        line.split(":")
        for line in (
            "agree:agreed",
            "become:became",
            "begin:began begun",
            "break:broke broken",
            "bring:brought",
            "build:built",
            "buy:bought",
            "catch:caught",
            "child:children",
            "choose:chose chosen",
            "come:came",
            "deal:dealt",
            "die:died dies dying",
            "draw:drew drawn",
            "drink:drank drunk",
            "drive:drove driven",
            "eat:ate eaten",
            "fall:fell fallen",
            "feel:felt",
            "fight:fought",
            "find:found",
            "fly:flew flown flies",
            "foot:feet",
            "forget:forgot forgotten",
            "give:gave given giving",
            "go:goes going gone went",
            "grow:grew grown",
            "hear:heard",
            "hide:hid hidden",
            "hold:held",
            "keep:kept",
            "know:knew known",
            "lead:led",
            "leave:left",
            "lend:lent",
            "lie:lied lies lying",
            "lose:lost",
            "make:made",
            "man:men",
            "mean:meant",
            "meet:met",
            "mouse:mice",
            "pay:paid",
            "person:people",
            "ride:rode ridden",
            "ring:rang rung",
            "rise:rose risen",
            "run:ran",
            "see:saw seen",
            "sell:sold",
            "send:sent",
            "shoot:shot",
            "show:shown",
            "sing:sang sung",
            "sit:sat",
            "sleep:slept",
            "speak:spoke spoken",
            "spend:spent",
            "stand:stood",
            "steal:stole stolen",
            "swim:swam swum",
            "take:took taken",
            "teach:taught",
            "think:thought",
            "throw:threw thrown",
            "tie:tied ties tying",
            "tooth:teeth",
            "understand:understood",
            "use:used uses using",
            "wake:woke woken",
            "wear:wore worn",
            "win:won",
            "woman:women",
            "write:wrote written",
        )
    )
    for form in forms.split()
}

_VOWEL = re.compile("[aeiouy]")
_DERIVING = (
    ("ly", 4),
    ("ness", 4),
    ("ment", 4),  # codespell:ignore
    ("ful", 4),
    ("er", 5),
    ("or", 5),
)
"""Endings, and how many letters must stand before them: neither "only" nor "number" has one."""


def terms(text: str) -> list[str]:
    """The terms of a text, as often as it has them."""
    found: list[str] = []
    for piece in _PIECE.finditer(unicodedata.normalize("NFKC", text).casefold()):
        if piece[1] is None:
            found += _of_piece(piece[0])
        else:
            for run in _PARTICLE.split(piece[1]):
                found += run
                found += map("".join, pairwise(run))
    return found


@lru_cache(maxsize=1 << 15)
def _of_piece(piece: str) -> tuple[str, ...]:
    """The words of what stands together, and the whole where it is an id, a date, an address."""
    if _NEGATED.fullmatch(piece):
        return ()
    words = _PART.findall(piece)
    found = [stem(word) for word in words if word not in _FUNCTION_WORDS]
    if len(words) > 1 and _DIGIT_OR_AT.search(piece):
        found.append(piece.replace(",", "")[:LONGEST])
    return tuple(found)


def stem(word: str) -> str:
    """A word of English without its ending, so that all its forms are one; others as they are.

    The endings are the commonest of those in Porter: An Algorithm for Suffix Stripping (Program,
    1980).  What is left need not be a word.
    """
    if not (word.isascii() and word.isalpha()):
        return word[:LONGEST]
    word = _IRREGULAR.get(word, word)
    if len(word) <= 3:
        return word
    return _undoubled(_without_derivation(_without_inflection(word)))[:LONGEST]


def _without_inflection(word: str) -> str:
    if word.endswith(("ies", "ied")):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3 and _VOWEL.search(base) and word[-3:] != "eed":
            return base  # "bring" and "speed" stay
    return word


def _without_derivation(word: str) -> str:
    for ending, least in _DERIVING:
        base = word.removesuffix(ending)
        if base != word and len(base) >= least:
            word = base
            break
    if word.endswith(("tion", "sion")) and len(word) >= 8:
        word = word[:-3]
    if word.endswith("e") and len(word) >= 4:
        word = word[:-1]
    if word.endswith("at") and len(word) >= 7:
        word = word[:-2]
    return word


def _undoubled(word: str) -> str:
    if len(word) > 2 and word[-1] == "y" and word[-2] not in "aeiou":
        return word[:-1] + "i"
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiou":
        return word[:-1]
    return word
