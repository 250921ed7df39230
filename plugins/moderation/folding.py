"""Text as word lists see it: one form for all the ways in which a word can be written."""

from __future__ import annotations

import re
import string
import unicodedata
from typing import TYPE_CHECKING

from proxy.plugin import simplified

if TYPE_CHECKING:
    from collections.abc import Iterator

# Characters without a width, among them those that turn text round, and control characters that are
# no space; marks laid over letters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]+"
)
_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
_ESCAPED = re.compile(
    r"\\u(?:[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|[0-9a-fA-F]{4})"
)
_SPACES = re.compile(r"\s{2,}|[^\S ]")
_CLUSTER = re.compile(
    rf"\s(?:\s|{_UNSEEN.pattern})*"
    rf"|(?:{_ESCAPED.pattern}|.)(?:{_UNSEEN.pattern}|{_MARKS.pattern}|[\u3099\u309a])*",
    re.DOTALL,
)

_LEET = str.maketrans("0134578@$!|l", "oieastbasiii")
# A word with digits or signs; signs at its end are punctuation.
_ODD = re.compile(r"(?<![a-z0-9@$!|])[a-z]*+[0-9@$!|](?:[a-z0-9@$!|]*[a-z0-9@$])?")
_LETTER = re.compile(r"[a-z]")

# Letters that look like Latin ones, in lower case or in capitals: https://www.unicode.org/reports/tr39
_CYRILLIC = "авекмнорстухіјѕԁԛԝһӏ", "abekmhopctyxijsdqwhl"
_GREEK = "αβειηκνοπρτυχωζγ", "abeinkvonptuxwzy"
_ALIKE = str.maketrans(_CYRILLIC[0] + _GREEK[0] + "ıɡ", _CYRILLIC[1] + _GREEK[1] + "ig")
# Letters that are signs or a phonetic alphabet to Unicode, which NFKC leaves: in squares and circles,
# of flags, and small capitals.
_LETTERS = {
    first + at: chr(ord("a") + at) for first in (0x1F150, 0x1F170, 0x1F1E6) for at in range(26)
} | dict(zip(map(ord, "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ"), "abcdefghijklmnoprstuvwyz", strict=True))
_SIGNS = re.compile("[\u0262-\u029f\u1d00-\u1d22\ua730-\ua731\U0001f150-\U0001f1ff]")
"""Where those are: with a class of them alone a search takes twenty times as long."""
# Latin letters with marks, and the letters alone.  A word with three of them is in no language that
# has a word of these letters without them; "año" and "ano" are two words.
_UNMARKED = {
    code: base[0]
    for code in (*range(0xE0, 0x250), *range(0x1E00, 0x1F00))
    if len(base := unicodedata.normalize("NFD", chr(code))) > 1
    and base[0] in string.ascii_lowercase
}
_MARKED = "".join(map(chr, _UNMARKED))
_SEVERAL = re.compile(r"(?:[\u00e0-\u024f\u1e00-\u1eff][a-z]*+){3}")
_OVERLAID = re.compile(rf"(?<![a-z{_MARKED}])(?:[a-z]*+[{_MARKED}]){{3,}}+[a-z]*+")
_STRANGE = f"[{''.join(map(chr, _ALIKE))}]"
_BESIDE = re.compile(f"[a-z0-9@$!|]{_STRANGE}|{_STRANGE}[a-z0-9@$!|]")
_RUN = re.compile(r"[a-z0-9@$!|\u0131\u0261\u0370-\u03ff\u0400-\u052f]+")


def folded(text: str) -> str:
    """The text in lower case, of ordinary width, without what nobody sees (NFKC); with one space for
    several or a line's end, simplified Chinese for traditional, and the characters that JSON writes as
    escapes."""
    if _is_plain(text):
        return text.lower()
    text = _UNSEEN.sub("", _ESCAPED.sub(_unescaped, text))
    if _SIGNS.search(text):
        text = text.translate(_LETTERS)
    composed = unicodedata.normalize("NFKC", text)
    plain = simplified(unicodedata.normalize("NFKC", _MARKS.sub("", composed).casefold()))
    is_even = "  " not in plain and plain.isprintable()
    return plain if is_even else _SPACES.sub(" ", plain)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and "  " not in text and "\\u" not in text


def _unescaped(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("\\u", "")).decode("utf-16-be", "surrogatepass")


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
    """Words of Latin letters and their doubles, or laid over with marks, in Latin.  Words of another
    alphabet alone stay as they are: half of the Russian ones would be something else in Latin."""
    spans: list[tuple[int, int]] = []

    def bare(word: re.Match[str]) -> str:
        spans.append(word.span())
        return skeleton(word[0].translate(_UNMARKED))

    if _SEVERAL.search(text):
        text = _OVERLAID.sub(bare, text)
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
    if _is_plain(text):
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
