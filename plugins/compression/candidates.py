"""What may be taken from dropped messages: their sentences, without what the user took back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .retraction import retracts
from .sentences import rules, sentences, shape, typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Statement: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""What `shape` tells of a sentence."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a segment."""

    turn: int
    role: str
    text: str
    tokens: int
    calls: tuple[str, ...] = ()
    """Names of tool calls."""


@dataclass(frozen=True, slots=True)
class Candidate:
    message: int
    """Index of its message in the segment."""
    text: str
    label: str = ""
    meaning: Statement | None = None
    takes_back: bool = False
    score: float = 0.0


_READ = 8_000
"""Characters of a message, half from its beginning and half from its end."""
_LONGEST = 240
"""A sentence above so many characters is taken in clauses."""
SHORTEST_CLAUSE = 24
_TOOL_LINES = 2
_TOOL_LINE = 160
"""Of a tool's output so many lines count, cut at so many characters."""
WORDS = rules("words")
_FACTS = re.compile(
    r"""
      [$\u20ac\u00a3\u00a5\uffe5]?\d[\w.,:%/-]*                # amounts, dates, versions, hours
    | \b[A-Z][a-z]*[A-Z0-9][\w/-]*                             # CODES and CamelCase
    | \b[A-Za-z]\w*(?:://|[/_@.\\-](?=\w))\w[^\s,;)"]*         # addresses, paths, hosts, names in code
    | (?<=[a-z,;:)]\s)[A-Z][a-z'-]+(?:\s[A-Z][a-z'-]+)*        # names, behind another word
    | `[^`\n]{1,60}` | "[^"\n]{2,60}" | \u201c[^\u201d\n]{1,60}\u201d | \u300a[^\u300b\n]{1,40}\u300b
    | [一二三四五六七八九十百千万两]+[元块年月日号点个天周岁人次]
    """,
    re.VERBOSE | re.ASCII,
)
_FILLER = re.compile("|".join(WORDS["filler"]))
_ERROR = re.compile(
    r"\b(?:\w*error|\w*exception|traceback|failed|failure|fatal|denied|refused|not\s+found|timed?\s?out|panic"
    r"|exit\s+code\s+[1-9])\b|错误|失败|异常|超时",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[;；，、]|,(?=\s)")
_TOPIC = re.compile(r"\babout\s+([^.,!;]{2,60})|关于([^。，,！]{1,20})的")
_WORD = re.compile(r"[A-Za-z0-9_'-]{2,}|[\u3400-\u9fff]{2}")
_STOP = frozenset(WORDS["stop"])


def candidates_of(segment: Sequence[Said]) -> list[Candidate]:
    retractions = {
        index: retraction
        for index, said in enumerate(segment)
        if said.role == "user" and (retraction := retracts(said.text))
    }
    forgotten, taken_back = _taken_back(segment, retractions)
    return [
        Candidate(
            index,
            text,
            label,
            meaning=None if label else shape(text),
            takes_back=text == retractions.get(index),
        )
        for index, said in enumerate(segment)
        if index not in forgotten
        for label, text in _extracts(said)
        if (index, text) not in taken_back
    ]


def _taken_back(
    segment: Sequence[Said], retractions: Mapping[int, str]
) -> tuple[set[int], set[tuple[int, str]]]:
    """The messages, and the single sentences, that the user takes back later."""
    forgotten: set[int] = set()
    single: set[tuple[int, str]] = set()
    asked: list[int] = []
    for index, said in enumerate(segment):
        if said.role != "user":
            continue
        if retraction := retractions.get(index):
            about = _before(retraction, said, index) or _on_its_topic(retraction, segment, asked)
            single |= about
            if asked and not about:
                forgotten.add(asked[-1])
        asked.append(index)
    return forgotten, single


def _before(retraction: str, said: Said, index: int) -> set[tuple[int, str]]:
    """What stands before it in its own message."""
    texts = [text for _, text in _extracts(said)]
    return (
        {(index, text) for text in texts[: texts.index(retraction)]}
        if retraction in texts
        else set()
    )


def _on_its_topic(
    retraction: str, segment: Sequence[Said], asked: Iterable[int]
) -> set[tuple[int, str]]:
    """For "forget what I said about the budget": what was said about it."""
    topic = _TOPIC.search(retraction)
    words = set(content_of(topic[1] or topic[2])) if topic else set()
    if not words:
        return set()
    return {
        (index, text)
        for index in asked
        for _, text in _extracts(segment[index])
        if words <= set(content_of(text))
    }


def _extracts(said: Said) -> Iterator[tuple[str, str]]:
    """What may be taken from a message: a label and a text each."""
    text = _bounded(said.text)
    if said.role == "tool":
        yield from _lines_of_output(text)
        return
    shown = typed(text)
    for sentence in sentences(shown):
        for clause in _clauses(sentence):
            if not _FILLER.fullmatch(clause.lower()):
                yield "", clause
    if shown != text and said.role == "user":
        yield from (line for line in _lines_of_output(text) if line[0])
    if said.calls:
        yield "", f"[{', '.join(said.calls)}]"


def _bounded(text: str) -> str:
    if len(text) <= _READ:
        return text
    return f"{text[: _READ // 2]}\n\n{text[-_READ // 2 :]}"


def _clauses(sentence: str) -> Iterator[str]:
    """A long sentence in clauses that are about half as long as one may be."""
    begin = end = 0
    if len(sentence) > _LONGEST:
        for match in _CLAUSE_END.finditer(sentence):
            if match.end() - begin > _LONGEST // 2 and end > begin:
                yield sentence[begin:end].strip()
                begin = end
            end = match.end()
    if len(sentence) - begin <= _LONGEST:
        yield sentence[begin:].strip()


def _lines_of_output(text: str) -> Iterator[tuple[str, str]]:
    """Of a tool's output the lines that tell of an error, else those with the most facts."""
    lines = list(dict.fromkeys(line.strip()[:_TOOL_LINE] for line in text.splitlines()))
    errors = [line for line in lines if _ERROR.search(line)][-_TOOL_LINES:]
    if errors:
        yield from (("error: ", line) for line in errors)
        return
    telling = sorted(range(len(lines)), key=lambda number: -len(facts_of(lines[number])))
    yield from (("", lines[number]) for number in sorted(telling[:_TOOL_LINES]) if lines[number])


def facts_of(text: str) -> set[str]:
    return {fact.lower() for fact in _FACTS.findall(text)}


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def content_of(text: str) -> list[str]:
    return [word for word in dict.fromkeys(words_of(text)) if word not in _STOP]
