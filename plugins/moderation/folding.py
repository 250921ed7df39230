"""Text as word lists see it: one form for all the ways in which a word can be written."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Characters without a width, among them those that turn text round; marks laid over letters.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]+"
)
_MARKS = re.compile("[\u0300-\u036f\u20d0-\u20ff]+")
_CLUSTER = re.compile(f".(?:{_UNSEEN.pattern}|{_MARKS.pattern}|[\u3099\u309a])*", re.DOTALL)

_LEET = str.maketrans("0134578@$!|l", "oieastbasiii")
# A word with digits or signs; signs at its end are punctuation.
_ODD = re.compile(r"(?<![a-z0-9@$!|])[a-z]*+[0-9@$!|](?:[a-z0-9@$!|]*[a-z0-9@$])?")
_LETTER = re.compile(r"[a-z]")

# Letters that look like Latin ones, in lower case or in capitals: https://www.unicode.org/reports/tr39
_CYRILLIC = "авекмнорстухіјѕԁԛԝһӏ", "abekmhopctyxijsdqwhl"
_GREEK = "αβειηκνοπρτυχωζγ", "abeinkvonptuxwzy"
_ALIKE = str.maketrans(_CYRILLIC[0] + _GREEK[0] + "ıɡ", _CYRILLIC[1] + _GREEK[1] + "ig")
_STRANGE = f"[{''.join(map(chr, _ALIKE))}]"
_BESIDE = re.compile(f"[a-z0-9@$!|]{_STRANGE}|{_STRANGE}[a-z0-9@$!|]")
_RUN = re.compile(r"[a-z0-9@$!|\u0131\u0261\u0370-\u03ff\u0400-\u052f]+")


def folded(text: str) -> str:
    """The text in lower case, of ordinary width, without what nobody sees (NFKC)."""
    if text.isascii():
        return text.lower()
    composed = unicodedata.normalize("NFKC", _UNSEEN.sub("", text))
    return unicodedata.normalize("NFKC", _MARKS.sub("", composed).casefold())


def unmixed(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Folded text with the letters that others stand for, in words that have both, and where those
    words are: digits, signs, and letters of other alphabets.  It is as long as it was.  Compare it
    with words after `skeleton`."""
    text, spans = (text, []) if text.isascii() else _in_latin(text)

    def letters(word: re.Match[str]) -> str:
        if not _LETTER.search(word[0]):
            return word[0]
        spans.append(word.span())
        return skeleton(word[0])

    text = _ODD.sub(letters, text)
    return text, sorted(set(spans))


def _in_latin(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Words of Latin letters and their doubles, in Latin.  Words of another alphabet alone stay as
    they are: half of the Russian ones would be something else in Latin."""
    spans: list[tuple[int, int]] = []
    if not _BESIDE.search(text):
        return text, spans

    def latin(word: re.Match[str]) -> str:
        if not (_LETTER.search(word[0]) and _BESIDE.search(word[0])):
            return word[0]
        found = word[0].translate(_ALIKE)
        if not found.isascii():
            return word[0]
        spans.append(word.span())
        return skeleton(found)

    return _RUN.sub(latin, text), spans


def skeleton(word: str) -> str:
    """A folded word in the letters that signs may stand for, where i and l are the same."""
    return word.translate(_LEET)


def origins(text: str) -> list[int]:
    """For each character of the folded text where it begins in the text itself, and its end.

    Character by character this may come out otherwise than as a whole, in rare scripts; then every
    place is unknown, and all that can be said is that it is somewhere in the text: [].
    """
    if text.isascii():
        return list(range(len(text) + 1))
    places, made = [], []
    for start, cluster in _clusters(text):
        piece = folded(cluster)
        made.append(piece)
        places += [start] * len(piece)
    return [*places, len(text)] if "".join(made) == folded(text) else []


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    for cluster in _CLUSTER.finditer(text):
        yield cluster.start(), cluster[0]
