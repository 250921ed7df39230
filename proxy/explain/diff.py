"""What became of a request: its messages, the words of a message, the other fields.  Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from .words import CONTENTS, role, spoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

    Message: TypeAlias = Mapping[str, Any]
    Kind: TypeAlias = Literal["kept", "removed", "added"]
    Change: TypeAlias = "Kept | Removed | Added | Changed"

ABSENT: Any = msgspec.UNSET
"""The value of a field that is not there."""

ALIKE = 0.5
"""The share of common words from which a message is called a changed one."""

_KINDS: tuple[Kind, ...] = ("kept", "removed", "added")
_MOST_PAIRS = 10_000
_MOST_WORDS = 20_000
_WORD = re.compile(r"\[\w+\]|\w+|\s+|[^\w\s]")


class Field(NamedTuple):
    """A field that changed; one side may be ABSENT."""

    name: str
    before: Any
    after: Any


class Span(NamedTuple):
    """A stretch of text."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Kept:
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Removed:
    message: Message


@dataclass(frozen=True, slots=True)
class Added:
    message: Message


@dataclass(frozen=True, slots=True)
class Changed:
    before: Message
    after: Message

    @property
    def spans(self) -> list[Span]:
        """What was said, word by word."""
        return words(spoken(self.before), spoken(self.after))

    @property
    def fields(self) -> list[Field]:
        """What changed besides the words."""
        changed = fields(self.before, self.after)
        if spoken(self.before) == spoken(self.after):
            return changed
        return [field for field in changed if field.name not in CONTENTS]


def fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Field]:
    """The fields that are not the same, in their order."""
    return [
        Field(name, before.get(name, ABSENT), after.get(name, ABSENT))
        for name in {**before, **after}
        if before.get(name, ABSENT) != after.get(name, ABSENT)
    ]


# ---- messages


def messages(before: Sequence[Message], after: Sequence[Message]) -> list[Change]:
    """How one list became the other; empty if they are the same."""
    was, is_now = ([_identity(message) for message in each] for each in (before, after))
    if was == is_now:
        return []
    changes: list[Change] = []
    for kind, a, b, c, d in SequenceMatcher(None, was, is_now, autojunk=False).get_opcodes():
        changes += [Kept(before[a:b])] if kind == "equal" else _replaced(before[a:b], after[c:d])
    return changes


def _identity(message: Message) -> bytes:
    return msgspec.json.encode(message, order="deterministic", enc_hook=repr)


def _replaced(before: Sequence[Message], after: Sequence[Message]) -> Iterator[Change]:
    """Each pair of alike messages is one that changed; the others went, or came."""
    a = b = 0
    for at, to in (*_pairs(before, after), (len(before), len(after))):
        yield from map(Removed, before[a:at])
        yield from map(Added, after[b:to])
        if at < len(before):
            yield Changed(before[at], after[to])
        a, b = at + 1, to + 1


def _pairs(before: Sequence[Message], after: Sequence[Message]) -> list[tuple[int, int]]:
    """The places of alike messages, both rising, so that as much as possible is alike."""
    if not 0 < len(before) * len(after) <= _MOST_PAIRS:
        return []
    was, is_now = ([_Said(message) for message in each] for each in (before, after))
    rows = [[0.0] * (len(after) + 1) for _ in range(len(before) + 1)]
    alike = [[_likeness(one, other) for other in is_now] for one in was]
    for i in reversed(range(len(before))):
        for j in reversed(range(len(after))):
            paired = alike[i][j] + rows[i + 1][j + 1] if alike[i][j] else 0.0
            rows[i][j] = max(rows[i + 1][j], rows[i][j + 1], paired)
    return list(_traced(rows, alike))


def _traced(rows: list[list[float]], alike: list[list[float]]) -> Iterator[tuple[int, int]]:
    i = j = 0
    while i < len(alike) and j < len(alike[i]):
        if alike[i][j] and rows[i][j] == alike[i][j] + rows[i + 1][j + 1]:
            yield i, j
            i, j = i + 1, j + 1
        elif rows[i][j] == rows[i + 1][j]:
            i += 1
        else:
            j += 1


class _Said:
    def __init__(self, message: Message) -> None:
        self.role = role(message)
        self.text = spoken(message)
        self.words = Counter(re.findall(r"\w+", self.text))


def _likeness(one: _Said, other: _Said) -> float:
    """From ALIKE to 1; 0 for messages that have too little in common."""
    if one.role != other.role:
        return 0.0
    if one.text == other.text:
        return 1.0
    short, long = sorted((one.text, other.text), key=len)
    if short and (long.startswith(short) or long.endswith(short)):
        return 1.0
    both = one.words.total() + other.words.total()
    share = 2 * (one.words & other.words).total() / both if both else 0.0
    return share if share >= ALIKE else 0.0


# ---- words


def words(before: str, after: str) -> list[Span]:
    """How one text became the other."""
    front = _common(before, after)
    was, is_now = before[front:], after[front:]
    back = _common(was[::-1], is_now[::-1])
    middle = _words(was[: len(was) - back], is_now[: len(is_now) - back])
    return _joined([Span("kept", before[:front]), *middle, Span("kept", was[len(was) - back :])])


def _common(one: str, other: str) -> int:
    """How long the common beginning is, without a word that only begins alike."""
    both = zip(one, other, strict=False)
    length = next((at for at, (a, b) in enumerate(both) if a != b), min(len(one), len(other)))
    rests = (one[length : length + 1], other[length : length + 1])
    while length and one[length - 1].isalnum() and any(map(str.isalnum, rests)):
        length -= 1
    return length


def _words(before: str, after: str) -> Iterator[Span]:
    was, is_now = _WORD.findall(before), _WORD.findall(after)
    if max(len(was), len(is_now)) > _MOST_WORDS:
        yield from (Span("removed", before), Span("added", after))
        return
    for kind, a, b, c, d in SequenceMatcher(None, was, is_now).get_opcodes():
        same = "".join(was[a:b])
        if kind == "equal" and not same.isspace():
            yield Span("kept", same)
        else:  # a space alone that stayed would only tear the change apart
            yield from (Span("removed", same), Span("added", "".join(is_now[c:d])))


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Neighbours of one kind as one; what was removed stands before what was added."""
    there = (span for span in spans if span.text)
    joined: list[Span] = []
    for _, run in groupby(there, key=lambda span: span.kind == "kept"):
        joined += _sorted(list(run))
    return joined


def _sorted(run: Sequence[Span]) -> Iterator[Span]:
    for kind in _KINDS:
        if text := "".join(span.text for span in run if span.kind == kind):
            yield Span(kind, text)
