"""Standing instructions of a user: sentences that hold for more than the answer to their message.

The rules are of three kinds: how a sentence begins ("never ...", "always ...", "when you ..."), a
scope somewhere in it ("from now on", "in every reply"), and a label ("rule: ...").  Questions,
stories and quotations are none.  They are written for precision on ordinary chats, where hardly any
sentence is a standing instruction, and cover the five kinds of COMPINT's constraints: actions,
information, process, preference and output.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .sentences import rules, shape, spans, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Pin:
    turn: int
    """Number of the exchange, from 1."""
    text: str
    """The sentence, verbatim."""
    message_tokens: int
    """Of the message it stands in."""
    is_negative: bool


_LONGEST_PIN = 400
_LONGEST_SCOPE = 120
_TYPED_WHOLE = 6_000
"""Characters, about 1,500 tokens of English: a longer message holds something pasted."""
_SCANNED = 200_000
"""Behind so many characters nothing is read."""
_LINES_AROUND_A_PASTE = 3
_LONGEST_TYPED_LINE = 500

_RULES = rules("pins")
_MARKS_OF_SCOPE = _RULES.pop("marks")
_IS = {
    name: re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    for name, patterns in _RULES.items()
}

_MARKS = re.compile(r"[\s\-*\u2022\u00b7+#_(\[\uff08\u3010]*(?:\d{1,3}[.)\u3001]\s*)?[\s*_]*")
_LINE_END = re.compile(r"\r\n|[\r\n\u2028\u2029]")
_LEADS = 5


def find(text: str) -> list[tuple[str, bool]]:
    """The standing instructions in what a user typed, and whether each forbids something.

    A message longer than a person types holds something pasted; only the lines around it count,
    for an instruction often stands above or below a document.
    """
    return [
        (sentence, bool(_IS["negations"].search(_plain(sentence))))
        for part in _typed_parts(text)
        for sentence in _whole_instructions(part)
        if is_instruction(sentence)
    ]


def is_instruction(sentence: str) -> bool:
    """Whether one sentence is a standing instruction."""
    if len(sentence) > _LONGEST_PIN:
        return False
    said = _plain(sentence)
    said = said[_marks(said) :]
    if _asks(said):
        return bool(_IS["requests"].match(said))
    if _IS["labels"].match(said):
        return True
    stages = list(_without_leads(said))
    return not any(map(_IS["stories"].match, stages)) and any(map(_instructs, stages))


def _asks(said: str) -> bool:
    return (
        said.rstrip("\"'\u201d\u2019)\uff09 ").endswith(("?", "\uff1f"))
        or bool(_IS["questions"].match(said))
        or (not said.isascii() and bool(_IS["chinese_questions"].search(said)))
    )


def _plain(sentence: str) -> str:
    return sentence.replace("\u2019", "'").lower()


def _instructs(said: str) -> bool:
    if _IS["forbids"].match(said) or _IS["demands"].match(said):
        return True
    occasion = _IS["occasions"].match(said)
    if occasion and not _IS["asides"].match(said, occasion.end()):
        return True
    return _may_have_scope(said) and bool(_IS["scopes"].search(said) or _IS["decrees"].search(said))


def _may_have_scope(said: str) -> bool:
    return any(mark in said for mark in _MARKS_OF_SCOPE)


def _marks(said: str) -> int:
    marks = _MARKS.match(said)
    return marks.end() if marks else 0


def _without_leads(said: str) -> Iterator[str]:
    yield said
    for _ in range(_LEADS):
        lead = _IS["leads"].match(said)
        if lead is None:
            return
        said = said[lead.end() :]
        yield said


def _whole_instructions(part: str) -> Iterator[str]:
    """Sentences, each with the scope before it, as in "From now on: use metric units"."""
    begin = end = 0
    is_open = False
    for start, stop in spans(part):
        if not is_open or len(_LINE_END.findall(part[end:start])) > 1:
            begin = start
        end = stop
        is_open = _is_scope(part[start:stop])
        if not is_open:
            yield part[begin:stop]


def _is_scope(sentence: str) -> bool:
    return len(sentence) <= _LONGEST_SCOPE and bool(_IS["scopes_alone"].fullmatch(sentence.lower()))


def _typed_parts(text: str) -> list[str]:
    """What is read of a message, with blanks for code and quotations."""
    if len(text) <= _TYPED_WHOLE:
        return [typed(text)]
    shown = typed(text[:_SCANNED])
    reach = _LINES_AROUND_A_PASTE * _LONGEST_TYPED_LINE
    head = _short_lines(shown[:reach].splitlines(keepends=True))
    parts = [shown[:head]]
    if len(text) <= _SCANNED:
        foot = _short_lines(shown[-reach:].splitlines(keepends=True)[::-1])
        parts.append(shown[len(shown) - foot :])
    return parts


def _short_lines(lines: Sequence[str]) -> int:
    """The length of the first few lines, up to one that is too long to be typed by hand."""
    length = count = 0
    for line in lines:
        if count == _LINES_AROUND_A_PASTE or len(line) > _LONGEST_TYPED_LINE:
            break
        length += len(line)
        count += bool(line.strip())
    return length


def select(
    pins: Sequence[Pin],
    *,
    tokens: Callable[[str], int],
    budget: int,
    per_message: int = 5,
    most: int = 32,
) -> list[Pin]:
    """The pins that are kept, in order, in `budget` tokens.

    Of two that differ only in values the later one is kept.  What is too much goes from the
    longest messages first, and there the newest first: a pasted document full of orders does not
    push out what was typed.  What forbids something goes last.
    """
    kept = _capped(_current(pins), per_message)
    costs = {index: tokens(pin.text) for index, pin in enumerate(kept)}
    for index in sorted(costs, key=lambda index: _least_needed(kept[index], index)):
        if len(costs) <= most and sum(costs.values()) <= budget:
            break
        del costs[index]
    return [kept[index] for index in sorted(costs)]


def _least_needed(pin: Pin, index: int) -> tuple[bool, int, int, int]:
    return pin.is_negative, -pin.message_tokens, -pin.turn, -index


def _current(pins: Sequence[Pin]) -> list[Pin]:
    """Without those that are said again, or anew with other values."""
    newest: dict[object, tuple[str, int]] = {}
    for index, pin in enumerate(pins):
        words = " ".join(pin.text.casefold().split())
        meaning = shape(pin.text)
        about = meaning[0] if meaning else words
        if about not in newest or newest[about][0] != words:
            newest[about] = words, index
    return [pins[index] for index in sorted(index for _, index in newest.values())]


def _capped(pins: Sequence[Pin], per_message: int) -> list[Pin]:
    by_turn: dict[int, list[int]] = defaultdict(list)
    for index, pin in enumerate(pins):
        by_turn[pin.turn].append(index)
    kept: list[int] = []
    for indices in by_turn.values():
        indices.sort(key=lambda index: (not pins[index].is_negative, index))
        kept += indices[:per_message]
    return [pins[index] for index in sorted(kept)]
