"""Sentences of a chat message, word for word, and the shape a sentence has apart from its values.

Every expression here is linear in the text: no repetition stands inside another one, and one that
may fail begins where the run before it has ended.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_END = re.compile(
    r"""
      (?<![.!?\u2026]) [.!?\u2026]++ ["'\u201d\u2019)\]*_]*+ (?=\s|$)  # no decimal, version or URL
    | (?<![。！？]) [。！？]++ ["'”’」』》）)]*+
    | [\r\n\u2028\u2029]++
    """,
    re.VERBOSE,
)
_TITLE = re.compile(
    r"(?:^|[\s(\"'])(?:e\.g|i\.e|mr|mrs|ms|dr|prof|st|vs|cf|approx|incl|(?-i:[A-HJ-Z]))$",
    re.IGNORECASE,
)
"""Stops behind these never end a sentence; a capital alone is an initial, but "I" is a word."""
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'])(?:(?:[a-z]\.){1,4}[a-z]|etc|fig|eq|sec|no|nos|vol|pp?|ch|inc|ltd"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)$",
    re.IGNORECASE,
)
"""Stops behind these end one unless it plainly goes on."""
_NUMBER_OF_A_LINE = re.compile(r"\(?(?:\d{1,3}|[A-Za-z])$")
_SAYS = re.compile(r"[^\W_]")
_LIST_ITEM = re.compile(r"[ \t]*(?:[-*\u2022\u00b7+]|\(?\d{1,3}[.)\u3001])[ \t]")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LINE = re.compile(r"[^\r\n\u2028\u2029]*(?:\r\n|[\r\n\u2028\u2029]|$)")

_WRAPPED = 40
"""A line this long that ends without a stop, before one that begins in lower case, was wrapped."""
_LOOK_BACK = 16


def rules(name: str) -> dict[str, Any]:
    """The tables of rules that stand beside this module under `name`."""
    return tomllib.loads(
        (resources.files(__package__) / "rules" / f"{name}.toml").read_text("utf-8")
    )


def sentences(text: str) -> list[str]:
    """The sentences of `text`, in order, each a part of it as it stands.

    A line ends one, be it an item of a list or not, unless it was wrapped at a margin.  Full stops
    of abbreviations, initials and numbered lines end none.
    """
    return [text[start:end] for start, end in spans(text)]


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the sentences of `text` begin and end."""
    begin = 0
    for match in _END.finditer(text):
        if _goes_on(text, begin, match):
            continue
        yield from _trimmed(text, begin, match.end())
        begin = match.end()
    yield from _trimmed(text, begin, len(text))


def _trimmed(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    untrimmed = text[begin:end]
    said = untrimmed.lstrip()
    begin += len(untrimmed) - len(said)
    said = said.rstrip()
    if _SAYS.search(said):
        yield begin, begin + len(said)


def _goes_on(text: str, begin: int, end: re.Match[str]) -> bool:
    mark, after = end.group(), text[end.end() : end.end() + _LOOK_BACK].lstrip(" \t")
    if mark[0] in "\r\n\u2028\u2029":
        return _is_wrapped(text, begin, end)
    if mark != ".":
        return mark[0] in ".\u2026" and after[:1].islower()
    before = text[max(begin, end.start() - _LOOK_BACK) : end.start()]
    is_short = end.start() - begin < _LOOK_BACK
    if is_short and _NUMBER_OF_A_LINE.fullmatch(before.strip()):
        return True
    if _TITLE.search(before):
        return True
    return bool(_ABBREVIATION.search(before)) and (after[:1].islower() or after[:1].isdigit())


def _is_wrapped(text: str, begin: int, end: re.Match[str]) -> bool:
    line = text[max(begin, end.start() - _WRAPPED) : end.start()]
    after = text[end.end() : end.end() + _LOOK_BACK].lstrip(" \t")
    return (
        len(end.group().replace("\r", "")) == 1
        and len(line) == _WRAPPED
        and "\n" not in line
        and line[-1] not in ":;"
        and after[:1].isascii()
        and after[:1].islower()
        and not _LIST_ITEM.match(after)
    )


def typed(text: str) -> str:
    """`text` with blanks for what its writer only shows: fenced code and lines quoted by `>`.

    Nothing moves: what is found in it stands at the same place in `text`.  As in CommonMark 0.31
    (section 4.5), a fence that is not closed runs to the end.
    """
    if "```" not in text and "~~~" not in text and ">" not in text:
        return text
    kept, fence = [], ""
    for line in _LINE.findall(text):
        mark = _FENCE.match(line)
        is_shown = bool(fence) or mark is not None or line.lstrip().startswith(">")
        kept.append(_blank(line) if is_shown else line)
        if mark and not fence:
            fence = mark.group(1)
        elif mark and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
    return "".join(kept)


def _blank(line: str) -> str:
    bare = line.rstrip("\r\n\u2028\u2029")
    return " " * len(bare) + line[len(bare) :]


# What a sentence may change without being about something else.
_AMOUNTS = re.compile(
    r"""(?=[$€£¥￥\d])(?:
      (?P<money>   [$€£¥￥]\s?\d[\d,.]*+\s?[kKmM]?\b
                 | \d[\d,.]*+\s?(?:usd|eur|gbp|cny|rmb|dollars?|euros?|pounds|yuan)\b
                 | \d[\d,.]*+\s?(?:元|块|美元|欧元|万元?) )
    | (?P<date>    \d{4}[-/.]\d{1,2}[-/.]\d{1,2} | \d{1,2}/\d{1,2}(?:/\d{2,4})?(?!\d)
                 | (?:\d{4}\s?年\s?)?\d{1,2}\s?月\s?\d{1,2}\s?[日号] )
    | (?P<hour>    \d{1,2}:\d{2}(?::\d{2})?(?:\s?[ap]m)?\b | \d{1,2}\s?[ap]\.?m\b
                 | \d{1,2}\s?点(?:半|\d{1,2}分)? )
    | (?P<measure> \d[\d,.]*+\s?%
                 | \d[\d,.]*+\s?(?:m?s|secs?|seconds?|mins?|minutes?|h|hours?|days?|weeks?|months?|years?)\b
                 | \d[\d,.]*+\s?(?:percent|k?g|lbs?|[kcm]?m|miles?|[kmgt]b|people|users|items|times)\b
                 | \d[\d,.]*+\s?(?:words|characters|tokens|lines|pages)\b
                 | \d[\d,.]*+\s?(?:[天周年人字页次个条]|小时|分钟|个月) )
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_WORDS = rules("words")
_MONTHS, _DAYS, _LANGUAGES = ("|".join(_WORDS[name]) for name in ("months", "days", "languages"))
_NAMES_OF_VALUES = frozenset(_WORDS["months"] + _WORDS["days"] + _WORDS["languages"])
_NAMED_VALUES = re.compile(
    rf"""\b(?:
      (?P<date>     (?:\d{{1,2}}(?:[a-z]{{2}})?\s(?:of\s)?)?(?:{_MONTHS})
                    \s\d{{1,4}}(?:[a-z]{{2}})?(?:,?\s\d{{4}})?
                  | {_DAYS} )
    | (?P<language> {_LANGUAGES} )
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
_CHINESE_VALUES = re.compile(
    r"(?P<date>(?:周|星期|礼拜)[一二三四五六日天])"
    r"|(?P<language>(?:简体|繁体)?中文|[英法德日俄韩汉][语文]|西班牙语)"
)
_STATES = frozenset(_WORDS["states"])
_STATES_OTHERWISE = re.compile(r"[=:：是为叫改到用在]|不超过|以内|预算|截止")
_COPULA = re.compile(
    r"\b(?:is|are|was|be|equals|to|by|becomes|called|uses?|runs|lives|only)\s|=|[是为叫]"
    r"|:\s(?=\S+(?:\s\S+){0,5}$)"
    r"|\b(?:reply|respond|answers?|speak|write|report|code|examples?)\b[^.!?]{0,40}?\b(?:in|with|use)\s",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:[A-Z][\w'/+#-]*+(?:\s[A-Z][\w'/+#-]*+){0,5}|[\w./:-]*\d[\w./:-]*)(?=\W|$)", re.ASCII
)
_WORD = re.compile(r"[a-z0-9_']+|[\u3400-\u9fff]|<\w+>")
_LABEL = re.compile(r"[A-Z][A-Z \t_-]{1,30}:\s+(?=\S)")
_LIGHT = frozenset(_WORDS["light"])
_LONGEST_STATEMENT = 300


def shape(sentence: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """What a statement is about, and the values that it gives; None where it gives none.

    Two sentences of one shape with different values are two states of one thing: "the budget is
    $500", "the budget is $700 now".  Amounts, dates and languages are values wherever they stand;
    names and numbers only behind the verb that assigns them, for "case 1 fails" and "case 2 fails"
    are both true.
    """
    if len(sentence) > _LONGEST_STATEMENT or not _states(sentence):
        return None
    values: list[str] = []

    def taken(match: re.Match[str]) -> str:
        values.append(match.group().lower().strip(" ."))
        return f"<{match.lastgroup or 'name'}>"

    masked = unlabelled(sentence)
    for values_of in _patterns_for(masked):
        masked = values_of.sub(taken, masked)
    if copula := _COPULA.search(masked):
        masked = masked[: copula.end()] + _NAMED.sub(taken, masked[copula.end() :])
    if not values:
        return None
    about = tuple(word for word in _WORD.findall(masked.lower()) if word not in _LIGHT)
    return (about, tuple(values)) if any(not word.startswith("<") for word in about) else None


def _states(sentence: str) -> bool:
    is_statement = not _STATES.isdisjoint(sentence.lower().split())
    return is_statement or bool(_STATES_OTHERWISE.search(sentence))


def _patterns_for(sentence: str) -> Iterator[re.Pattern[str]]:
    if not _NAMES_OF_VALUES.isdisjoint(re.findall(r"[a-z]+", sentence.lower())):
        yield _NAMED_VALUES
    yield _AMOUNTS
    if not sentence.isascii():
        yield _CHINESE_VALUES


def unlabelled(sentence: str) -> str:
    """`sentence` without the label in capitals that it may begin with, as in "NOTE: it rains"."""
    label = _LABEL.match(sentence)
    return sentence[label.end() :] if label else sentence
