"""The normal form of a question: the same words, however they are written.

Width, case, compatibility forms, traditional Chinese, punctuation and politeness are gone; numbers,
signs such as + or %, and every word of the question are still there.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from proxy.plugin import simplified

from .tables import toml

LONGEST = 1_000
"""Characters of a question that anybody would have written into a FAQ."""

_RAISED = {ord(sign): f"^{digit}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_WORDS = toml("words.toml")
_CONTRACTIONS: dict[str, list[str]] = {
    short.replace("'", ""): long.split()
    for short, long in _WORDS["english"]["contractions"].items()
}
_WORD, _IDEOGRAPH, _SIGN, _GAP, _NOTHING = range(5)
_KEPT = frozenset("%&#@*/\\")
"""Punctuation, as Unicode has it, that is part of what is asked about."""

_APOSTROPHE = re.compile(r"(?<=[^\W\d_])['’‘ʼ＇](?=[^\W\d_])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_DECORATION = re.compile(r"~(?!\d)|(?<![^\s])[/*]+(?![^\s])|(?<![/\\])[/\\]+[\s?!.]*$")
_MINUS = re.compile(r"(?<![^\s(])[-−–](?=\d)")
_WITHIN = re.compile(r"(?<=\d)[.,:\-](?=\d)|(?<=[a-z0-9])\.(?=[a-z0-9])", re.ASCII)
_STAND_IN = {".": "\ue000", ",": "\ue001", ":": "\ue002", "-": "\ue003"}
_MEANT = {ord(stand_in): sign for sign, stand_in in _STAND_IN.items()}
_PRIVATE = re.compile("[\ue000-\ue003]")


def folded(text: str) -> str:
    """The text in one width, case and script, with its punctuation."""
    compatible = unicodedata.normalize("NFKC", text[:LONGEST].translate(_RAISED))
    plain = unicodedata.normalize("NFKC", compatible.casefold())
    return simplified(_PRIVATE.sub(" ", plain))


@lru_cache(maxsize=8_192)
def kind(character: str) -> int:
    """What a character is in a question."""
    category = unicodedata.category(character)
    if category == "Lo" and "\u3400" <= character <= "\u9fff":
        return _IDEOGRAPH
    if category[0] in "LNM" or category == "Co":
        return _WORD
    if category[0] == "S" or character in _KEPT:
        return _SIGN
    return _NOTHING if category == "Cf" else _GAP


def tokens(text: str) -> tuple[str, ...]:
    """Words, numbers, signs and Chinese characters of a folded text."""
    text = _DECORATION.sub(" ", _APOSTROPHE.sub("", _THOUSANDS.sub("", text)))
    text = _WITHIN.sub(lambda sign: _STAND_IN[sign[0]], _MINUS.sub(_STAND_IN["-"], text))
    found: list[str] = []
    word: list[str] = []

    def end() -> None:
        if word:
            whole = "".join(word).translate(_MEANT)
            found.extend(_CONTRACTIONS.get(whole) or (whole,))
            word.clear()

    for character in text:
        what = kind(character)
        if what == _WORD:
            word.append(character)
        elif what != _NOTHING:
            end()
            if what != _GAP:
                found.append(character)
    end()
    return tuple(found)


# ---- politeness


def _any(phrases: list[str]) -> str:
    """A pattern for any of these phrases, the longest first; a word is not cut in two."""
    longest_first = sorted(phrases, key=len, reverse=True)
    escaped = (re.escape(each).replace(r"\ ", r"\s+") for each in longest_first)
    return "(?:" + "|".join(f"{e}\\b" if e[-1].isascii() else e for e in escaped) + ")"


def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    polite = _WORDS["politeness"]
    opener, greeting = _any(polite["openers"]), _any(polite["greetings"])
    asks = r"(?:what|how|why|when|where|who|whom|whose|which|if|whether)\b"
    before = (
        rf"\s*(?:{opener}|{greeting}(?=\s*[^\w\s]|\s*(?:{opener}|{_any(polite['leads'])})"
        rf"|\s+{asks})|{_any(polite['leads'])}(?=\s*,?\s*{asks}))[^\w%#@$€£¥+-]*"
    )
    said = r"(?<=[\u4e00-\u9fff])(?<![说讲写道声句])"
    after = rf"(?:(?<=\w)[^\w%#@$€£¥+-]+|{said})(?:{_any(polite['tails'])})\W*$"
    late = rf"(?:(?<![,.!?;:~。…])[,.!?;:~。…]+\s*|(?<=[\u4e00-\u9fff])\s+)(?:{_any(polite['late_tails'])})\W*$"
    return re.compile(before), re.compile(after), re.compile(late)


_BEFORE, _AFTER, _LATE = _patterns()


def plain(text: str) -> str:
    """A folded text without politeness; a text that is nothing else stays as it is."""
    rest = text
    for _ in range(6):
        start = _BEFORE.match(rest)
        shorter = _LATE.sub("", _AFTER.sub("", rest[start.end() :] if start else rest))
        if shorter == rest or not tokens(shorter):
            break
        rest = shorter
    return rest


def normal(text: str) -> str:
    """The normal form: the tokens of the question, with a space between them."""
    return " ".join(tokens(plain(folded(text))))
